"""Wake-ups: after a commit, whoever waits on one of its channels goes on; at once, in this process or another.

NOTIFY inside a transaction holds a lock on all of the server's notifications until the transaction is on disk, so
commits would queue behind each other. So it is sent after the commit, in a transaction of its own that writes nothing,
and at most one at a time: what is to be told meanwhile goes with the next. What could be lost by that (a process
killed in between), or while the listening connection is away, is found by waiters' own polling; as long as nobody
listens for us at all, every waiter is woken a few times a second to look for itself.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from hashlib import blake2b
from itertools import count
from typing import cast

from asyncpg import Record
from asyncpg.pool import PoolConnectionProxy

from edow.postgresql.pool import CLOSE_SECONDS, Connection, dismiss

log = logging.getLogger("edow.postgresql")

NOTIFY = "SELECT pg_notify(channel, $2) FROM unnest($1::text[]) AS channel"
ECHO_SECONDS = 20.0  # how often the listening connection is tested
ECHO_WAIT_SECONDS = 5.0
PAUSES = (0.05, 5.0)  # before the connection is made again: first and longest

Connect = Callable[[], Awaitable[Connection]]
Say = Callable[[str, list[str], str], Awaitable[object]]


def prefix_of(schema: str) -> str:
    """What the names of a schema's channels begin with, on the server."""
    return f"edow_{blake2b(schema.encode(), digest_size=4).hexdigest()}_"


class Watch:
    """Waits for any of its channels. One waiter at a time."""

    def __init__(self, hub: Hub, channels: Sequence[str]) -> None:
        self.channels = tuple(channels)
        self._hub = hub
        self._pending = False
        self._closed = False
        self._waiter: asyncio.Future[None] | None = None

    async def wait(self, seconds: float) -> bool:
        """True when notified since the last wait, False when `seconds` have passed or the watch was closed."""
        if not self._pending and not self._closed and seconds > 0:
            loop = asyncio.get_running_loop()
            self._waiter = waiter = loop.create_future()
            timer = loop.call_later(seconds, _finish, waiter)
            try:
                await waiter
            finally:
                timer.cancel()
                self._waiter = None
        return self.take() and not self._closed

    def take(self) -> bool:
        """Whether there was a notification; forgets it."""
        pending, self._pending = self._pending, False
        return pending

    def poke(self) -> None:
        """Something may be there."""
        self._pending = True
        if self._waiter is not None:
            _finish(self._waiter)

    def close(self) -> None:
        """Ends a wait under way, and all later ones. Idempotent."""
        self._closed = True
        self._hub.forget(self)
        if self._waiter is not None:
            _finish(self._waiter)


