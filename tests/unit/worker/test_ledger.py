"""`edow.once`: one effect, one transaction, one time."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edow.errors import InvalidInput, WrongState
from edow.worker.ledger import Once, once
from edow.workflow.context import TaskContext, current_context


@dataclass
class Receipt:
    number: int


NEWER = hasattr(sqlite3, "LEGACY_TRANSACTION_CONTROL")  # Connection.autocommit came with Python 3.12
MODES = ["legacy", "no isolation level", *(["autocommit"] if NEWER else [])]


@pytest.fixture(params=MODES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A connection in each of the modes that Python offers."""
    path = tmp_path / "own.db"
    if request.param == "legacy":
        connection = sqlite3.connect(path)
    elif request.param == "no isolation level":
        connection = sqlite3.connect(path, isolation_level=None)
    else:
        connection = sqlite3.connect(path, autocommit=True)
    connection.execute("CREATE TABLE account (balance INTEGER)")
    connection.execute("INSERT INTO account VALUES (100)")
    if connection.in_transaction:
        connection.commit()
    yield connection
    connection.close()


@pytest.fixture
def attempt() -> Iterator[threading.Event]:
    """The code runs in an attempt; setting the event gives that up."""
    cancelled = threading.Event()
    context = TaskContext(
        execution="e",
        run=1,
        step="pay",
        task="pay",
        attempt=2,
        idempotency_key="e/1/pay",
        cancelled=cancelled,
        send_heartbeat=lambda _: None,
    )
    token = current_context.set(context)
    yield cancelled
    current_context.reset(token)


def balance(connection: sqlite3.Connection) -> int:
    """As another connection sees it: committed."""
    (path,) = [row[2] for row in connection.execute("PRAGMA database_list")]
    other = sqlite3.connect(path)
    try:
        return other.execute("SELECT balance FROM account").fetchone()[0]
    finally:
        other.close()


def withdraw(connection: Any) -> Any:
    return connection.execute("UPDATE account SET balance = balance - 10")


