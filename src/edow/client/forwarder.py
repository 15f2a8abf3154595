"""Hands what waits in the `edow_outbox` of a user's database on to the store; `edow.start_in` has put it there.

Exactly once, although it may die at any moment: an execution's id is decided when the start is written down, a row goes
after the store has it, and a store that is told again knows the id.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import msgspec

from edow.address import Address
from edow.client.link import wall_clock
from edow.client.outbox import CHANNEL, TABLE
from edow.client.starting import StartOptions, new_start
from edow.errors import EdowError, InvalidInput
from edow.store.contract import StartRequest, Store

if TYPE_CHECKING:
    import asyncpg

TAKE = (
    "SELECT number, execution, workflow, input, trace FROM {table}"
    " WHERE problem IS NULL ORDER BY number LIMIT $1 FOR UPDATE SKIP LOCKED"
)
DELETE = "DELETE FROM {table} WHERE number = ANY ($1::bigint[])"
REFUSE = "UPDATE {table} SET problem = $2 WHERE number = $1"
ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock(hashtext('edow_outbox'))"  # CREATE ... IF NOT EXISTS alone may collide
PATIENCE = "SET LOCAL idle_in_transaction_session_timeout = '60s'"  # with a forwarder that is suspended

BATCH = 500
POLL_SECONDS = 1.0  # safety net behind notifications
STOP_SECONDS = 10.0
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 30.0
AGAIN = "starts that were not handed on are safe there, and will be"
PAUSES = (0.1, 5.0)  # after trouble: first and longest


log = logging.getLogger("edow.client")


class Settings(msgspec.Struct, frozen=True):
    """Options of the URL, beside asyncpg's own."""

    schema: str = ""  # where the table is; otherwise in the first of the role's search_path


class Forwarder:
    """Of the database at `url`: postgresql://user:password@host/database?schema=NAME. Several may be at work at once.

    Start and stop are idempotent; `run_once` hands on one batch, for those who drive it themselves.
    """

    def __init__(self, url: str, store: Store) -> None:
        """Raises InvalidInput for what is no such URL."""
        self.place = str(Address(url))
        self._url, self._table = _read(Address(url))
        self._store = store
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._news = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._stopping = False

    async def start(self) -> None:
        """Begin, once the table is there. Raises StoreUnavailable, StoreUnusable and InvalidInput."""
        if self._running is None:
            await self._connect()
            self._stopping = False
            self._running = asyncio.create_task(self._run(), name="edow-forwarder")

    async def stop(self) -> None:
        """Finish the batch under way, if that does not take long; else it is handed on again by whoever comes next."""
        running, self._running = self._running, None
        if running is not None:
            self._stopping = True
            self._news.set()
            await asyncio.wait([running], timeout=STOP_SECONDS)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        await self._disconnect()

    async def run_once(self) -> int:
        """Hand on up to a batch; how many there were. The rows go in a transaction that begins before the store is told
        and ends after it has answered: whatever dies in between, they are told again, and the store knows their ids.
        """
        from edow.postgresql.problems import translate

        connection = self._connection or await self._connect()
        try:
            async with connection.transaction():
                await connection.execute(PATIENCE)
                rows = await connection.fetch(self._named(TAKE), BATCH)
                if rows:
                    await self._hand_on(connection, rows)
        except EdowError:
            raise  # the store's
        except Exception as problem:
            await self._disconnect()
            raise translate(problem, f"outbox {self.place}", AGAIN) from problem
        return len(rows)

    async def _hand_on(self, connection: asyncpg.Connection[asyncpg.Record], rows: Sequence[asyncpg.Record]) -> None:
        now = wall_clock()
        requests = [_request(row, self._store.shards, now) for row in rows]
        try:
            await self._store.accept(requests, now)
        except InvalidInput as problem:
            if len(rows) > 1:
                for row in rows:  # it is not known whose fault it was
                    await self._hand_on(connection, [row])
                return
            log.error("%s: the store does not take start %r: %s", self.place, rows[0]["execution"], problem)
            await connection.execute(self._named(REFUSE), rows[0]["number"], str(problem))
        else:
            await connection.execute(self._named(DELETE), [row["number"] for row in rows])

    async def _run(self) -> None:
        pause, longest = PAUSES
        while not self._stopping:
            try:
                self._news.clear()
                if not await self.run_once() and not self._stopping:
                    await self._rest(POLL_SECONDS)
                pause = PAUSES[0]
            except Exception as problem:
                log.warning("%s: starts were not handed on: %s; trying again in %.2g s", self.place, problem, pause)
                await asyncio.sleep(pause)
                pause = min(2 * pause, longest)

    def _named(self, statement: str) -> str:
        return statement.format(table=self._table)

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            pass

    async def _connect(self) -> asyncpg.Connection[asyncpg.Record]:
        import asyncpg

        from edow.postgresql.problems import translate

        try:
            # Without prepared statements, and so behind poolers, too; those pass on no news, and POLL_SECONDS must do.
            connection = await asyncpg.connect(
                self._url, timeout=CONNECT_SECONDS, command_timeout=ANSWER_SECONDS, statement_cache_size=0
            )
            self._connection = connection
            async with connection.transaction():
                await connection.execute(ONE_AT_A_TIME)
                if await connection.fetchval("SELECT to_regclass($1)", self._table) is None:
                    await connection.execute(TABLE.replace("edow_outbox", self._table))
            await connection.add_listener(CHANNEL, lambda *_: self._news.set())
        except Exception as problem:
            await self._disconnect()
            raise translate(problem, f"outbox {self.place}", AGAIN) from problem
        return connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                await connection.close(timeout=1)
            except Exception:
                connection.terminate()


def _read(address: Address) -> tuple[str, str]:
    """A URL for asyncpg, and the table's name."""
    from edow.postgresql.settings import CLIENT_OPTIONS

    if address.scheme not in ("postgresql", "postgres"):
        raise InvalidInput(f"outbox {str(address)!r} is not supported: use postgresql://USER:PASSWORD@HOST/DATABASE")
    settings, others = address.settings(Settings, CLIENT_OPTIONS.__contains__)
    schema = '"' + settings.schema.replace('"', '""') + '".' if settings.schema else ""
    return f"{address.url.partition('?')[0]}?{urlencode(others)}", f"{schema}edow_outbox"


def _request(row: asyncpg.Record, shards: int, now: int) -> StartRequest:
    options = StartOptions(row["execution"], trace=row["trace"])
    body = msgspec.Raw(row["input"].encode())
    return new_start(row["execution"], row["workflow"], body, options, (shards, now))
