"""The connection: credentials, channels, and calls that come to an end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import google.auth
import grpc  # type: ignore[import-untyped]
from google.api_core.exceptions import (
    Aborted,
    Cancelled,
    FailedPrecondition,
    Forbidden,
    GoogleAPICallError,
    InvalidArgument,
    MethodNotImplemented,
    ServerError,
    TooManyRequests,
    Unauthorized,
)
from google.auth.credentials import Credentials
from google.auth.exceptions import GoogleAuthError, TransportError
from google.auth.transport.requests import Request
from google.oauth2 import service_account
from google.pubsub_v1 import PublisherAsyncClient, SubscriberAsyncClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcAsyncIOTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcAsyncIOTransport

from edow.address import Address
from edow.errors import Closed, EdowError, InvalidInput, TransportUnavailable
from edow.transport.pubsub.options import PubsubOptions

Result = TypeVar("Result")

SCOPES = ("https://www.googleapis.com/auth/pubsub",)
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0
SETTLE_SECONDS = 0.02  # gRPC's thread tells the loop of calls that were cancelled, and complains when that is closed
STREAMS = 80  # requests under way on one connection; Google's side takes 100, and what is beyond waits for long polls

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
    """Channels to the service: one for requests that are answered at once, others for those that wait for messages."""

    def __init__(self, address: Address, project: str, options: PubsubOptions) -> None:
        self._address = address
        self._project = project
        self._options = options
        self._credentials: Credentials | None = None
        self._channels: list[Any] = []
        self._readers: dict[SubscriberAsyncClient, int] = {}
        self._is_open = False
        self._is_away = False
        self.publisher: PublisherAsyncClient
        self.subscriber: SubscriberAsyncClient

    @property
    def is_open(self) -> bool:
        return self._is_open

    async def open(self) -> None:
        """Raises InvalidInput for credentials that are wrong or may too little, TransportUnavailable."""
        if not self._options.emulator:
            self._credentials = await asyncio.to_thread(self._authenticate)
        channel = self._channel()
        self.publisher = PublisherAsyncClient(transport=PublisherGrpcAsyncIOTransport(channel=channel))
        self.subscriber = SubscriberAsyncClient(transport=SubscriberGrpcAsyncIOTransport(channel=channel))
        self._is_open = True
        request = {"project": f"projects/{self._project}", "page_size": 1}
        try:
            await self.once(lambda left: self.publisher.list_topics(request=request, retry=None, timeout=left))
        except GoogleAPICallError as problem:
            await self.close()
            raise self.error(problem, f"project {self._project!r} cannot be used") from problem
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Idempotent; calls under way raise Closed."""
        self._is_open = False
        channels, self._channels = self._channels, []
        self._readers.clear()
        for channel in channels:
            await channel.close()
        if channels:
            await asyncio.sleep(SETTLE_SECONDS)

    async def call(self, call: Callable[[float], Awaitable[Result]], seconds: float | None = None) -> Result:
        """Its result; tried again with growing pauses while the service is away. `call` is told what time is left.

        Raises GoogleAPICallError at the end of `seconds` (default: the URL's timeout), or at once where trying again
        would not help; Closed.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + (seconds or self._options.timeout_seconds)
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                return await self.once(call, max(end - loop.time(), FIRST_PAUSE_SECONDS))
            except GoogleAPICallError as problem:
                if not is_transient(problem) or loop.time() + pause >= end:
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def once(self, call: Callable[[float], Awaitable[Result]], seconds: float | None = None) -> Result:
        """The same without another try."""
        self.check_open()
        try:
            return await call(seconds or self._options.timeout_seconds)
        except (GoogleAPICallError, grpc.aio.UsageError) as problem:
            if self._is_open:
                raise
            raise self._closed() from problem
        except asyncio.CancelledError as problem:
            task = asyncio.current_task()
            if self._is_open or (task is not None and task.cancelling()):
                raise
            raise self._closed() from problem  # the channel was closed; nobody has cancelled us

    def check_open(self) -> None:
        if not self._is_open:
            raise self._closed()

    def error(self, problem: GoogleAPICallError, what: str) -> EdowError:
        """The service's refusal or silence in our words."""
        text = f"{self._address}: {what}: {problem.message}"
        if isinstance(problem, Unauthorized | Forbidden):
            account = getattr(self._credentials, "service_account_email", None) or "the account in use"
            return InvalidInput(
                f"{text}. See that the Pub/Sub API is enabled and {account} has roles/pubsub.editor in the project, or "
                "publisher, subscriber and viewer where topics and subscriptions are made by others"
            )
        if isinstance(problem, InvalidArgument | FailedPrecondition):
            return InvalidInput(text)
        return TransportUnavailable(text)

    def unavailable(self, problem: GoogleAPICallError, what: str) -> TransportUnavailable:
        """The same, whatever it says: for what has worked before, so that permissions may come back, too."""
        return TransportUnavailable(str(self.error(problem, what)))

    def reader(self) -> SubscriberAsyncClient:
        """A client for the waiting requests of one subscription; give it back with `release`."""
        self.check_open()
        most = max(1, STREAMS // self._options.pulls)
        client = next((each for each, readers in self._readers.items() if readers < most), None)
        if client is None:
            client = SubscriberAsyncClient(transport=SubscriberGrpcAsyncIOTransport(channel=self._channel()))
        self._readers[client] = self._readers.get(client, 0) + 1
        return client

    def release(self, client: SubscriberAsyncClient) -> None:
        if client in self._readers:
            self._readers[client] -= 1

    def is_away(self, problem: GoogleAPICallError) -> None:
        """Say it, once for each outage."""
        if not self._is_away:
            self._is_away = True
            log.warning("%s is away, trying again until it is back: %s", self._address, problem.message)

    def is_back(self) -> None:
        if self._is_away:
            self._is_away = False
            log.info("%s is back", self._address)

    def _channel(self) -> Any:
        if self._options.emulator:
            channel = grpc.aio.insecure_channel(self._options.target, options=_CHANNEL)
        else:
            channel = SubscriberGrpcAsyncIOTransport.create_channel(
                self._options.target, credentials=self._credentials, options=[*_CHANNEL, *_KEEPALIVE]
            )
        self._channels.append(channel)
        return channel

    def _authenticate(self) -> Credentials:
        """Credentials that have been used once, since gRPC cannot tell wrong ones from a network that is away."""
        try:
            credentials = self._find_credentials()
        except (GoogleAuthError, ValueError, OSError) as problem:
            raise InvalidInput(
                f"{self._address}: there are no usable Google credentials: {problem}. Run `gcloud auth "
                "application-default login`, set GOOGLE_APPLICATION_CREDENTIALS, or give a service account's key file "
                "as credentials=FILE"
            ) from problem
        try:
            credentials.refresh(Request())  # type: ignore[no-untyped-call]
        except TransportError as problem:
            raise TransportUnavailable(
                f"{self._address}: Google's authentication did not answer: {problem}"
            ) from problem
        except GoogleAuthError as problem:
            raise InvalidInput(f"{self._address}: Google refuses these credentials: {problem}") from problem
        return credentials

    def _find_credentials(self) -> Credentials:
        if self._options.credentials:
            found: Credentials = service_account.Credentials.from_service_account_file(  # type: ignore[no-untyped-call]
                self._options.credentials, scopes=SCOPES
            )
            return found
        return google.auth.default(scopes=SCOPES)[0]

    def _closed(self) -> Closed:
        return Closed(f"the transport on {self._address} is closed")


def is_transient(problem: GoogleAPICallError) -> bool:
    """Whether the same call may succeed later."""
    if isinstance(problem, MethodNotImplemented):
        return False
    return isinstance(problem, ServerError | Aborted | TooManyRequests | Cancelled)
