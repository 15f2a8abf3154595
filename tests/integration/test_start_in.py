"""`edow.start_in`: what a program changes, and the execution that follows from it, become true together or not."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

import edow
from edow.app import System, connect_store
from edow.client import Client
from edow.client.forwarder import Forwarder
from edow.client.outbox import Outbox
from edow.errors import AlreadyExists, InvalidInput, NotFound, SignatureMismatch, StoreUnavailable, WrongState
from edow.model import inbox
from edow.sqlite import SqliteFile
from edow.store.contract import Answer, Request, Store
from edow.store.sqlite import SqliteStore
from tests.conformance.postgresql import connection_to, own_schema, schema_of
from tests.conformance.store_suite import SOON, all_inbox
from tests.forks import Fork
from tests.integration import forwarder_child
from tests.integration.system import registry_of

BOUNDARIES = ("before", "accepted", "forwarded")


@edow.task
async def double(number: int) -> int:
    return 2 * number


@edow.workflow
async def follow_up(number: int) -> int:
    return await double(number)


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """A database of the program's own, with a table; nothing of EDOW."""
    async with own_schema() as url:
        async with connection_to(url) as connection:
            await connection.execute(f"CREATE SCHEMA {schema_of(url)}; CREATE TABLE orders (number integer)")
        yield url


@pytest.fixture
async def ours(url: str) -> AsyncIterator[asyncpg.Connection]:
    async with connection_to(url) as connection:
        yield connection


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    """EDOW's store, in the same database."""
    async with opened(connect_store(url)) as store:
        yield store


@pytest.fixture
async def elsewhere(tmp_path: Path) -> AsyncIterator[Store]:
    """EDOW's store, in another database."""
    async with opened(SqliteStore(SqliteFile(tmp_path / "edow.db"))) as store:
        yield store


@asynccontextmanager
async def opened(store: Store) -> AsyncIterator[Store]:
    await store.open()
    yield store
    await store.close()


@asynccontextmanager
async def forwarder(url: str, store: Store) -> AsyncIterator[Forwarder]:
    forwarder = Forwarder(own(url), store)
    await forwarder.start()
    try:
        yield forwarder
    finally:
        await forwarder.stop()


def own(url: str) -> str:
    """Where the program's tables are."""
    return f"{url.partition('?')[0]}?schema={schema_of(url)}"


async def order(connection: asyncpg.Connection, url: str, number: int, **options: Any) -> str:
    await connection.execute("INSERT INTO orders VALUES ($1)", number)
    return await Outbox(schema_of(url)).start(connection, follow_up.with_options(**options), number)


async def waiting(connection: asyncpg.Connection) -> int:
    return await connection.fetchval("SELECT count(*) FROM edow_outbox")


async def started(store: Store, *ids: str) -> list[bool]:
    return [row is not None for row in await store.executions_get(ids)]


# the store in the same database


async def test_a_start_commits_with_what_it_follows_from(ours: asyncpg.Connection, url: str, store: Store) -> None:
    """Nobody sees it before the commit; then its shard's owner is woken, and finds what any start would have left."""
    watch = store.watch("inbox")
    async with ours.transaction():
        id = await order(ours, url, 7)
        assert await started(store, id) == [False]
        assert not await watch.wait(0.05)
    async with asyncio.timeout(SOON):
        assert await watch.wait(SOON)
    (row,) = await store.executions_get([id])
    async with Client(store=store) as client:
        await client.start(follow_up.with_options(id="plain"), 7)
        assert [type(event) for event in await client.history(id)] == [
            type(event) for event in await client.history("plain")
        ]
    (plain,) = await store.executions_get(["plain"])
    assert row is not None
    assert plain is not None
    assert (row.workflow, row.input, row.status, row.events, row.run) == (
        plain.workflow,
        plain.input,
        plain.status,
        plain.events,
        plain.run,
    )
    assert row.wake_at is not None
    assert await all_inbox(store) == [(id, inbox.Start(run=1)), ("plain", inbox.Start(run=1))]
    watch.close()


async def test_a_start_is_undone_with_what_it_follows_from(ours: asyncpg.Connection, url: str, store: Store) -> None:
    """A rollback leaves nothing, and the id may be used again."""

    async def fails() -> None:
        async with ours.transaction():
            await order(ours, url, 7, id="order-7")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fails()
    assert await started(store, "order-7") == [False]
    async with ours.transaction():
        await order(ours, url, 7, id="order-7")
    assert await started(store, "order-7") == [True]


