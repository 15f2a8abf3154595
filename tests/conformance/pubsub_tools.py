"""What the tests of the Pub/Sub transport share: which server there is and what it cannot do, an ordinary client beside
the transport, and a server that answers as it is told.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from itertools import count
from typing import Any
from uuid import uuid4

import grpc
from google.protobuf.any_pb2 import Any as Packed
from google.pubsub_v1 import PublisherAsyncClient, SubscriberAsyncClient, types
from google.pubsub_v1.services.publisher.transports import PublisherGrpcAsyncIOTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcAsyncIOTransport
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from edow.address import Address
from edow.errors import Closed, EdowError
from edow.model.message import Message
from edow.transport.contract import Mode, Subscriber, Subscription, TopicSpec, Transport
from edow.transport.pubsub import connect
from tests.conformance.transport_suite import SOON, bodies, numbered, take


def transport_at(address: str) -> Transport:
    return connect(Address(address), lambda: 0)


def with_options(url: str, **options: object) -> str:
    return url + ("&" if "?" in url else "?") + "&".join(f"{name}={value}" for name, value in options.items())


def own_prefix(url: str) -> str:
    """The URL, with names apart from everybody else's."""
    return with_options(url, prefix=f"t{uuid4().hex[:12]}.")


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Transport]:
    transport = transport_at(url)
    await transport.open()
    try:
        yield transport
    finally:
        await transport.close()


async def member(transport: Transport, topic: str, mode: Mode = "shared", lease: float = 30.0) -> Subscriber:
    """A member of the group `one`, which is made first."""
    await transport.ensure([TopicSpec(topic, ("one",))])
    return await transport.subscribe(Subscription(topics=(topic,), group="one", mode=mode, lease_seconds=lease))


async def kind_of(url: str) -> str:
    """Which server it is, by what it does: `pstest`, `emulator` or `service`."""
    async with opened(own_prefix(url)) as transport:
        reader = await member(transport, "edow.results.0", "exclusive")
        worker = await member(transport, "tasks")
        await transport.publish([*numbered("edow.results.0", 2), *numbered("tasks", 2, "k")])
        if len(await reader.receive(2, SOON)) < 2:
            return "pstest"  # gives the second of a key only after the first was acknowledged
        await worker.nack(await take(worker, 1))
        return "service" if bodies(await take(worker, 1)) == [b"0"] else "emulator"  # which puts it at the end


class Raw:
    """Google's own clients, to do what others do."""

    def __init__(self, url: str) -> None:
        address = Address(url)
        (self.project,) = address.hosts
        self.prefix = address.options.get("prefix", "")
        self.channel = grpc.aio.insecure_channel(address.options["emulator"])
        self.publisher = PublisherAsyncClient(transport=PublisherGrpcAsyncIOTransport(channel=self.channel))
        self.subscriber = SubscriberAsyncClient(transport=SubscriberGrpcAsyncIOTransport(channel=self.channel))

    def topic(self, name: str) -> str:
        return f"projects/{self.project}/topics/{self.prefix}{name}"

    def subscription(self, topic: str, group: str) -> str:
        return f"projects/{self.project}/subscriptions/{self.prefix}{topic}+{group}"


@asynccontextmanager
async def raw(url: str) -> AsyncIterator[Raw]:
    client = Raw(url)
    try:
        yield client
    finally:
        await client.channel.close()


class Refusal(Exception):
    """What the server says instead of an answer; `reasons` by ack id, as exactly-once delivery gives them."""

    def __init__(self, code: grpc.StatusCode, reasons: Mapping[str, str] | None = None) -> None:
        self.code = code
        self.reasons = reasons


Answer = Callable[[Any], Any]


