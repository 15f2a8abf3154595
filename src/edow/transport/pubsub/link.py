"""The connection: credentials, channels, and requests that come to an end.

Requests go to Google's channel as raw protobuf: the clients that are generated for it take twice the time for each.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Sequence
from typing import Any

import google.auth
import grpc  # type: ignore[import-untyped]
from google.api_core import exceptions as google_errors
from google.api_core.exceptions import GoogleAPICallError, RetryError
from google.api_core.gapic_v1.routing_header import to_grpc_metadata
from google.api_core.retry_async import AsyncRetry
from google.auth.credentials import Credentials
from google.auth.exceptions import GoogleAuthError, TransportError
from google.auth.transport.requests import Request
from google.oauth2.service_account import Credentials as ServiceAccount
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcAsyncIOTransport
from google.pubsub_v1.types import (
    AcknowledgeRequest,
    ListTopicsRequest,
    ModifyAckDeadlineRequest,
    PullRequest,
    PullResponse,
)

from edow.address import Address
from edow.errors import Closed, EdowError, InvalidInput, TransportUnavailable
from edow.transport.pubsub.options import PubsubOptions

SCOPES = ("https://www.googleapis.com/auth/pubsub",)
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0
CLOSE_SECONDS = 2.0  # for giving back at the end; what the service does not hear of it takes back by itself
SETTLE_SECONDS = 0.02  # gRPC's thread tells the loop of calls that were cancelled, and complains when that is closed
PULL_SECONDS = 600.0  # the service answers long before: what it sent at the very end of this would be lost for a while
STREAMS = 80  # pulls under way on one connection; Google's side takes 100 requests
ROUTED_BY = ("name", "subscription", "topic", "project")  # fields by which Google's side finds who serves a request
INVALID = "PERMANENT_"  # what a subscription with exactly-once delivery says of a message that is no longer ours

# gRPC's own pauses between attempts to connect grow to two minutes; a broker that is back should be noticed sooner.
_CHANNEL = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_metadata_size", 4 * 1024 * 1024),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.min_reconnect_backoff_ms", 5_000),  # in truth the longest that one attempt may take
    ("grpc.use_local_subchannel_pool", 1),  # else channels to one place share a connection, and its limit
]
_KEEPALIVE = [("grpc.keepalive_time_ms", 30_000), ("grpc.keepalive_timeout_ms", 10_000)]

log = logging.getLogger("edow.transport.pubsub")


class Link:
    """One channel for requests that are answered at once, others for those that wait for messages."""

    def __init__(self, address: Address, project: str, options: PubsubOptions) -> None:
        self.is_open = False
        self._address = address
        self._project = project
        self._options = options
        self._credentials: Credentials | None = None
        self._channels: list[Any] = []
        self._pulling: dict[Any, int] = {}  # channel: how many pulls it has under way
        self._tasks: set[asyncio.Task[None]] = set()
        self._pulls: set[asyncio.Task[None]] = set()  # those of the tasks that wait for messages
        self._is_away = False

    async def open(self) -> None:
        """Raises InvalidInput for credentials that are wrong or may too little, TransportUnavailable."""
        if not self._options.emulator:
            self._credentials = await asyncio.to_thread(self._authenticate)
        self._channel()
        try:
            request = ListTopicsRequest.pb()(project=f"projects/{self._project}", page_size=1)
            await self._once(self._channels[0], "Publisher/ListTopics", request, self._options.timeout_seconds)
            self.is_open = True
        except GoogleAPICallError as problem:
            raise self.error(problem, f"project {self._project!r} cannot be used") from problem
        finally:
            if not self.is_open:
                await self.close()

    async def close(self) -> None:
        """Idempotent; calls under way raise Closed, and what pulls have just brought is given back."""
        self.is_open = False
        for pull in self._pulls:
            pull.cancel()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
            for task in late:
                task.cancel()
        channels, self._channels = self._channels, []
        self._pulling = {}
        for channel in channels:
            await channel.close()
        if channels:
            await asyncio.sleep(SETTLE_SECONDS)

    def check_open(self) -> None:
        if not self.is_open:
            raise self._closed()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Beside everything else; `close` sees to its end."""
        task = asyncio.create_task(work, name="edow-pubsub")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def call(self, method: str, request: Any) -> bytes:
        """The answer; asked again with growing pauses while the service is away. Raises Closed, and GoogleAPICallError
        at the end of the URL's timeout, or at once where asking again would not help.
        """
        seconds = self._options.timeout_seconds
        end = time.monotonic() + seconds

        async def ask() -> bytes:
            if not self._channels:
                raise self._closed()
            left = max(end - time.monotonic(), FIRST_PAUSE_SECONDS)
            return await self._once(self._channels[0], method, request, left)

        try:
            return await AsyncRetry(is_transient, FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, timeout=seconds)(ask)()
        except RetryError as problem:
            raise problem.cause or problem from problem

    async def pull(self, path: str, most: int) -> Sequence[Any]:
        """Wait for messages; none is normal."""
        task = asyncio.current_task()
        assert task is not None
        pulling = self._pulling
        channel = next((each for each, pulls in pulling.items() if pulls < STREAMS), None) or self._channel()
        pulling[channel] = pulling.get(channel, 0) + 1
        self._pulls.add(task)
        try:
            request = PullRequest.pb()(subscription=path, max_messages=most)
            answer = await self._once(channel, "Subscriber/Pull", request, PULL_SECONDS)
        finally:
            self._pulls.discard(task)
            pulling[channel] -= 1
        self.note(None)
        found: Sequence[Any] = PullResponse.pb().FromString(answer).received_messages
        return found

    async def settle(self, path: str, ids: Sequence[str], deadline: int | None) -> set[str]:
        """The service takes them back after `deadline` seconds; 0: now; None: never, they are done with.

        Answers which were not ours any more, as far as it says: with exactly-once delivery a request may fail for some,
        which are lost or asked for again.
        """
        lost: set[str] = set()
        end = time.monotonic() + self._options.timeout_seconds
        while ids:
            try:
                if deadline is None:
                    done = AcknowledgeRequest.pb()(subscription=path, ack_ids=ids)
                    await self.call("Subscriber/Acknowledge", done)
                else:
                    kept = ModifyAckDeadlineRequest.pb()(subscription=path, ack_ids=ids, ack_deadline_seconds=deadline)
                    await self.call("Subscriber/ModifyAckDeadline", kept)
                break
            except GoogleAPICallError as problem:
                reasons = problem.metadata or {}
                failed = [each for each in ids if each in reasons]
                if not failed or time.monotonic() >= end:
                    raise
                lost.update(each for each in failed if reasons[each].startswith(INVALID))
                ids = [each for each in failed if each not in lost]
                await asyncio.sleep(FIRST_PAUSE_SECONDS)
        return lost

    def error(self, problem: GoogleAPICallError, what: str) -> EdowError:
        """The service's refusal or silence in our words."""
        text = f"{self._address}: {what}: {problem.message}"
        if isinstance(problem, google_errors.Unauthorized | google_errors.Forbidden):
            account = getattr(self._credentials, "service_account_email", None) or "the account in use"
            return InvalidInput(
                f"{text}. See that the Pub/Sub API is enabled and {account} has roles/pubsub.editor in the project, or "
                "publisher, subscriber and viewer where topics and subscriptions are made by others"
            )
        if isinstance(problem, google_errors.InvalidArgument | google_errors.FailedPrecondition):
            return InvalidInput(text)
        return TransportUnavailable(text)

    def note(self, problem: GoogleAPICallError | None) -> None:
        """Whether the service is away: say it, once for each outage."""
        if problem is not None and not self._is_away:
            log.warning("%s is away, trying again until it is back: %s", self._address, problem.message)
        elif problem is None and self._is_away:
            log.info("%s is back", self._address)
        self._is_away = problem is not None

    async def _once(self, channel: Any, method: str, request: Any, seconds: float) -> bytes:
        try:
            field = next(name for name in ROUTED_BY if name in request.DESCRIPTOR.fields_by_name)
            route = to_grpc_metadata({field: getattr(request, field)})  # type: ignore[no-untyped-call]
            call = channel.unary_unary(f"/google.pubsub.v1.{method}")
            answer: bytes = await call(request.SerializeToString(), timeout=seconds, metadata=(route,))
            return answer
        except (grpc.RpcError, grpc.aio.UsageError, asyncio.CancelledError) as problem:
            task = asyncio.current_task()
            if not self._channels and not (task is not None and task.cancelling()):
                raise self._closed() from problem  # calls end in odd ways when their channel is closed
            if isinstance(problem, grpc.RpcError):
                raise google_errors.from_grpc_error(problem) from problem  # type: ignore[no-untyped-call]
            raise

    def _closed(self) -> Closed:
        return Closed(f"the transport on {self._address} is closed")

    def _channel(self) -> Any:
        target, credentials = self._options.target, self._credentials
        if credentials is None:
            channel = grpc.aio.insecure_channel(target, options=_CHANNEL)
        else:
            options = [*_CHANNEL, *_KEEPALIVE]
            channel = SubscriberGrpcAsyncIOTransport.create_channel(target, credentials=credentials, options=options)
        self._channels.append(channel)
        return channel

    def _authenticate(self) -> Credentials:
        """Credentials that have been used once, since gRPC cannot tell wrong ones from a network that is away."""
        file = self._options.credentials
        try:
            credentials: Credentials = (
                ServiceAccount.from_service_account_file(file, scopes=SCOPES)  # type: ignore[no-untyped-call]
                if file
                else google.auth.default(scopes=SCOPES)[0]
            )
            credentials.refresh(Request())  # type: ignore[no-untyped-call]
        except TransportError as problem:
            raise TransportUnavailable(
                f"{self._address}: Google's authentication did not answer: {problem}"
            ) from problem
        except (GoogleAuthError, ValueError, OSError) as problem:
            raise InvalidInput(
                f"{self._address}: Google refuses these credentials, or there are none: {problem}. Run `gcloud auth "
                "application-default login`, set GOOGLE_APPLICATION_CREDENTIALS, or give a service account's key file "
                "as credentials=FILE"
            ) from problem
        return credentials


def is_transient(problem: Exception) -> bool:
    """Whether the same call may succeed later."""
    if isinstance(problem, google_errors.MethodNotImplemented):
        return False
    return isinstance(
        problem,
        google_errors.ServerError | google_errors.Aborted | google_errors.TooManyRequests | google_errors.Cancelled,
    )
