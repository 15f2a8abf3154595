"""`edow.once` on PostgreSQL: one effect, one transaction, one time, whatever dies in between."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass

import asyncpg
import pytest

import edow
from edow.errors import InvalidInput, WrongState
from edow.workflow.context import TaskContext, current_context
from tests.conformance.postgresql import connection_to, own_schema, schema_of

BOUNDARIES = ("before", "begun", "applied", "committed")


@dataclass
class Receipt:
    number: int


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """A database with an account that has 100."""
    async with own_schema() as url:
        async with connection_to(url) as connection:
            await connection.execute(
                f"CREATE SCHEMA {schema_of(url)}; CREATE TABLE account AS SELECT 100::integer AS balance"
            )
        yield url


@pytest.fixture
async def bank(url: str) -> AsyncIterator[asyncpg.Connection]:
    async with connection_to(url) as connection:
        yield connection


@pytest.fixture
async def other(url: str) -> AsyncIterator[asyncpg.Connection]:
    async with connection_to(url) as connection:
        yield connection


@pytest.fixture
def attempt() -> Iterator[threading.Event]:
    """The code runs in an attempt; setting the event gives that up."""
    cancelled = threading.Event()
    token = current_context.set(make_context(cancelled))
    yield cancelled
    current_context.reset(token)


def make_context(cancelled: threading.Event) -> TaskContext:
    return TaskContext(
        execution="e",
        run=1,
        step="pay",
        task="pay",
        attempt=2,
        idempotency_key="e/1/pay",
        cancelled=cancelled,
        send_heartbeat=lambda _: None,
    )


async def withdraw(connection: asyncpg.Connection) -> None:
    await connection.execute("UPDATE account SET balance = balance - 10")


async def balance(connection: asyncpg.Connection) -> int:
    return await connection.fetchval("SELECT balance FROM account")


async def pay(connection: asyncpg.Connection) -> bool:
    async with edow.once(connection) as effect:
        if effect:
            await withdraw(connection)
    return bool(effect)


async def pay_and(connection: asyncpg.Connection, then: Callable[[], Awaitable[object]]) -> None:
    async with edow.once(connection):
        await withdraw(connection)
        await then()


async def fail() -> None:
    raise ZeroDivisionError


async def test_applied_once(bank: asyncpg.Connection, other: asyncpg.Connection, attempt: threading.Event) -> None:
    """The first block applies and commits, later ones see that it was applied and what it saved."""
    async with edow.once(bank) as effect:
        assert effect
        await withdraw(bank)
        effect.save(Receipt(7))
    for connection in (bank, other):
        async with edow.once(connection) as effect:
            assert not effect
            assert effect.saved == {"number": 7}
            assert effect.saved_as(Receipt) == Receipt(7)
    assert await balance(other) == 90
    rows = await other.fetch("SELECT key, attempt, value FROM edow_effects")
    assert [tuple(row) for row in rows] == [("e/1/pay", 2, '{"number":7}')]


async def test_a_part_of_an_open_transaction(
    bank: asyncpg.Connection, other: asyncpg.Connection, attempt: threading.Event
) -> None:
    """Inside a transaction of the task's own the effect is applied when that commits, and undone with it."""

    async def undone() -> None:
        async with bank.transaction():
            assert await pay(bank)
            await fail()

    with pytest.raises(ZeroDivisionError):
        await undone()
    assert await balance(other) == 100
    async with bank.transaction():
        await bank.execute("CREATE TABLE beside (x integer)")
        assert await pay(bank)
        assert await balance(other) == 100
    assert await balance(other) == 90
    async with bank.transaction():
        assert not await pay(bank)
        await bank.execute("INSERT INTO beside VALUES (1)")
    assert await other.fetchval("SELECT count(*) FROM beside") == 1
    assert await balance(other) == 90


async def test_rolled_back_on_an_exception(bank: asyncpg.Connection, attempt: threading.Event) -> None:
    """An exception in the block, also one of the server's, undoes the effect and the note of it."""
    with pytest.raises(ZeroDivisionError):
        await pay_and(bank, fail)
    with pytest.raises(asyncpg.UndefinedTableError):
        await pay_and(bank, lambda: bank.execute("SELECT * FROM nowhere"))
    assert await balance(bank) == 100
    assert await pay(bank)
    assert await balance(bank) == 90