class Hub:
    """All watches of a process. `connect` makes the connection that listens, None: nobody listens; `direct`: somebody
    has made sure that it leads to the server. `say` sends a notification where there is none.
    """

    def __init__(self, connect: Connect | None, direct: bool, say: Say, schema: str, poll: float) -> None:
        self._connect = connect
        self._direct = direct
        self._say = say
        self._poll = poll
        self._me = secrets.token_hex(4)
        self._prefix = prefix_of(schema)
        self._watches: dict[str, set[Watch]] = {}
        self._names: set[str] = set()  # channels to listen to
        self._news: set[str] = set()  # channels to tell
        self._tell = asyncio.Event()
        self._deaf = asyncio.Event()  # nobody listens for us
        self._deaf.set()
        self._first = asyncio.Event()  # the first attempt to listen is over
        self._gate = asyncio.Lock()  # one statement at a time on the connection that listens
        self._sending = asyncio.Lock()
        self._connection: Connection | None = None  # that listens
        self._echoes: dict[str, asyncio.Future[None]] = {}
        self._serial = count()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, channels: Iterable[str]) -> None:
        """Begin, and wait until it listens to these, or has found out that it cannot yet."""
        self._names.update(channels)
        loops = [self._send_forever(), self._poll_forever()]
        if self._connect is not None:
            loops.append(self._listen_forever(self._connect))
        else:
            self._first.set()
        self._tasks = [asyncio.create_task(loop, name="edow-postgresql-hub") for loop in loops]
        await self._first.wait()

    async def close(self) -> None:
        """Wakes all waiters. What was committed before is still told."""
        for watch in {watch for watches in self._watches.values() for watch in watches}:
            watch.close()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._send()
        except TimeoutError:
            log.debug("a server that does not answer is told no more; waiters find out by polling")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def listens(self) -> bool:
        """Whether we are told of news."""
        return self._connection is not None

    def watch(self, channels: Sequence[str]) -> Watch:
        """Wait for any of the channels, of which `listen` knows."""
        watch = Watch(self, channels)
        for channel in channels:
            self._watches.setdefault(channel, set()).add(watch)
        return watch

    def forget(self, watch: Watch) -> None:
        for channel in watch.channels:
            self._watches.get(channel, set()).discard(watch)

    async def listen(self, channels: Iterable[str]) -> None:
        """From when this returns on, watches of these channels hear of everything (or look for themselves)."""
        new = [channel for channel in channels if channel not in self._names]
        self._names.update(new)
        async with self._gate:
            connection = self._connection
            if connection is not None and new:
                try:
                    await self._subscribe(connection, new)
                except Exception:
                    connection.terminate()  # it is made anew, and then listens to all of them

    def notify(self, channels: Iterable[str]) -> None:
        """Tell whoever waits on them, in every process. Never blocks."""
        for channel in channels:
            self._news.add(channel)
            self._poke(channel)
        if self._news:
            self._tell.set()

    def _poke(self, channel: str) -> None:
        for watch in self._watches.get(channel, ()):
            watch.poke()

    def _poke_all(self) -> None:
        for channel in list(self._watches):
            self._poke(channel)

    # telling others

    async def _send_forever(self) -> None:
        while True:
            await self._tell.wait()
            self._tell.clear()
            await self._send()

    async def _send(self) -> None:
        async with self._sending:
            names = [self._prefix + channel for channel in self._news]
            self._news.clear()
            if not names:
                return
            try:
                async with self._gate:
                    if self._connection is not None:
                        await self._connection.execute(NOTIFY, names, self._me)
                        return
                await self._say(NOTIFY, names, self._me)
            except Exception as problem:
                log.debug("a wake-up was not sent, waiters find out by polling: %s", problem)

    # being told

    async def _poll_forever(self) -> None:
        while True:
            await self._deaf.wait()
            await asyncio.sleep(self._poll)
            if not self.listens:
                self._poke_all()

    async def _listen_forever(self, connect: Connect) -> None:
        pause, longest = PAUSES
        while True:
            try:
                connection = await connect()
            except Exception as problem:
                log.debug("the connection that listens cannot be made, looking now and then instead: %s", problem)
            else:
                try:
                    await self._listen(connection)
                    pause = PAUSES[0]
                finally:
                    self._connection = None
                    self._deaf.set()
                    await dismiss(connection)
            self._first.set()
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)

    async def _listen(self, connection: Connection) -> None:
        """As long as it works."""
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        try:
            await self._subscribe(connection, [""])
            if not await self._comes_through(connection):
                log.warning(
                    "notifications may not come through, so news are looked for every %g s: behind a pooler, give the "
                    "server's own address with listen=HOST:PORT, or listen=off",
                    self._poll,
                )
                self._first.set()
                await asyncio.sleep(60)
                return
            await self._take_over(connection)
            self._deaf.clear()
            self._poke_all()  # for what was not told meanwhile
            self._first.set()
            while not lost.is_set():
                try:
                    async with asyncio.timeout(ECHO_SECONDS):
                        await lost.wait()
                except TimeoutError:
                    async with self._gate:
                        if not await self._echoes_back(connection):
                            return
        except Exception as problem:
            log.debug("the connection that listens was lost: %s", problem)

    async def _take_over(self, connection: Connection) -> None:
        """It listens to all channels, those included that are added meanwhile."""
        listened: set[str] = set()
        while missing := self._names - listened:
            await self._subscribe(connection, missing)
            listened |= missing
        self._connection = connection

    async def _subscribe(self, connection: Connection, channels: Iterable[str]) -> None:
        for channel in channels:
            await connection.add_listener(self._prefix + channel, self._hear)

    async def _comes_through(self, connection: Connection) -> bool:
        """A pooler lends a connection's server to others, with whatever is said to it. That there is one shows in the
        process that answers: it is not the one that the connection was told of.
        """
        if not self._direct and await connection.fetchval("SELECT pg_backend_pid()") != connection.get_server_pid():
            return False
        return await self._echoes_back(connection)

    async def _echoes_back(self, connection: Connection) -> bool:
        """Whether what is said there is heard here."""
        token = f"{self._me}/{next(self._serial)}"
        echo: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._echoes[token] = echo
        try:
            async with asyncio.timeout(ECHO_WAIT_SECONDS):
                await connection.execute(NOTIFY, [self._prefix], token)
                await echo
        except TimeoutError:
            return False
        finally:
            del self._echoes[token]
        return True

    def _hear(
        self, connection: Connection | PoolConnectionProxy[Record], process: int, name: str, payload: object
    ) -> None:
        if payload == self._me:
            return  # ours have been told already
        echo = self._echoes.get(cast(str, payload))
        if echo is not None and not echo.done():
            echo.set_result(None)
        self._poke(name.removeprefix(self._prefix))


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
