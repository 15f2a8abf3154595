"""Schemas only go forward: each migration is frozen, older databases are brought up to date, newer ones refused."""

import hashlib
import re
import sqlite3
from importlib.resources import files
from pathlib import Path

import pytest

from edow.errors import StoreUnusable
from edow.model.message import Message
from edow.sqlite import Schema, SqliteFile
from edow.store.sqlite import SqliteStore
from edow.transport.contract import Subscription, TopicSpec
from edow.transport.sqlite import SqliteTransport
from tests.conformance.store_suite import begin
from tests.conformance.transport_suite import drain

COMPONENTS = {"store": "edow.store.sqlite", "transport": "edow.transport.sqlite"}
SNAPSHOTS = Path(__file__).parent


def schema_of(connection: sqlite3.Connection) -> str:
    """Every table and index as SQLite has it, without comments and layout."""
    rows = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name").fetchall()
    plain = (re.sub(r"\s+", " ", re.sub(r"--[^\n]*", "", sql)).replace("( ", "(").replace(" )", ")") for (sql,) in rows)
    return "".join(f"{sql};\n" for sql in plain)


def migrated(component: str) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    Schema(component, COMPONENTS[component]).apply(connection, "memory")
    return connection


@pytest.mark.parametrize("component", COMPONENTS)
def test_the_schema_is_the_sum_of_its_migrations(component: str) -> None:
    """`schema_COMPONENT.sql`, the schema one can read in one piece, is what the migrations make."""
    assert (SNAPSHOTS / f"schema_{component}.sql").read_text("utf-8") == schema_of(migrated(component))


@pytest.mark.parametrize("component", COMPONENTS)
def test_migrations_are_numbered_without_gaps(component: str) -> None:
    """0001, 0002, ...: the version is how many there are."""
    schema = Schema(component, COMPONENTS[component])
    assert sorted(schema.migrations) == list(range(1, schema.version + 1))


@pytest.mark.parametrize("component", COMPONENTS)
def test_released_migrations_never_change(component: str) -> None:
    """Databases in the field have run them: what is to change is a new migration."""
    folder = files(COMPONENTS[component]).joinpath("migrations")
    frozen = dict(line.split() for line in (SNAPSHOTS / f"frozen_{component}.txt").read_text("utf-8").splitlines())
    for name, digest in frozen.items():
        assert hashlib.sha256(folder.joinpath(name).read_bytes()).hexdigest() == digest, name


@pytest.mark.parametrize("component", COMPONENTS)
def test_applying_twice_changes_nothing(component: str) -> None:
    """A database that is up to date is left alone."""
    connection = migrated(component)
    before = "\n".join(connection.iterdump())
    Schema(component, COMPONENTS[component]).apply(connection, "memory")
    assert "\n".join(connection.iterdump()) == before


def test_an_older_schema_is_migrated_in_steps(tmp_path: Path) -> None:
    """Only what is missing is run, in order, and a migration that fails leaves the database as it was."""
    schema = Schema("store", COMPONENTS["store"])
    connection = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    schema.apply(connection, "a.db")
    schema.migrations = {
        **schema.migrations,
        schema.version + 1: "CREATE TABLE later (x);\nINSERT INTO later\nVALUES (1);",
    }
    schema.apply(connection, "a.db")
    assert connection.execute("SELECT x FROM later").fetchall() == [(1,)]
    schema.apply(connection, "a.db")
    assert connection.execute("SELECT x FROM later").fetchall() == [(1,)]
    schema.migrations[schema.version + 1] = "CREATE TABLE even_later (x);\nINSERT INTO nowhere VALUES (1);"
    connection.execute("BEGIN")
    with pytest.raises(sqlite3.OperationalError):
        schema.apply(connection, "a.db")
    connection.execute("ROLLBACK")
    assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'even_later'").fetchone() == (0,)


@pytest.mark.parametrize("component", COMPONENTS)
async def test_a_newer_schema_is_refused(tmp_path: Path, component: str) -> None:
    """The error names the file, both versions and the remedy; the file is untouched."""
    path = tmp_path / "edow.db"
    made = {"store": SqliteStore, "transport": SqliteTransport}[component]
    driver = made(SqliteFile(path))
    await driver.open()
    await driver.close()
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE edow_schema SET version = 99 WHERE component = ?", (component,))
    connection.close()
    with pytest.raises(StoreUnusable, match=rf"{re.escape(str(path))} has {component} schema 99.*newer release"):
        await made(SqliteFile(path)).open()
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT version FROM edow_schema").fetchall() == [(99,)]
    connection.close()


async def test_store_and_transport_are_versioned_apart(tmp_path: Path) -> None:
    """Each opens what is its own: together in one file, or in two."""
    shared, alone = SqliteFile(tmp_path / "shared.db"), SqliteFile(tmp_path / "alone.db")
    store = SqliteStore(shared)
    transports = [SqliteTransport(shared), SqliteTransport(alone)]
    await store.open()
    for transport in transports:
        await transport.open()
        await transport.ensure([TopicSpec("t", ("g",))])
        await transport.publish([Message("t", b"x")])
        assert await drain(await transport.subscribe(Subscription(topics=("t",), group="g")), 1) == [b"x"]
        await transport.close()
    await begin(store, "a")
    await store.close()
    found = {}
    for name in ("shared", "alone"):
        connection = sqlite3.connect(tmp_path / f"{name}.db")
        found[name] = dict(connection.execute("SELECT component, version FROM edow_schema").fetchall()).keys()
        connection.close()
    assert found == {"shared": {"store", "transport"}, "alone": {"transport"}}