async def test_a_second_attempt_waits_for_the_first(
    bank: asyncpg.Connection, other: asyncpg.Connection, attempt: threading.Event
) -> None:
    """Two attempts at the same time apply it once; if the first rolls back, the second applies it."""
    for fails in (True, False):
        second: asyncio.Task[bool] | None = None
        try:
            async with edow.once(bank, str(fails)) as effect:
                assert effect
                await withdraw(bank)
                second = asyncio.create_task(again(other, str(fails)))
                await asyncio.wait([second], timeout=0.1)
                assert not second.done()
                if fails:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            pass
        assert second is not None
        assert await second is fails
    assert await balance(bank) == 80


async def again(connection: asyncpg.Connection, name: str) -> bool:
    async with edow.once(connection, name) as effect:
        if effect:
            await withdraw(connection)
    return bool(effect)


async def test_many_make_the_table_at_the_same_time(url: str) -> None:
    """The first use in a database makes the table, whoever comes first; all effects are applied."""

    async def apply(number: int) -> None:
        async with connection_to(url) as connection, edow.once(connection, key=f"key-{number}") as effect:
            assert effect
            await withdraw(connection)

    await asyncio.gather(*(apply(number) for number in range(8)))
    async with connection_to(url) as connection:
        assert await balance(connection) == 20


async def test_a_role_that_may_not_make_the_table_is_told_how(
    bank: asyncpg.Connection, url: str, attempt: threading.Event
) -> None:
    """The error holds the statement that somebody else has to run."""
    role = f"weak_{schema_of(url)}"
    await bank.execute(f"CREATE ROLE {role}; GRANT USAGE ON SCHEMA {schema_of(url)} TO {role}")
    try:
        await bank.execute(f"SET ROLE {role}")
        with pytest.raises(InvalidInput, match="CREATE TABLE IF NOT EXISTS edow_effects"):
            async with edow.once(bank):
                pass
    finally:
        await bank.execute(f"RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")


async def test_a_block_that_does_not_ask(
    bank: asyncpg.Connection, attempt: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    """A block that writes without asking whether it may is still applied once, and is told."""
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            async with edow.once(bank):
                await withdraw(bank)
    assert await balance(bank) == 90
    assert "had been applied before" in caplog.text


async def test_stale_attempt(bank: asyncpg.Connection, attempt: threading.Event) -> None:
    """An attempt that was given up cannot apply, neither begin nor commit."""

    async def give_up() -> None:
        attempt.set()

    with pytest.raises(WrongState, match="attempt 2 of step pay"):
        await pay_and(bank, give_up)
    with pytest.raises(WrongState, match="was not begun"):
        await pay_and(bank, give_up)
    assert await balance(bank) == 100
    assert not bank.is_in_transaction()


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
async def test_transaction_ended_within_the_block(bank: asyncpg.Connection, attempt: threading.Event, end: str) -> None:
    """Ending the transaction within the block is an error that says so; the connection can be used on."""
    with pytest.raises(WrongState, match="ended within the block"):
        await pay_and(bank, lambda: bank.execute(end))
    async with bank.transaction():
        assert await bank.fetchval("SELECT 1") == 1


async def test_a_connection_from_a_pool(url: str, attempt: threading.Event) -> None:
    """What a pool hands out works, the pool itself is refused with the remedy."""
    settings = {"search_path": schema_of(url)}
    async with asyncpg.create_pool(url.partition("?")[0], min_size=1, max_size=1, server_settings=settings) as pool:
        with pytest.raises(InvalidInput, match="take a connection from the pool first"):
            edow.once(pool)  # type: ignore[call-overload]
        for first in (True, False):
            async with pool.acquire() as connection:
                assert await pay(connection) is first


@pytest.mark.parametrize("boundary", BOUNDARIES)
async def test_a_process_killed_at_any_moment(bank: asyncpg.Connection, url: str, boundary: str) -> None:
    """`kill -9` before, within and after the block: whoever tries again next leaves it applied once."""
    for moment in (boundary, "never"):
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.integration.test_ledger_postgresql", url, moment, stdout=subprocess.PIPE
        )
        output, _ = await child.communicate()
        assert child.returncode == (0 if moment == "never" else -signal.SIGKILL)
    assert output.decode().split() == ["saved", "5"]
    assert await balance(bank) == 90


async def main(url: str, moment: str) -> None:
    """The child: pays, and dies at the moment."""

    def passing(here: str) -> None:
        if here == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    current_context.set(make_context(threading.Event()))
    async with connection_to(url) as connection:
        passing("before")
        async with edow.once(connection) as effect:
            passing("begun")
            if effect:
                await withdraw(connection)
                effect.save(5)
            passing("applied")
        passing("committed")
    print("saved", effect.saved)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
