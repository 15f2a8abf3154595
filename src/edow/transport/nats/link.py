"""One connection that is there again whenever it can be, and what it is asked.

The client library's own reconnecting is not used: some errors of the server end it for good. Whenever a connection is
gone another client takes its place, and `epoch` counts them: whoever depends on it compares, and begins anew.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, TypeVar, overload

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import NoServersError
from nats.js import JetStreamContext
from nats.js.errors import APIError, ServiceUnavailableError

from edow.address import Address
from edow.errors import EdowError, InvalidInput, TransportUnavailable
from edow.transport.nats.options import NatsOptions, login

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0
LOOK_SECONDS = 0.5  # between looks at a connection that seems well: the library's callbacks may fail
DISCARD_SECONDS = 1.0
OLDEST_SERVER = (2, 10)
NOT_ENABLED = (10039, 10074, 10076)  # JetStream for the account, replicas without a cluster, JetStream

Answer = TypeVar("Answer")

log = logging.getLogger("edow.transport.nats")


class Link:
    """`up` is set while there is a connection that can be used; `lost` is done when the one before is gone."""

    lost: asyncio.Future[None]

    def __init__(self, address: Address, options: NatsOptions) -> None:
        self.address = address
        self.options = options
        self.client = Client()
        self.js = JetStreamContext(self.client)
        self.epoch = 0
        self.up = asyncio.Event()
        self.on_resume: Callable[[], Awaitable[None]] | None = None  # before a new connection is called usable
        self._cluster: list[str] = []  # other servers, as the last one has told
        self._refusal = ""  # what the server has said is not permitted, the last time
        self._watching: asyncio.Task[None] | None = None
        self._problem: Exception | None = None

    @property
    def api(self) -> str:
        """Where JetStream's requests go."""
        return f"$JS.{self.options.domain}.API" if self.options.domain else "$JS.API"

    async def open(self) -> None:
        """Raises TransportUnavailable when no server answers, InvalidInput when one refuses us or has no JetStream."""
        await self._connect()
        try:
            await self.ask(self.js.account_info())
        except BaseException:
            await _discard(self.client)
            raise
        self.up.set()
        self._watching = asyncio.create_task(self._watch(), name="edow-nats-link")

    async def close(self) -> None:
        self.up.clear()
        self._lose()
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await _discard(self.client)

    async def ready(self, seconds: float) -> None:
        """Raises TransportUnavailable when there is no connection within so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self.up.wait()
        except TimeoutError:
            raise TransportUnavailable(f"{self.address} does not answer") from None

    async def send(self, subject: str, payload: bytes = b"", reply: str = "") -> None:
        """Into the buffer for the server. Raises TransportUnavailable while there is no connection."""
        if not self.client.is_connected:
            raise TransportUnavailable(f"{self.address} does not answer")
        try:
            await self.client.publish(subject, payload, reply)
        except (NatsError, OSError) as problem:
            raise TransportUnavailable(f"{self.address}: {problem}") from problem

    @overload
    async def ask(self, question: Coroutine[Any, Any, Answer]) -> Answer: ...
    @overload
    async def ask(self, question: Coroutine[Any, Any, Answer], *expected: int) -> Answer | None: ...
    async def ask(self, question: Coroutine[Any, Any, Answer], *expected: int) -> Answer | None:
        """The answer, or None when it is an error that is expected. Raises TransportUnavailable when there is none,
        InvalidInput when we may not ask or have asked what makes no sense.
        """
        refusal = self._refusal
        try:
            return await _apart(question)
        except APIError as problem:
            if problem.err_code in expected:
                return None
            raise self._refused(problem) from problem
        except TimeoutError as problem:
            if self._refusal is not refusal:
                raise InvalidInput(f"{self.address}: {self._refusal}: permit it to this user") from problem
            raise TransportUnavailable(f"{self.address} has not answered in time") from problem
        except (NatsError, OSError) as problem:
            raise TransportUnavailable(f"{self.address}: {str(problem) or type(problem).__name__}") from problem

    async def request(self, subject: str, payload: bytes = b"") -> bytes:
        """The same for a question that the library has no words for."""
        data: bytes = (await self.ask(self.client.request(subject, payload, self.options.request_timeout))).data
        return data

    def _refused(self, problem: APIError) -> EdowError:
        if isinstance(problem, ServiceUnavailableError) and problem.err_code is None:
            return TransportUnavailable(f"{self.address}: JetStream does not answer")
        text = f"{self.address} refuses: {problem.description} ({problem.err_code or problem.code})"
        if (problem.code or 0) < 500 or problem.err_code in NOT_ENABLED:
            return InvalidInput(text)
        return TransportUnavailable(text)

    # ── connecting ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _connect(self) -> None:
        """A new client, connected."""
        client, self._problem = Client(), None
        try:
            await _apart(client.connect(**self._client_options(client)))
            self._check(client)
        except BaseException as problem:
            await _discard(client)
            if isinstance(problem, EdowError) or not isinstance(problem, Exception):
                raise
            raise self._explained(problem, greeted=bool(client._server_info)) from problem
        scheme = "tls" if self.options.tls else "nats"
        self._cluster = [f"{scheme}://{server.netloc}" for server in client.discovered_servers]
        old, self.client = self.client, client
        self.js = client.jetstream(prefix=self.api, timeout=self.options.request_timeout)
        self.lost = asyncio.get_running_loop().create_future()
        self.epoch += 1
        await _discard(old)

    def _client_options(self, client: Client) -> dict[str, Any]:
        options, given = self.options, login(self.address, self.options)
        given["servers"] += self._cluster
        for name in given.keys() & {"password", "token"}:
            given[name] = partial(self._in_confidence, client, given[name])

        async def closed() -> None:
            if client is self.client:
                self._lose()

        return given | {
            "name": "edow",
            "inbox_prefix": options.inbox,
            "connect_timeout": options.connect_timeout,
            "ping_interval": options.ping_interval,
            "allow_reconnect": False,
            "max_reconnect_attempts": 1,
            "pending_size": 0,  # else publishing waits until the server reads, also when the connection is gone
            "reconnect_time_wait": FIRST_PAUSE_SECONDS,
            "error_cb": self._on_error,
            "closed_cb": closed,
        }

    def _in_confidence(self, client: Client, secret: str) -> str:
        """The library goes on in the clear with a server that does not require TLS; this is asked just before."""
        self._check(client)
        return secret

    def _check(self, client: Client) -> None:
        info = client._server_info
        if self.options.tls and not (info.get("tls_required") or self.options.tls_first):
            raise InvalidInput(f"{self.address}: tls=true, but this server does not require TLS")
        version = tuple(int(part) for part in str(info.get("version", "0.0")).split(".")[:2])
        if version < OLDEST_SERVER:
            raise InvalidInput(f"{self.address} is NATS {info.get('version')}; EDOW needs 2.10 or newer")
        if not info.get("headers"):
            raise InvalidInput(f"{self.address} has headers switched off (no_header_support); EDOW needs them")

    def _explained(self, problem: Exception, greeted: bool) -> EdowError:
        problem = self._problem or problem  # the last word may be that no server is left
        text = str(problem).strip().removeprefix("nats: ") or type(problem).__name__
        if isinstance(problem, ssl.SSLError):
            return InvalidInput(f"{self.address}: TLS fails: {text}")
        if "authorization" in text.lower() or "authentication" in text.lower():
            return InvalidInput(f"{self.address}: the server refuses these credentials ({text})")
        if greeted and isinstance(
            problem, ConnectionError
        ):  # its word on the credentials may be lost with the connection
            return InvalidInput(f"{self.address} has closed the connection instead of letting us in: check credentials")
        return TransportUnavailable(f"{self.address} cannot be reached: {text}")

    # ── staying connected ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _on_error(self, problem: Exception) -> None:
        text = str(problem).strip().removeprefix("nats: ")
        if "permissions violation" in text.lower():
            self._refusal = text
            log.warning("%s: %s", self.address, text)
        elif not isinstance(problem, NoServersError):
            self._problem = problem

    async def _watch(self) -> None:
        """For ever: replace a connection that is gone."""
        while True:
            await asyncio.wait([self.lost], timeout=LOOK_SECONDS)
            if not self.lost.done() and self.client.is_connected:
                continue
            log.warning("the connection to %s is lost; trying again until it is back", self.address)
            self.up.clear()
            self._lose()
            await self._come_back()
            self.up.set()
            log.warning("the connection to %s is back", self.address)

    def _lose(self) -> None:
        if not self.lost.done():
            self.lost.set_result(None)

    async def _come_back(self) -> None:
        pause = 0.0
        while True:
            await asyncio.sleep(pause)
            pause = min(2 * pause or FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
            try:
                await self._connect()
                if self.on_resume is not None:
                    await self.on_resume()
                return
            except Exception as problem:
                level = logging.WARNING if isinstance(problem, InvalidInput) else logging.INFO
                log.log(level, "%s is not back yet: %r", self.address, problem)


async def _apart(work: Coroutine[Any, Any, Answer]) -> Answer:
    """In a task of its own: the library, on Python 3.11, may go on after a cancellation, but we are to end."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task])
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])


async def _discard(client: Client) -> None:
    """Close it whatever state it is in, the socket too."""
    try:
        async with asyncio.timeout(DISCARD_SECONDS):  # after a handshake that failed the library would wait for ever
            await client.close()
    except Exception as problem:
        log.debug("closing a connection: %r", problem)
    finally:
        if client._transport:  # which the library leaves open when it could not send everything
            client._transport.close()  # type: ignore[no-untyped-call]  # the library's
