"""The way to the server: connections, scripts, and redis-py's errors in the words of a transport.

A `Line` is one connection, used by one caller at a time; the `Link` has a few for short commands, and knows which of
the servers is the one to talk to. Nothing is sent twice: whether to try again is for those who know what it would do.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any, NamedTuple, Protocol, TypeAlias

import redis.asyncio
from hiredis import pack_command
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from edow.address import Address
from edow.errors import TransportUnavailable
from edow.transport.guard import causes
from edow.transport.redis.settings import Place, Settings, database, places

Argument: TypeAlias = str | bytes | int | float
Command: TypeAlias = tuple[Argument, ...]
Reply: TypeAlias = "bytes | int | list[Reply] | ResponseError | None"

LINES = 8  # connections for short commands
REDIRECTIONS = 3
READ_BYTES = 1 << 16
IN_SCRIPT = "user executing the script can't"  # how Redis 7.0 says that a command or key is not allowed in a script
RIGHTS = "~{edow*}* +@read +@write +@scripting +@connection +time +wait +info +config|get"  # what a user needs

log = logging.getLogger("edow.transport.redis")


class Denied(TransportUnavailable):
    """The server does not let us in, does not let us do what we must, or is not the one it should be."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}. {remedy}")


class Wire(Protocol):
    """What is used of `redis.asyncio.Connection`, whose own annotations are incomplete."""

    @property
    def is_connected(self) -> bool: ...
    async def connect(self) -> None: ...
    async def disconnect(self, nowait: bool = False) -> None: ...
    async def can_read(self) -> bool: ...
    async def send_packed_command(self, command: bytes) -> None: ...
    async def read_response(self) -> Reply: ...


class Script(NamedTuple):
    text: bytes
    sha: str


def load_scripts() -> dict[str, Script]:
    """By name; `common.lua` stands before each."""
    files = {file.name: file.read_bytes() for file in resources.files(__package__).joinpath("lua").iterdir()}
    common = files.pop("common.lua")
    texts = {name.removesuffix(".lua"): common + text for name, text in files.items()}
    return {name: Script(text, hashlib.sha1(text, usedforsecurity=False).hexdigest()) for name, text in texts.items()}


class Link:
    """To be opened before use; `close` may be called again."""

    def __init__(self, address: Address, settings: Settings) -> None:
        self.address = address
        self.settings = settings
        self._places = places(address)
        self._turn = 0
        self.place = self._places[0]
        self._scripts: dict[str, Script] = {}
        self._spare: list[Line] = []
        self._room = asyncio.Semaphore(LINES)
        self._closed = True

    def open(self) -> None:
        self._scripts = load_scripts()
        self._closed = False

    async def close(self) -> None:
        self._closed = True
        spare, self._spare = self._spare, []
        for line in spare:
            await line.close()

    def line(self, name: str = "") -> Line:
        """A connection of your own, made when it is first used."""
        return Line(self, name)

    async def ask(self, *commands: Command) -> list[Reply]:
        """One round trip. Raises TransportUnavailable, also for an error that the server answers."""
        async with self.borrowed() as line:
            return line.checked(await line.ask(*commands))

    async def run(
        self, script: str, keys: Sequence[Argument], arguments: Sequence[Argument], after: Sequence[Command] = ()
    ) -> list[Reply]:
        """See `Line.run`."""
        async with self.borrowed() as line:
            return await line.run(script, keys, arguments, after=after)

    @asynccontextmanager
    async def borrowed(self) -> AsyncIterator[Line]:
        async with self._room:
            line = self._spare.pop() if self._spare else self.line()
            try:
                yield line
            finally:
                if self._closed:
                    await line.close()
                else:
                    self._spare.append(line)

    def script(self, name: str) -> Script:
        return self._scripts[name]

    def turn(self, place: Place) -> None:
        """The server there is away, or not the one that takes writes: try the next, if nobody does already."""
        if place == self.place:
            self._turn += 1
            self.place = self._places[self._turn % len(self._places)]

    def follow(self, moved: AskError) -> None:
        """Where a cluster keeps our slot."""
        self.place = Place(str(moved.host) or self.place.host, int(moved.port))

    def told(self, problem: Exception, place: Place) -> TransportUnavailable:
        """The error to raise instead."""
        refused = isinstance(problem, AuthenticationError | AuthorizationError | NoPermissionError)
        if refused or IN_SCRIPT in str(problem):
            remedy = f"Check user and password in the URL of {self.address}; the user must have the rights {RIGHTS}"
            return Denied(f"Redis at {place} refuses {self.address}: {_text(problem)}", remedy)
        if _is_distrust(problem):
            remedy = "Give its authority with ssl_ca_certs=, or trust it unseen with ssl_cert_reqs=none"
            return Denied(f"Redis at {place} has a certificate that is not trusted: {_text(problem)}", remedy)
        return TransportUnavailable(f"Redis at {place} cannot be used: {_text(problem)}")

    @property
    def servers(self) -> int:
        return len(self._places)

    def connection(self, place: Place, name: str) -> Wire:
        """A connection, not made yet. It has no timeouts of its own: see `Line.ask`."""
        settings, address = self.settings, self.address
        common: dict[str, Any] = {
            "host": place.host,
            "port": place.port,
            "db": database(address),
            "username": address.user or None,
            "password": address.password,
            "client_name": name or "edow",
            "protocol": 2,
            "socket_timeout": None,
            "socket_connect_timeout": settings.timeout,
            "socket_read_size": READ_BYTES,
        }
        if address.scheme != "rediss":
            return redis.asyncio.Connection(**common)
        tls: dict[str, Any] = {
            name: getattr(settings, name) for name in settings.__struct_fields__ if name.startswith("ssl_")
        }
        return redis.asyncio.SSLConnection(**common, **tls)