def effects(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
    return connection.execute("SELECT key, attempt, value FROM edow_effects ORDER BY key").fetchall()


def test_applied_once(database: sqlite3.Connection, attempt: threading.Event) -> None:
    """The first block applies, later ones see that it was applied and what it saved."""
    with once(database) as effect:
        assert effect
        withdraw(database)
        effect.save(Receipt(7))
    for _ in range(2):
        with once(database) as effect:
            assert not effect
            assert effect.saved == {"number": 7}
            assert effect.saved_as(Receipt) == Receipt(7)
    assert balance(database) == 90
    assert effects(database) == [("e/1/pay", 2, '{"number":7}')]


async def test_async_with(database: sqlite3.Connection, attempt: threading.Event) -> None:
    """`async with` does the same."""
    for _ in range(2):
        async with once(database) as effect:
            if effect:
                withdraw(database)
                await asyncio.sleep(0)
    assert balance(database) == 90


async def test_awaited_verbs(tmp_path: Path, attempt: threading.Event) -> None:
    """A connection whose verbs are awaited works with `async with`, and is refused by `with`."""

    class Cursor:
        def __init__(self, cursor: sqlite3.Cursor) -> None:
            self._cursor = cursor
            self.rowcount = cursor.rowcount
            self.row_factory: object = "something"

        async def fetchone(self) -> object:
            assert self.row_factory is None
            return self._cursor.fetchone()

    class Awaited:
        def __init__(self, connection: sqlite3.Connection) -> None:
            self._connection = connection

        def __getattr__(self, name: str) -> object:
            return getattr(self._connection, name)

        async def execute(self, *args: Any) -> Cursor:
            return Cursor(self._connection.execute(*args))

        async def commit(self) -> None: ...

        async def rollback(self) -> None: ...

    connection = sqlite3.connect(tmp_path / "own.db")
    connection.execute("CREATE TABLE account AS SELECT 100 AS balance")
    connection.commit()
    awaited = Awaited(connection)
    saved = []
    for _ in range(2):
        async with once(awaited) as effect:
            if effect:
                await withdraw(awaited)
                effect.save(5)
        saved.append(effect.saved)
    with pytest.raises(InvalidInput, match="async with"), once(awaited):
        pass
    assert (balance(connection), saved) == (90, [5, 5])
    connection.close()


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_rolled_back_on_an_exception(
    database: sqlite3.Connection, attempt: threading.Event, asynchronous: bool
) -> None:
    """An exception in the block undoes the effect and the note of it; the next attempt applies it."""
    block: Once = once(database)

    async def fails() -> None:
        if asynchronous:
            async with block:
                withdraw(database)
                raise ZeroDivisionError
        with block:
            withdraw(database)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fails()
    assert balance(database) == 100
    with once(database) as effect:
        assert effect
        withdraw(database)
    assert balance(database) == 90


def test_several_effects_of_a_step(database: sqlite3.Connection, attempt: threading.Event) -> None:
    """Names tell the effects of one step apart."""
    for name in ("debit", "credit", "debit"):
        with once(database, name) as effect:
            if effect:
                withdraw(database)
    assert balance(database) == 80
    assert [row[0] for row in effects(database)] == ["e/1/pay:credit", "e/1/pay:debit"]


def test_a_block_that_does_not_ask(
    database: sqlite3.Connection, attempt: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    """A block that writes without asking whether it may is still applied once, and is told."""
    for _ in range(2):
        with once(database):
            withdraw(database)
    assert balance(database) == 90
    assert "had been applied before" in caplog.text


def test_stale_attempt(database: sqlite3.Connection, attempt: threading.Event) -> None:
    """An attempt that was given up cannot apply, neither begin nor commit."""

    def given_up_meanwhile() -> None:
        with once(database):
            withdraw(database)
            attempt.set()

    with pytest.raises(WrongState, match="attempt 2 of step pay"):
        given_up_meanwhile()
    with pytest.raises(WrongState, match="was not begun"), once(database):
        withdraw(database)
    assert balance(database) == 100
    assert not database.in_transaction


def test_in_the_middle_of_a_transaction(database: sqlite3.Connection, attempt: threading.Event) -> None:
    """A connection with an open transaction is refused, and that transaction is left alone."""
    database.execute("BEGIN")
    withdraw(database)
    with pytest.raises(WrongState, match="in the middle of a transaction"), once(database):
        pass
    assert database.in_transaction
    database.execute("COMMIT")
    assert balance(database) == 90


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_transaction_ended_within_the_block(database: sqlite3.Connection, attempt: threading.Event, end: str) -> None:
    """Ending the transaction within the block is an error that says so."""

    def ends_it() -> None:
        with once(database):
            withdraw(database)
            database.execute(end)

    with pytest.raises(WrongState, match="ended within the block"):
        ends_it()


def test_outside_a_task(database: sqlite3.Connection) -> None:
    """Outside a task there is no key: an error, unless one is given."""
    with pytest.raises(WrongState, match="give key="):
        once(database)
    with once(database, key="mine") as effect:
        assert effect
    assert effects(database) == [("mine", 0, None)]


def test_not_a_connection(attempt: threading.Event) -> None:
    """Anything else than a connection is refused by name."""
    with pytest.raises(InvalidInput, match=r"str.*sqlite3\.Connection"):
        once("own.db")


def test_own_row_factory(database: sqlite3.Connection, attempt: threading.Event) -> None:
    """The connection's own row factory does not matter."""
    database.row_factory = lambda cursor, row: {"never": "used"}
    for _ in range(2):
        with once(database) as effect:
            if effect:
                effect.save([1])
    assert effect.saved == [1]


def test_saving_twice(database: sqlite3.Connection, attempt: threading.Event) -> None:
    """What was saved with an effect cannot be replaced by a later attempt."""
    with once(database):
        pass
    with once(database) as effect, pytest.raises(WrongState, match="cannot be replaced"):
        effect.save(1)
    assert effect.saved is None


def test_locked_database(database: sqlite3.Connection, attempt: threading.Event) -> None:
    """While somebody else writes, the error is SQLite's own and nothing is left open."""
    (path,) = [row[2] for row in database.execute("PRAGMA database_list")]
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    database.execute("PRAGMA busy_timeout = 1")
    with pytest.raises(sqlite3.OperationalError, match="locked"), once(database):
        pass
    other.execute("ROLLBACK")
    other.close()
    assert not database.in_transaction
    with once(database) as effect:
        assert effect


def test_concurrent_attempts(database: sqlite3.Connection, attempt: threading.Event) -> None:
    """Of two attempts at the same time exactly one applies."""
    (path,) = [row[2] for row in database.execute("PRAGMA database_list")]
    context = current_context.get()
    start = threading.Barrier(4)
    applied: list[bool] = []

    def run() -> None:
        current_context.set(context)
        own = sqlite3.connect(path)
        start.wait()
        with once(own) as effect:
            if effect:
                withdraw(own)
        applied.append(bool(effect))
        own.close()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(applied) == [False, False, False, True]
    assert balance(database) == 90


@pytest.mark.skipif(not NEWER, reason="came with Python 3.12")
def test_always_in_a_transaction(tmp_path: Path, attempt: threading.Event) -> None:
    """A connection with autocommit=False, always within a transaction, is used as it is."""
    connection = sqlite3.connect(tmp_path / "own.db", autocommit=False)
    connection.execute("CREATE TABLE account AS SELECT 100 AS balance")
    connection.commit()
    for _ in range(2):
        with once(connection) as effect:
            if effect:
                withdraw(connection)
    assert balance(connection) == 90
    connection.close()