async def test_a_taken_id_attaches_or_is_refused(ours: asyncpg.Connection, url: str, store: Store) -> None:
    """Attaching changes nothing; rejecting raises, and the program decides what becomes of its transaction."""
    for _ in range(2):
        async with ours.transaction():
            assert await order(ours, url, 7, id="order-7") == "order-7"
    async with ours.transaction():
        with pytest.raises(AlreadyExists, match="order-7"):
            await order(ours, url, 8, id="order-7", if_exists="reject")
    assert await all_inbox(store) == [("order-7", inbox.Start(run=1))]
    assert await ours.fetchval("SELECT count(*) FROM orders") == 3


async def test_what_is_started_runs(ours: asyncpg.Connection, url: str) -> None:
    """An orchestrator and a worker on the same database take it from there."""
    async with System(url, url, registry_of(globals())) as system:
        orchestrator, worker = system.orchestrator(), system.worker()
        await orchestrator.start()
        await worker.start()
        async with ours.transaction():
            id = await order(ours, url, 21)
        async with Client(store=system.store) as client, asyncio.timeout(4 * SOON):
            assert await client.get(id).result() == 42
        await worker.stop()
        await orchestrator.stop()


# the store elsewhere


async def test_a_start_waits_in_the_outbox_and_is_forwarded(
    ours: asyncpg.Connection, url: str, elsewhere: Store
) -> None:
    """After the commit the forwarder hands it on, and nothing is left of it."""
    async with forwarder(url, elsewhere) as running:
        async with ours.transaction():
            first = await order(ours, url, 1)
        async with ours.transaction():
            second = await order(ours, url, 2, id="order-2")
        watch = elsewhere.watch("inbox")
        async with asyncio.timeout(SOON):
            while await started(elsewhere, first, second) != [True, True]:
                await watch.wait(SOON)
        await running.stop()
        assert await waiting(ours) == 0
        watch.close()
    assert [id for id, _ in await all_inbox(elsewhere)] == [first, second]


async def test_several_forwarders_share(ours: asyncpg.Connection, url: str, elsewhere: Store) -> None:
    """What one of them is handing on, others leave alone; each start is stored once."""
    forwarders = [Forwarder(own(url), elsewhere) for _ in range(3)]
    await forwarders[0].run_once()  # makes the table
    async with ours.transaction():
        ids = [await order(ours, url, number) for number in range(50)]
    counts = await asyncio.gather(*(each.run_once() for each in forwarders))
    assert sum(counts) == 50
    assert sorted(id for id, _ in await all_inbox(elsewhere)) == sorted(ids)
    for each in forwarders:
        await each.stop()


async def test_a_store_that_is_away_is_waited_for(ours: asyncpg.Connection, url: str, elsewhere: Store) -> None:
    """Starts stay in the outbox meanwhile."""
    store = Away(elsewhere)
    async with forwarder(url, store):
        async with ours.transaction():
            id = await order(ours, url, 1)
        async with asyncio.timeout(SOON):
            await store.asked.wait()
        assert await started(elsewhere, id) == [False]
        store.is_away = False
        watch = elsewhere.watch("inbox")
        async with asyncio.timeout(SOON):
            while await started(elsewhere, id) != [True]:
                await watch.wait(SOON)
        watch.close()


async def test_what_the_store_does_not_take_stops_nobody(ours: asyncpg.Connection, url: str, elsewhere: Store) -> None:
    """A row that somebody has put there by hand stays with the reason; those behind it go on."""
    lone = Forwarder(own(url), elsewhere)
    await lone.run_once()
    await ours.execute(
        "INSERT INTO edow_outbox (execution, workflow, input, trace, at) VALUES ('bad', 'w', '{}', '', 1)"
    )
    async with ours.transaction():
        await order(ours, url, 1, id="good")
    await lone.stop()
    lone = Forwarder(own(url), Picky(elsewhere))
    assert await lone.run_once() == 2
    await lone.stop()
    assert await started(elsewhere, "bad", "good") == [False, True]
    rows = await ours.fetch("SELECT execution, problem FROM edow_outbox")
    assert [tuple(row) for row in rows] == [("bad", "never")]
    await lone.stop()


