"""One connection that is there again whenever it can be.

The client library reconnects by itself; where it gives up for good (some errors of the server close it, and its own
tasks can die) it is replaced by a new one. Either way everybody who depends on the connection is told (`on_resume`)
before it is called usable again, so that requests lost with the old connection are made anew.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError, NoServersError

from edow.address import Address
from edow.errors import EdowError, InvalidInput, TransportUnavailable
from edow.transport.nats.options import Login, NatsOptions, login

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0
LOOK_SECONDS = 5.0  # between looks at a connection that seems well
REPLACE_SECONDS = 30.0  # a client that has not come back by itself after so long is replaced
DISCARD_SECONDS = 1.0
OLDEST_SERVER = (2, 10)

Resume = Callable[[bool], Awaitable[None]]  # the argument: whether the client is a new one, without subscriptions

log = logging.getLogger("edow.transport.nats")


class Link:
    """`client` may be used while `up` is set; `lost` is set, and replaced, each time that the connection breaks."""

    def __init__(self, address: Address, options: NatsOptions) -> None:
        self.address = address
        self.options = options
        self.client = Client()
        self.up = asyncio.Event()
        self.lost = asyncio.Event()
        self.refusals = 0  # how often the server has said that something is not permitted,
        self.refusal = ""  # ... and the last such time, what
        self._listeners: list[Resume] = []
        self._stir = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self._opening_error: BaseException | None = None

    async def open(self) -> None:
        """Raises TransportUnavailable when no server answers, InvalidInput when one refuses us."""
        self.client = await self._connect(login(self.address, self.options))
        self.up.set()
        self._watching = asyncio.create_task(self._watch(), name="edow-nats-link")

    async def close(self) -> None:
        self.up.clear()
        self.lost.set()
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await _discard(self.client)

    def on_resume(self, listener: Resume) -> None:
        """Called after each reconnection; in the order in which they were added."""
        self._listeners.append(listener)

    def off_resume(self, listener: Resume) -> None:
        """Called no more. Idempotent."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    async def ready(self, seconds: float) -> Client:
        """The client, once it is usable. Raises TransportUnavailable when it is not within so many seconds."""
        if not self.up.is_set():
            try:
                async with asyncio.timeout(seconds):
                    await self.up.wait()
            except TimeoutError:
                raise TransportUnavailable(f"{self.address} does not answer") from None
        return self.client

    async def send(self, subject: str, payload: bytes = b"", reply: str = "") -> None:
        """Into the buffer for the server. Raises TransportUnavailable while there is no connection."""
        if not self.client.is_connected:
            raise TransportUnavailable(f"{self.address} does not answer")
        try:
            await self.client.publish(subject, payload, reply)
        except (NatsError, OSError) as problem:
            raise TransportUnavailable(f"{self.address}: {problem}") from problem

    async def request(self, subject: str, payload: bytes = b"") -> bytes:
        """The answer. Raises TransportUnavailable when there is none, InvalidInput when we may not ask."""
        refusals = self.refusals
        if not self.client.is_connected:
            raise TransportUnavailable(f"{self.address} does not answer")
        asking = asyncio.ensure_future(self.client.request(subject, payload, self.options.request_timeout))
        try:
            await asyncio.wait([asking])  # in the library, on Python 3.11, a cancellation may get lost
            answer = asking.result()
        except NoRespondersError as problem:
            raise TransportUnavailable(f"{self.address}: JetStream does not answer ({subject})") from problem
        except TimeoutError as problem:
            if self.refusals > refusals:
                raise InvalidInput(f"{self.address}: {self.refusal}: permit it to this user") from problem
            seconds = self.options.request_timeout
            raise TransportUnavailable(f"{self.address} has not answered {subject} in {seconds:g} s") from problem
        except (NatsError, OSError) as problem:
            raise TransportUnavailable(f"{self.address}: {problem}") from problem
        finally:
            asking.cancel()
        data: bytes = answer.data
        return data

    # ── connecting ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _connect(self, to: Login) -> Client:
        """A client that has connected once: from then on it comes back by itself."""
        client = Client()
        self._opening_error = None
        try:
            await client.connect(**self._client_options(client, to))
            self._check(client)
        except BaseException as problem:
            await _discard(client)
            if isinstance(problem, EdowError) or not isinstance(problem, Exception):
                raise
            raise self._explained(self._first_cause(problem)) from problem
        client.options.update(allow_reconnect=True, max_reconnect_attempts=-1, reconnect_time_wait=0.25)
        return client

    def _client_options(self, client: Client, to: Login) -> dict[str, Any]:
        options = self.options
        given: dict[str, Any] = {}
        if to.user is not None:
            given |= {"user": to.user, "password": self._in_confidence(client, to.password or "")}
        if to.token is not None:
            given |= {"token": self._in_confidence(client, to.token)}
        if to.tls is not None:
            given |= {"tls": to.tls, "tls_handshake_first": options.tls_first}
        if options.credentials:
            given |= {"user_credentials": options.credentials}
        if options.nkey:
            given |= {"nkeys_seed": options.nkey}
        return given | {
            "servers": to.servers,
            "name": "edow",
            "inbox_prefix": options.inbox,
            "connect_timeout": options.connect_timeout,
            "ping_interval": options.ping_interval,
            "allow_reconnect": False,  # the first attempt tells what is wrong
            "max_reconnect_attempts": 1,
            "reconnect_time_wait": FIRST_PAUSE_SECONDS,
            "error_cb": self._on_error,
            "disconnected_cb": self._on_disconnected,
            "reconnected_cb": self._on_change,
            "closed_cb": self._on_change,
        }

    def _in_confidence(self, client: Client, secret: str) -> Callable[[], str]:
        """The library goes on in the clear with a server that does not require TLS; this is asked just before."""

        def tell() -> str:
            self._check(client)
            return secret

        return tell

    def _check(self, client: Client) -> None:
        info = client._server_info
        if self.options.tls and not (info.get("tls_required") or self.options.tls_first):
            raise InvalidInput(f"{self.address}: tls=true, but this server does not require TLS")
        version = tuple(int(part) for part in str(info.get("version", "0.0")).split(".")[:2])
        if version < OLDEST_SERVER:
            raise InvalidInput(f"{self.address} is NATS {info.get('version')}; EDOW needs 2.10 or newer")
        if not info.get("headers"):
            raise InvalidInput(f"{self.address} has headers switched off (no_header_support); EDOW needs them")

    def _first_cause(self, problem: BaseException) -> BaseException:
        """The library's last word may be that it has no server left to try."""
        return self._opening_error or problem

    def _explained(self, problem: BaseException) -> EdowError:
        text = str(problem).strip().removeprefix("nats: ") or type(problem).__name__
        if isinstance(problem, ssl.SSLError):
            return InvalidInput(f"{self.address}: TLS fails: {text}")
        if isinstance(problem, ModuleNotFoundError):
            return InvalidInput(f"{self.address}: credentials and nkey need one more package: pip install nkeys")
        if "authorization" in text.lower() or "authentication" in text.lower():
            return InvalidInput(f"{self.address}: the server refuses these credentials ({text})")
        if type(problem).__module__.startswith("nkeys"):
            return InvalidInput(f"{self.address}: the seed in credentials or nkey is none: {type(problem).__name__}")
        return TransportUnavailable(f"{self.address} cannot be reached: {text}")

    # ── staying connected ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _on_error(self, problem: Exception) -> None:
        text = str(problem).strip()
        if "permissions violation" in text.lower():
            self.refusals += 1
            self.refusal = text.removeprefix("nats: ")
            log.warning("%s: %s", self.address, text)
        elif not isinstance(problem, NoServersError):
            self._opening_error = problem
            log.debug("%s: %r", self.address, problem)

    async def _on_disconnected(self) -> None:
        if self.up.is_set():
            log.warning("the connection to %s is lost; trying again until it is back", self.address)
        self.up.clear()
        self.lost.set()
        self.lost = asyncio.Event()
        self._stir.set()

    async def _on_change(self) -> None:
        self._stir.set()

    async def _watch(self) -> None:
        """For ever: bring the connection back to use."""
        pause = FIRST_PAUSE_SECONDS
        missing = 0.0
        clock = asyncio.get_running_loop().time
        while True:
            await self._stirred(pause if missing else LOOK_SECONDS)
            if self.up.is_set() and self.client.is_connected:
                continue
            if self.up.is_set():
                await self._on_disconnected()
            missing = missing or clock()
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            try:
                if await self._resumed(replace=clock() - missing > REPLACE_SECONDS):
                    pause, missing = FIRST_PAUSE_SECONDS, 0.0
            except Exception as problem:
                log.debug("%s is not back yet: %r", self.address, problem)

    async def _stirred(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stir.wait()
        except TimeoutError:
            pass
        self._stir.clear()

    async def _resumed(self, replace: bool) -> bool:
        fresh = self.client.is_closed or (replace and not self.client.is_connected)
        if fresh:
            self.up.clear()
            old, self.client = self.client, await self._connect(login(self.address, self.options))
            await _discard(old)
        if not self.client.is_connected:
            return False
        client, lost = self.client, self.lost
        self._check(client)
        for listener in list(self._listeners):
            await listener(fresh)
        if client.is_connected and lost is self.lost:
            self.up.set()
            log.warning("the connection to %s is back", self.address)
        return self.up.is_set()


async def _discard(client: Client) -> None:
    """Close it whatever state it is in, the socket too."""
    try:
        async with asyncio.timeout(DISCARD_SECONDS):  # after a handshake that failed the library would wait for ever
            await client.close()
    except Exception as problem:
        log.debug("closing a connection: %r", problem)