class Line:
    """One connection. It is made when needed, and made again after it broke."""

    def __init__(self, link: Link, name: str) -> None:
        self._link = link
        self._name = "".join(letter if "!" <= letter <= "~" else "_" for letter in name)  # what Redis allows
        self._wire: Wire | None = None
        self._place = link.place
        self.made = 0  # connections: another number, and the server may be another, too

    async def ask(self, *commands: Command, within: float = 0.0) -> list[Reply]:
        """Send them together, and wait for all answers, `within` seconds longer than usual. Errors that the server
        answers are among them.

        Raises TransportUnavailable when the connection cannot be made, broke, or was too slow: then the commands may
        have been done or not. The same when cancelled.
        """
        answers: list[Reply] = []
        for _ in range(REDIRECTIONS):
            answers = await self._guarded(commands, within + self._link.settings.timeout)
            moved = next((each for each in answers if isinstance(each, MovedError)), None)
            if moved is None:
                break
            self._link.follow(moved)
        return answers

    async def run(
        self,
        script: str,
        keys: Sequence[Argument],
        arguments: Sequence[Argument],
        *,
        before: Sequence[Command] = (),
        after: Sequence[Command] = (),
        within: float = 0.0,
    ) -> list[Reply]:
        """The answers of the script and of the commands `after` it; those `before` it may take `within` seconds.

        Raises TransportUnavailable, also for an error that the server answers.
        """
        text, sha = self._link.script(script)
        call = ("EVALSHA", sha, len(keys), *keys, *arguments)
        answers = (await self.ask(*before, call, *after, within=within))[len(before) :]
        if isinstance(answers[0], NoScriptError):  # a new server, or one that was restarted
            answers = (await self.ask(("SCRIPT", "LOAD", text), call, *after))[1:]
        return self.checked(answers)

    def checked(self, answers: list[Reply]) -> list[Reply]:
        """Raises TransportUnavailable for the first that is an error."""
        for answer in answers:
            if isinstance(answer, ReadOnlyError):
                self._link.turn(self._place)
            if isinstance(answer, ResponseError):
                raise self._link.told(answer, self._place) from answer
        return answers

    async def close(self, *, broken: bool = False) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            try:
                await wire.disconnect(nowait=broken)
            except RedisError as problem:
                log.debug("Redis at %s did not say good-bye: %s", self._place, problem)

    async def _guarded(self, commands: Sequence[Command], seconds: float) -> list[Reply]:
        try:
            async with asyncio.timeout(seconds):
                return await self._ask(commands)
        except TimeoutError as problem:
            await self.close(broken=True)
            self._link.turn(self._place)
            raise TransportUnavailable(f"Redis at {self._place} did not answer within {seconds:g} s") from problem
        except (RedisError, OSError) as problem:
            await self.close(broken=True)
            if not isinstance(problem, AuthenticationError):
                self._link.turn(self._place)
            raise self._link.told(problem, self._place) from problem

    async def _ask(self, commands: Sequence[Command]) -> list[Reply]:
        wire = await self._connected()
        packed: list[bytes] = [pack_command(command) for command in commands]  # type: ignore[arg-type]  # any length
        await wire.send_packed_command(b"".join(packed))
        return [await _answer(wire) for _ in commands]

    async def _connected(self) -> Wire:
        wire = self._wire
        if wire is not None and (self._place != self._link.place or not wire.is_connected or await wire.can_read()):
            await self.close(broken=True)  # the server has closed it meanwhile, or it leads to another server
            wire = None
        if wire is None:
            self._place = self._link.place
            wire = self._wire = self._link.connection(self._place, self._name)
            await wire.connect()
            self.made += 1
        return wire


async def _answer(wire: Wire) -> Reply:
    try:
        return await wire.read_response()
    except ResponseError as problem:
        return problem


def _text(problem: Exception) -> str:
    return f"{getattr(problem, 'status_code', None) or ''} {problem}".strip() or type(problem).__name__


def _is_distrust(problem: BaseException | None) -> bool:
    """Whether it is, or comes from, a certificate that could not be verified."""
    return any(isinstance(each, ssl.SSLCertVerificationError) for each in causes(problem))