class Away:
    """A store that cannot be reached for a while."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.is_away = True
        self.asked = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def accept(self, requests: Sequence[Request], now: int) -> list[Answer]:
        self.asked.set()
        if self.is_away:
            raise StoreUnavailable("away")
        return await self._store.accept(requests, now)


class Picky(Away):
    async def accept(self, requests: Sequence[Request], now: int) -> list[Answer]:
        if any(request.execution.id == "bad" for request in requests):  # type: ignore[union-attr]
            raise InvalidInput("never")
        return await self._store.accept(requests, now)


@pytest.mark.parametrize("boundary", BOUNDARIES)
async def test_a_forwarder_killed_at_any_moment(
    ours: asyncpg.Connection, url: str, tmp_path: Path, boundary: str
) -> None:
    """`kill -9` before the store has it, after it, or after the row is gone: each start is stored exactly once."""
    await ours.execute("SELECT 1")
    path = tmp_path / "edow.db"
    for moment in ("never", boundary, "never"):
        code = await Fork(forwarder_child.run, own(url), path, moment).wait()
        assert code == (0 if moment == "never" else -signal.SIGKILL)
        if moment == "never":
            async with ours.transaction():
                for number in range(3):
                    await order(ours, url, number, id=f"order-{number}")
            continue
    async with opened(SqliteStore(SqliteFile(path))) as store:
        assert sorted(id for id, _ in await all_inbox(store)) == [f"order-{number}" for number in range(3)]


# what is refused


async def test_a_database_with_neither_store_nor_outbox(ours: asyncpg.Connection, url: str) -> None:
    """The error holds the statement that makes the outbox; the transaction is not spoiled by it."""
    async with ours.transaction():
        with pytest.raises(NotFound, match="CREATE TABLE IF NOT EXISTS edow_outbox"):
            await order(ours, url, 1)
    assert await ours.fetchval("SELECT count(*) FROM orders") == 1


async def test_outside_a_transaction(ours: asyncpg.Connection, store: Store) -> None:
    """A start that would be committed at once is not what was meant."""
    with pytest.raises(WrongState, match=r"async with connection.transaction\(\)"):
        await edow.start_in(ours, follow_up, 1)


async def test_what_cannot_be_a_part_of_a_transaction(ours: asyncpg.Connection, url: str, elsewhere: Store) -> None:
    """Replacing a run, and rejecting where the store is elsewhere, are refused by name."""
    lone = Forwarder(own(url), elsewhere)
    await lone.run_once()
    await lone.stop()
    async with ours.transaction():
        with pytest.raises(InvalidInput, match="replace"):
            await order(ours, url, 1, id="a", if_exists="replace")
        with pytest.raises(InvalidInput, match="reject"):
            await order(ours, url, 1, id="a", if_exists="reject")
        with pytest.raises(SignatureMismatch):
            await edow.start_in(ours, follow_up, "seven", 8)  # type: ignore[call-arg]


async def test_what_is_no_connection() -> None:
    """Refused by name, a pool with the remedy."""

    class Pool:
        def acquire(self) -> None: ...

    for wrong, said in ((object(), "was given a object"), (Pool(), "take a connection from the pool")):
        with pytest.raises(InvalidInput, match=said):
            await edow.start_in(wrong, follow_up, 1)


# other libraries


async def test_with_psycopg(url: str, store: Store) -> None:
    """An asynchronous connection of psycopg's, which begins transactions by itself."""
    connection = await psycopg.AsyncConnection.connect(url.partition("?")[0])
    outbox = Outbox(schema_of(url))
    id = await outbox.start(connection, follow_up, 1)
    await connection.rollback()
    assert await started(store, id) == [False]
    async with connection.transaction():
        id = await outbox.start(connection, follow_up, 1)
    await connection.commit()
    assert await started(store, id) == [True]
    await connection.set_autocommit(True)
    with pytest.raises(WrongState):
        await outbox.start(connection, follow_up, 1)
    await connection.close()


async def test_with_sqlalchemy(url: str, store: Store) -> None:
    """A session or connection of SQLAlchemy's asyncio extension."""
    engine = create_async_engine(url.partition("?")[0].replace("postgresql:", "postgresql+asyncpg:"))
    outbox = Outbox(schema_of(url))
    async with AsyncSession(engine) as session:
        undone = await outbox.start(session, follow_up, 1)
        await session.rollback()
        async with session.begin():
            done = await outbox.start(session, follow_up, 1)
    async with engine.begin() as connection:
        also = await outbox.start(connection, follow_up, 1)
    assert await started(store, undone, done, also) == [False, True, True]
    await engine.dispose()