class Fake:
    """A server that answers each method as it is told, and remembers what it was asked. Topics exist."""

    SERVICES: Mapping[str, Mapping[str, tuple[Any, Any]]] = {
        "google.pubsub.v1.Publisher": {
            "ListTopics": (types.ListTopicsRequest, types.ListTopicsResponse),
            "GetTopic": (types.GetTopicRequest, types.Topic),
            "CreateTopic": (types.Topic, types.Topic),
            "Publish": (types.PublishRequest, types.PublishResponse),
        },
        "google.pubsub.v1.Subscriber": {
            "GetSubscription": (types.GetSubscriptionRequest, types.Subscription),
            "CreateSubscription": (types.Subscription, types.Subscription),
            "DeleteSubscription": (types.DeleteSubscriptionRequest, types.PullResponse),
            "Pull": (types.PullRequest, types.PullResponse),
            "Acknowledge": (types.AcknowledgeRequest, types.PullResponse),
            "ModifyAckDeadline": (types.ModifyAckDeadlineRequest, types.PullResponse),
        },
    }

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self.answers = dict(answers)
        self.asked: list[tuple[str, Any]] = []
        self.tokens: set[str] = set()
        self.routes: set[str] = set()
        self.url = ""

    def handlers(self) -> list[Any]:
        return [
            grpc.method_handlers_generic_handler(
                service, {name: self._handler(name, *kinds) for name, kinds in methods.items()}
            )
            for service, methods in self.SERVICES.items()
        ]

    def _handler(self, name: str, request: Any, response: Any) -> Any:
        async def handle(asked: Any, context: Any) -> Any:
            self.asked.append((name, asked))
            metadata = dict(context.invocation_metadata())
            self.tokens.add(metadata.get("authorization", ""))
            self.routes.add(metadata.get("x-goog-request-params", ""))
            try:
                found = self.answers.get(name, lambda _: None)(asked)
                return response(subscription_defaults(name)) if found is None else found
            except Refusal as refusal:
                await context.abort(refusal.code, "refused", trailing_metadata=_details(refusal))

        return grpc.unary_unary_rpc_method_handler(
            handle, request_deserializer=request.deserialize, response_serializer=response.serialize
        )


def subscription_defaults(method: str) -> dict[str, object]:
    return {"enable_message_ordering": True} if method == "GetSubscription" else {}


def _details(refusal: Refusal) -> tuple[tuple[str, bytes], ...]:
    if refusal.reasons is None:
        return ()
    packed = Packed()
    packed.Pack(ErrorInfo(reason="FAILED", domain="pubsub.googleapis.com", metadata=dict(refusal.reasons)))
    status = Status(code=refusal.code.value[0], message="refused", details=[packed])
    return (("grpc-status-details-bin", status.SerializeToString()),)


@asynccontextmanager
async def fake(tls: tuple[bytes, bytes] | None = None, **answers: Answer) -> AsyncIterator[Fake]:
    """One on a port of its own. `tls`: key and certificate, and the URL is no emulator's then."""
    told = Fake(answers)
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers(told.handlers())
    if tls is None:
        port = server.add_insecure_port("127.0.0.1:0")
        told.url = f"pubsub://edow?emulator=127.0.0.1:{port}&timeout_seconds=2"
    else:
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([tls]))
        told.url = f"pubsub://edow?endpoint=localhost:{port}&timeout_seconds=2"
    await server.start()
    try:
        yield told
    finally:
        await server.stop(None)


def received(*messages: Message, first: Iterator[int] | None = None) -> types.PullResponse:
    """What a pull answers; ack ids and message ids are numbers, from 0 or `first` on."""
    numbers = first or count()
    return types.PullResponse(
        received_messages=[
            types.ReceivedMessage(
                ack_id=f"ack-{number}",
                message=types.PubsubMessage(data=message.body, ordering_key=message.key or "", message_id=str(number)),
            )
            for message, number in zip(messages, numbers, strict=False)
        ]
    )


async def persistently(call: Callable[[], Any]) -> Any:
    """Try again while the server is away, as the loops above a transport do."""
    while True:
        try:
            return await call()
        except Closed:
            raise
        except EdowError:
            pass
