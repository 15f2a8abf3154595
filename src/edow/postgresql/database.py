"""One PostgreSQL schema as a process sees it: some connections for statements, one for what is urgent, one that
listens.

Store and transport may share one object; each opens and closes it, and it lives from the first open to the last close.
It belongs to the event loop on which it was opened.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

import asyncpg

from edow.address import Address
from edow.errors import StoreUnusable
from edow.postgresql.calls import Calls, in_schema
from edow.postgresql.hub import Hub, Watch
from edow.postgresql.pool import Connection, Pool
from edow.postgresql.problems import BROKEN, COLLISIONS, IN_DOUBT, NOT_APPLIED, closed, is_ours, translate
from edow.postgresql.schema import Schema
from edow.postgresql.settings import listening_place, settings_of

log = logging.getLogger("edow.postgresql")

Result = TypeVar("Result")

OLDEST_SERVER = 130000
TRIES = 10  # of a transaction that collided with another
STANDING = """
SELECT
    current_setting('server_version_num')::integer, pg_is_in_recovery(),
    current_setting('fsync') = 'off' OR current_setting('synchronous_commit') = 'off'
"""


def connect(address: Address, clock: Callable[[], int]) -> Database:
    """The database that a URL names, not open yet. Raises InvalidInput."""
    return Database(address, clock)


class Database:
    """`settings`: what the URL said. Every statement that changes something is a transaction of its own."""

    def __init__(self, address: Address, clock: Callable[[], int]) -> None:
        self.settings, self._url = settings_of(address)
        self.place = str(address)
        self.clock = clock
        self.schema = self.settings.schema
        self._address = address
        self._gate = asyncio.Lock()
        self._users = 0
        self._pool: Pool | None = None
        self._hurried: Pool | None = None
        self._hub: Hub | None = None
        self._texts: dict[str, str] = {}

    async def open(self) -> None:
        """Raises StoreUnusable or StoreUnavailable; then it is as if it had not been called."""
        async with self._gate:
            if not self._users:
                await self._start()
            self._users += 1

    async def close(self) -> None:
        """The last of as many closes as opens finishes what was begun and lets go."""
        async with self._gate:
            if not self._users:
                return
            self._users -= 1
            if not self._users:
                await self._stop()

    async def migrate(self, schema: Schema) -> None:
        """Bring a component's tables to this release's version."""
        await self._use(lambda connection: schema.apply(connection, self.schema, self.place), reads=True)

    async def fetch(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        """A statement that only reads; tried again when the connection breaks. Raises StoreUnavailable."""
        text = self._text(sql)
        return await self._use(lambda connection: connection.fetch(text, *arguments), reads=True)

    async def write(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        """A statement that changes something. Raises StoreUnavailable."""
        text = self._text(sql)
        return await self._use(lambda connection: connection.fetch(text, *arguments))

    async def hurry(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        """As `write`, and not behind statements that take long: a lease runs out while it waits."""
        text = self._text(sql)
        return await self._use(lambda connection: connection.fetch(text, *arguments), hurried=True)

    async def call(self, calls: Calls) -> asyncpg.Record:
        """All of them in one transaction; a column for each."""
        return (await self.write(calls.sql, *calls.arguments))[0]

    def watch(self, *channels: str) -> Watch:
        """Wait for any of these channels. Raises Closed."""
        return self._need_hub().watch(channels)

    async def listen(self, channels: Iterable[str]) -> None:
        """From when this returns on, watches of these channels hear of everything."""
        await self._need_hub().listen(channels)

    def notify(self, channels: Iterable[str]) -> None:
        """Tell whoever waits on them, in every process. Never blocks."""
        if self._hub is not None:
            self._hub.notify(channels)

    def _text(self, sql: str) -> str:
        if self.schema == "edow":
            return sql
        text = self._texts.get(sql)
        if text is None:
            text = self._texts[sql] = in_schema(sql, self.schema)
        return text

    def _need_hub(self) -> Hub:
        if self._hub is None:
            raise closed(self.place)
        return self._hub

    async def _use(
        self, work: Callable[[Connection], Awaitable[Result]], *, reads: bool = False, hurried: bool = False
    ) -> Result:
        """`reads`: it changes nothing, so that it may be done twice."""
        tries, again = TRIES, reads
        while True:
            pool = self._hurried if hurried else self._pool
            if pool is None:
                raise closed(self.place)
            begun = False
            try:
                async with pool.take() as connection:
                    begun = True
                    return await work(connection)
            except COLLISIONS as problem:
                tries -= 1
                if not tries:
                    raise translate(problem, self.place) from problem
            except Exception as problem:
                if is_ours(problem):
                    raise
                if begun and again and isinstance(problem, BROKEN) and not isinstance(problem, TimeoutError):
                    again = False  # an idle connection may have been cut long ago
                    continue
                told = translate(problem, self.place, IN_DOUBT if begun and not reads else NOT_APPLIED)
                if told is problem:
                    raise
                raise told from problem

    async def _start(self) -> None:
        self._pool = Pool(self._connect, self.settings.connections)
        self._hurried = Pool(self._connect, 1)
        try:
            await self._check()
            await self.migrate(Schema("base", __package__))
            self._hub = self._make_hub()
            await self._hub.start(())
        except BaseException:
            await self._stop()
            raise

    async def _stop(self) -> None:
        pools, hub = (self._pool, self._hurried), self._hub
        if hub is not None:
            await hub.close()
        self._pool = self._hurried = self._hub = None
        for pool in pools:
            if pool is not None:
                await pool.close()

    async def _check(self) -> None:
        """Whether this server can be relied on."""
        version, standby, careless = (await self.fetch(STANDING))[0]
        if version < OLDEST_SERVER:
            raise StoreUnusable(f"{self.place} is PostgreSQL {version // 10000}: use 13 or later")
        if standby:
            raise StoreUnusable(
                f"{self.place} is a standby, which can only be read: name the primary, or all hosts and "
                "target_session_attrs=primary"
            )
        if careless:
            log.warning(
                "%s does not wait for its disk (fsync or synchronous_commit is off): what was accepted may be "
                "lost when it crashes",
                self.place,
            )

    async def _connect(self, place: tuple[str, int] | None = None) -> Connection:
        settings = self.settings
        named = "application_name" in self._address.options
        return await asyncpg.connect(
            self._url,
            host=place[0] if place else None,
            port=place[1] if place else None,
            timeout=settings.connect_timeout,
            command_timeout=settings.timeout,
            statement_cache_size=200 if settings.prepare else 0,
            server_settings=None if named else {"application_name": "edow"},
        )

    def _make_hub(self) -> Hub:
        settings = self.settings
        place = listening_place(settings.listen, self._address)
        listener = None if settings.listen == "off" else lambda: self._connect(place)
        return Hub(listener, place is not None, self._say, self.schema, settings.poll)

    async def _say(self, sql: str, names: Sequence[str], payload: str) -> None:
        await self.write(sql, names, payload)
