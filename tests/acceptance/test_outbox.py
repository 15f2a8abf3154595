"""`edow orchestrator --outbox`: starts that were committed in a database of the user's own, through real processes."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

import edow
from edow.client import Client
from edow.testing.polling import until
from edow.testing.processes import Fleet, Role, Service
from tests.acceptance.commands import edow_command
from tests.acceptance.outbox_flow import follow_up
from tests.servers import server_url

FLOW = "tests.acceptance.outbox_flow"
MANY = 300


@pytest.fixture
async def shop() -> AsyncIterator[str]:
    """A database of the program's own, without anything of EDOW; its URL."""
    name, place = f"shop_{uuid4().hex[:8]}", server_url("EDOW_POSTGRES").rpartition("/")[0]
    admin = await asyncpg.connect(f"{place}/postgres")
    await admin.execute(f"CREATE DATABASE {name}")
    yield f"{place}/{name}"
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """Where tasks write their numbers."""
    path = tmp_path / "notes.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE notes (number integer)")
    return path


@asynccontextmanager
async def serving(shop: str, notes: Path, *roles: Role) -> AsyncIterator[tuple[Fleet, Client, list[Service]]]:
    """Processes on a store beside the notes, with the shop's outbox."""
    store, environment = f"sqlite:///{notes.parent}/edow.db", {"EDOW_OUTBOX": shop, "NOTES": str(notes)}
    async with Fleet([FLOW], store, notes.parent, environment=environment) as fleet, Client(store) as client:
        services = [await fleet.start(role) for role in roles]
        for service in services:
            await fleet.during(service.ready())
        yield fleet, client, services


async def test_committed_starts_run_once_although_orchestrators_are_killed(shop: str, notes: Path) -> None:
    """Two orchestrators empty the outbox; one is killed while starts keep coming. What was committed has run, what was
    rolled back has not, and the table is empty.
    """
    serve = serving(shop, notes, "orchestrator", "orchestrator", "worker")
    async with serve as (fleet, client, services), connected(shop) as connection:
        await commit(connection, range(MANY // 2))
        killing = asyncio.create_task(services[0].kill())
        await commit(connection, range(MANY // 2, MANY))
        await killing

        async def all_ended() -> bool:
            rows = [row async for row in client.list()]
            return len(rows) == MANY and all(row.status == "completed" for row in rows)

        await fleet.during(until(all_ended, 0.1))
        assert await connection.fetchval("SELECT count(*) FROM edow_outbox") == 0
    with closing(sqlite3.connect(notes)) as reading:
        assert sorted(row[0] for row in reading.execute("SELECT number FROM notes")) == list(range(MANY))


async def commit(connection: asyncpg.Connection, numbers: range) -> None:
    """Each in a transaction of its own; every start of a number that is not ours is taken back."""
    for number in numbers:
        async with connection.transaction():
            await edow.start_in(connection, follow_up.with_options(id=f"order-{number}"), number)
        transaction = connection.transaction()
        await transaction.start()
        await edow.start_in(connection, follow_up, -1)
        await transaction.rollback()


@pytest.mark.parametrize(
    ("outbox", "said"),
    [
        ("mysql://root:geheim@h/d", "mysql://root:***@h/d' is not supported"),
        ("postgresql://edow:geheim@127.0.0.1:1/shop", "outbox postgresql://edow:***@127.0.0.1:1/shop does not answer"),
        ("SHOP/nowhere", "create the database"),
        ("postgresql://edow:geheim@PLACE/postgres", "correct user and password"),
        ("SHOP?poll=1", "there is no option 'poll'; there are: schema"),
    ],
)
def test_an_outbox_that_cannot_be_used_is_told_at_start(tmp_path: Path, outbox: str, said: str) -> None:
    """Exit code 1, what is wrong and what to do, and no password."""
    base = server_url("EDOW_POSTGRES")
    place = base.rpartition("@")[2].partition("/")[0]
    url = outbox.replace("SHOP/", base.rpartition("/")[0] + "/").replace("SHOP", base).replace("PLACE", place)
    run = edow_command("orchestrator", FLOW, "--store", f"sqlite:///{tmp_path}/edow.db", "--outbox", url)
    assert run.returncode == 1, run.stderr
    shown = run.stderr.replace("\nhint: ", "; ")
    assert said in shown
    assert "geheim" not in shown
    assert "Traceback" not in shown
    assert "internal error" not in shown


async def test_an_orchestrator_goes_on_while_the_outbox_is_away(shop: str, notes: Path) -> None:
    """Its own executions do not wait for it; when the database lets it in again, so do the starts from there."""
    place, name = shop.rsplit("/", 1)
    async with (
        serving(shop, notes, "orchestrator", "worker") as (fleet, client, _),
        connected(f"{place}/postgres") as admin,
    ):
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        handle = await client.start(follow_up, 1)
        assert await fleet.during(handle.result()) == 1
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        async with connected(shop) as connection, connection.transaction():
            id = await edow.start_in(connection, follow_up, 2)

        async def arrived() -> bool:
            return id in [row.id async for row in client.list()]

        await fleet.during(until(arrived, 0.05))
        assert await fleet.during(client.get(id).result()) == 2


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()
