"""PostgreSQL's schemas only go forward, like SQLite's: frozen, brought up to date in steps, and newer ones refused."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path

import asyncpg
import pytest

from edow.app import connect_store, connect_transport
from edow.errors import StoreUnusable
from edow.model.message import Message
from edow.postgresql import Schema
from edow.transport.contract import Subscription, TopicSpec
from tests.conformance.postgresql import connection_to, own_schema, schema_of
from tests.conformance.store_suite import begin
from tests.conformance.transport_suite import drain

COMPONENTS = {
    "base": "edow.postgresql",
    "store": "edow.store.postgresql",
    "transport": "edow.transport.postgresql",
}
SNAPSHOTS = Path(__file__).parent

COLUMNS = """
SELECT c.relname, string_agg(
    a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END,
    ', ' ORDER BY a.attnum
)
FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
WHERE c.relnamespace = to_regnamespace($1) AND c.relkind IN ('r', 'v') AND a.attnum > 0 AND NOT a.attisdropped
GROUP BY c.relname ORDER BY c.relname
"""
INDEXES = "SELECT indexdef FROM pg_indexes WHERE schemaname = $1 ORDER BY indexname"
FUNCTIONS = """
SELECT p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ') -> ' || pg_get_function_result(p.oid)
FROM pg_proc AS p WHERE p.pronamespace = to_regnamespace($1) ORDER BY 1
"""


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with own_schema() as url:
        yield url


@pytest.fixture
async def connection(url: str) -> AsyncIterator[asyncpg.Connection]:
    async with connection_to(url) as connection:
        yield connection


async def apply(connection: asyncpg.Connection, url: str, component: str) -> Schema:
    schema = Schema(component, COMPONENTS[component])
    await schema.apply(connection, schema_of(url), "here")
    return schema


async def schema_text(connection: asyncpg.Connection, url: str) -> str:
    """Every table, view, index and function as PostgreSQL has it."""
    name = schema_of(url)
    lines = [f"{table} ({columns})" for table, columns in await connection.fetch(COLUMNS, name)]
    lines += [line for (line,) in await connection.fetch(INDEXES, name)]
    lines += [line for (line,) in await connection.fetch(FUNCTIONS, name)]
    return "".join(f"{line};\n" for line in lines).replace(f"{name}.", "edow.")


@pytest.mark.parametrize("component", COMPONENTS)
async def test_the_schema_is_the_sum_of_its_migrations(
    connection: asyncpg.Connection, url: str, component: str
) -> None:
    """`schema_postgresql_COMPONENT.txt`, the schema one can read in one piece, is what the migrations make."""
    await apply(connection, url, component)
    snapshot = SNAPSHOTS / f"schema_postgresql_{component}.txt"
    assert snapshot.read_text("utf-8") == await schema_text(connection, url)


@pytest.mark.parametrize("component", COMPONENTS)
def test_migrations_are_numbered_without_gaps(component: str) -> None:
    """0001, 0002, ...: the version is how many there are."""
    schema = Schema(component, COMPONENTS[component])
    assert sorted(schema.migrations) == list(range(1, schema.version + 1))


@pytest.mark.parametrize("component", COMPONENTS)
def test_released_migrations_never_change(component: str) -> None:
    """Databases in the field have run them: what is to change is a new migration."""
    folder = files(COMPONENTS[component]).joinpath("migrations")
    frozen = (SNAPSHOTS / f"frozen_postgresql_{component}.txt").read_text("utf-8").splitlines()
    for name, digest in dict(line.split() for line in frozen).items():
        assert hashlib.sha256(folder.joinpath(name).read_bytes()).hexdigest() == digest, name


async def test_an_older_schema_is_migrated_in_steps(connection: asyncpg.Connection, url: str) -> None:
    """Only what is missing is run, in order, and a migration that fails leaves the database as it was."""
    schema = await apply(connection, url, "store")
    last = schema.version
    schema.migrations[last + 1] = "CREATE TABLE edow.later (x integer); INSERT INTO edow.later VALUES (1);"
    for _ in range(2):
        await schema.apply(connection, schema_of(url), "here")
        assert [row["x"] for row in await connection.fetch("SELECT x FROM later")] == [1]
    schema.migrations[last + 2] = "CREATE TABLE edow.even_later (x integer);\nINSERT INTO edow.nowhere VALUES (1);"
    with pytest.raises(asyncpg.UndefinedTableError):
        await schema.apply(connection, schema_of(url), "here")
    assert await connection.fetchval("SELECT to_regclass('even_later')") is None
    assert await connection.fetchval("SELECT version FROM versions WHERE component = 'store'") == last + 1


async def test_a_commit_is_known_after_the_migration(connection: asyncpg.Connection, url: str) -> None:
    """Whoever heard no answer before it may ask after it: the stamps of commits move with their shards."""
    schema = Schema("store", COMPONENTS["store"])
    newer = {number: schema.migrations.pop(number) for number in list(schema.migrations) if number > 4}
    await schema.apply(connection, schema_of(url), "here")
    await connection.execute("INSERT INTO leases (shard, owner, epoch, until, stamp) VALUES (0, 'us', 7, 9, 42)")
    schema.migrations |= newer
    await schema.apply(connection, schema_of(url), "here")
    with pytest.raises(asyncpg.PostgresError, match="applied before"):
        await connection.execute("SELECT fence('{0}', '{7}', 42)")
    await connection.execute("SELECT fence('{0}', '{7}', 43)")


async def test_a_broken_migration_lets_the_next_one_in(url: str) -> None:
    """Several processes may migrate at once; one that fails on the way does not keep the others out."""
    broken = Schema("store", COMPONENTS["store"])
    broken.migrations[broken.version + 1] = "SELECT 1/0"
    async with connection_to(url) as first, connection_to(url) as second:
        outcomes = await asyncio.gather(
            broken.apply(first, schema_of(url), "here"), apply(second, url, "store"), return_exceptions=True
        )
    assert isinstance(outcomes[0], asyncpg.DivisionByZeroError)
    assert isinstance(outcomes[1], Schema)


@pytest.mark.parametrize("component", ["store", "transport"])
async def test_a_newer_schema_is_refused(connection: asyncpg.Connection, url: str, component: str) -> None:
    """The error names the place, both versions and the remedy, and no password; the schema is untouched."""
    make = {"store": connect_store, "transport": connect_transport}[component]
    driver = make(url)
    await driver.open()
    await driver.close()
    await connection.execute("UPDATE versions SET version = 99 WHERE component = $1", component)
    said = rf"{re.escape(schema_of(url))} has {component} schema 99.*newer release"
    with pytest.raises(StoreUnusable, match=said):
        await make(url).open()
    assert await connection.fetchval("SELECT version FROM versions WHERE component = $1", component) == 99


async def test_store_and_transport_are_versioned_apart(connection: asyncpg.Connection, url: str) -> None:
    """Each makes what is its own, in any order."""
    transport, store = connect_transport(url), connect_store(url)
    await transport.open()
    await transport.ensure([TopicSpec("t", ("g",))])
    await transport.publish([Message("t", b"x")])
    assert await connection.fetchval("SELECT to_regclass('executions')") is None
    await store.open()
    await begin(store, "a")
    assert await drain(await transport.subscribe(Subscription(topics=("t",), group="g")), 1) == [b"x"]
    rows = await connection.fetch("SELECT component FROM versions ORDER BY component")
    assert [row["component"] for row in rows] == ["base", "store", "transport"]
    await transport.close()
    await store.close()
