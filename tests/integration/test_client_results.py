"""The client: waiting for results."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass

import msgspec
import pytest

import edow
from edow.client import Client
from edow.client.waiter import CHUNK, CROWD, PATIENCE, EndWaiter
from edow.errors import Closed, StoreUnavailable
from edow.model import history
from edow.model.execution import Status
from edow.model.failure import Failure
from tests.integration.memory_store import MemoryStore


@dataclass
class Parcel:
    weight: float


@edow.workflow
async def ship(number: int) -> Parcel:
    return Parcel(number)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def client(store):
    async with Client(store=store) as client:
        yield client


async def waiting(store: MemoryStore) -> None:
    """Until the client has looked and waits for a wake-up."""
    store.waited.clear()
    await store.waited.wait()


async def test_a_result_is_typed(client, store):
    """A handle from a typed start gives the workflow's return type, one from an id plain JSON."""
    handle = await client.start(ship, 7)
    store.end(handle.id, Status.COMPLETED, b'{"weight":7.5}')
    assert await handle.result() == Parcel(7.5)
    assert await client.get(handle.id).result() == {"weight": 7.5}


async def test_a_result_arrives_with_its_notification(client, store):
    """Whoever waits is woken by the commit that ends the execution."""
    handle = await client.start(ship, 7)
    result = asyncio.create_task(handle.result())
    await waiting(store)
    store.end(handle.id, Status.COMPLETED, b'{"weight":1}')
    assert await result == Parcel(1)


async def test_a_lost_notification_costs_a_poll(client, store, monkeypatch):
    """An end without notification is found by the safety poll."""
    monkeypatch.setattr("edow.client.waiter.POLL_SECONDS", 0.01)
    handle = await client.start(ship, 7)
    result = asyncio.create_task(handle.result())
    await waiting(store)
    row = store.rows[handle.id]
    row.result, row.status = msgspec.Raw(b'{"weight":1}'), Status.COMPLETED
    assert await result == Parcel(1)


async def test_thousands_of_waiters_share_one_read(client, store):
    """All waiting handles are asked for in one read per chunk and wake-up, over one watch."""
    handles = await client.start_many(ship, [(n,) for n in range(2 * CHUNK)])
    results = [asyncio.create_task(handle.result()) for handle in handles]
    await waiting(store)
    assert len(store.watches) == 1
    before = len(store.gets)
    for handle in handles:
        store.rows[handle.id].status = Status.COMPLETED
        store.rows[handle.id].result = msgspec.Raw(b'{"weight":1}')
    store.notify()
    assert await asyncio.gather(*results) == [Parcel(1)] * len(handles)
    assert store.gets[before:] == [CHUNK, CHUNK]


async def test_a_crowd_on_a_slow_store_is_answered_in_time(store, monkeypatch):
    """However long a read took, those who wait rest no longer than a poll before the next."""
    monkeypatch.setattr("edow.client.waiter.POLL_SECONDS", 0.01)
    waiter = EndWaiter(store, itertools.count(0, 60).__next__)  # every look at the clock is a minute later
    async with Client(store=store) as client:
        handles = await client.start_many(ship, [(n,) for n in range(CROWD + 1)])
    ends = asyncio.gather(*(waiter.ended(handle.id, 1) for handle in handles))
    try:
        async with asyncio.timeout(10):
            await waiting(store)
            for handle in handles:
                store.end(handle.id, Status.COMPLETED, b'{"weight":1}')
            assert [row.status for row in await ends] == [Status.COMPLETED] * len(handles)
    finally:
        await waiter.close()


async def test_nobody_waiting_costs_nothing(client, store):
    """When the last waiter has its answer the watch is closed."""
    handle = await client.start(ship, 7)
    store.end(handle.id, Status.COMPLETED, b'{"weight":1}')
    await handle.result()
    await asyncio.sleep(0)
    assert store.watches == []


@pytest.mark.parametrize(
    ("status", "failure", "error", "said"),
    [
        (
            Status.FAILED,
            Failure("shop.Declined", "no money", stack="File …", step="charge"),
            edow.WorkflowFailed,
            "no money",
        ),
        (Status.CANCELLED, Failure("", "too late", kind="cancelled"), edow.WorkflowCancelled, "cancelled: too late"),
        (Status.TERMINATED, None, edow.WorkflowTerminated, "terminated"),
    ],
)
async def test_a_bad_end_is_raised(client, store, status, failure, error, said):
    """Failure, cancellation and termination are exceptions that name the execution and the reason."""
    handle = await client.start(ship, 7)
    store.end(handle.id, status, failure=msgspec.json.encode(failure) if failure else None)
    with pytest.raises(error, match=said) as caught:
        await handle.result()
    assert handle.id in str(caught.value)
    if status is Status.FAILED:
        assert (caught.value.type, caught.value.stack, caught.value.step) == ("shop.Declined", "File …", "charge")


async def test_an_unknown_execution_is_told(client):
    """Waiting for an execution that does not exist does not wait."""
    with pytest.raises(edow.NotFound, match="nobody"):
        await client.get("nobody").result()


async def test_a_timeout_leaves_the_execution_alone(client, store):
    """TimeoutError after the given time; the same handle can wait again."""
    handle = await client.start(ship, 7)
    with pytest.raises(TimeoutError):
        await handle.result(timeout=0.01)
    store.end(handle.id, Status.COMPLETED, b'{"weight":2}')
    assert await handle.result(timeout=10) == Parcel(2)


async def test_continue_as_new_is_followed(client, store):
    """The result of an execution that continued as new is that of its last run."""
    handle = await client.start(ship, 7)
    result = asyncio.create_task(handle.result())
    await waiting(store)
    for _ in range(3):
        store.next_run(handle.id, history.ContinuedAsNew(at=1, input=msgspec.Raw(b"{}")))
    await waiting(store)
    store.end(handle.id, Status.COMPLETED, b'{"weight":3}')
    assert await result == Parcel(3)


async def test_a_replaced_run_is_terminated(client, store):
    """Whoever waits for a run that was replaced is told, while the new run goes on."""
    handle = await client.start_named("ship", {}, id="s")
    result = asyncio.create_task(handle.result())
    await waiting(store)
    store.next_run("s", None)
    with pytest.raises(edow.WorkflowTerminated, match="replaced by run 2"):
        await result


@pytest.mark.parametrize(
    ("last", "error"),
    [
        (history.Failed(at=1, failure=Failure("ValueError", "no")), edow.WorkflowFailed),
        (history.Cancelled(at=1, reason="late"), edow.WorkflowCancelled),
    ],
)
async def test_an_earlier_run_keeps_its_end(client, store, last, error):
    """A handle on a run that ended before the id was started again gives that run's own end."""
    handle = await client.start_named("ship", {}, id="s")
    store.next_run("s", last)
    with pytest.raises(error):
        await handle.result()


async def test_an_earlier_run_keeps_its_result(client, store):
    """... and that run's own result."""
    handle = await client.start(ship.with_options(id="s"), 1)
    store.next_run("s", history.Completed(at=1, result=msgspec.Raw(b'{"weight":4}')))
    assert await handle.result() == Parcel(4)


async def test_a_store_that_is_away_is_waited_for(client, store, monkeypatch):
    """One failed read is tried again; the waiting caller does not notice."""
    monkeypatch.setattr("edow.client.waiter.POLL_SECONDS", 0.001)
    handle = await client.start(ship, 1)
    store.end(handle.id, Status.COMPLETED, b'{"weight":4}')
    store.problem = StoreUnavailable("locked")
    assert await handle.result() == Parcel(4)


async def test_a_store_that_stays_away_is_told(client, store, monkeypatch):
    """After several failed reads the waiting caller gets the error, and never hangs."""
    monkeypatch.setattr("edow.client.waiter.POLL_SECONDS", 0.001)
    handle = await client.start(ship, 1)
    reads = len(store.gets)

    async def away(ids: object) -> None:
        store.gets.append(0)
        raise StoreUnavailable("locked")

    monkeypatch.setattr(store, "executions_get", away)
    with pytest.raises(StoreUnavailable):
        await handle.result()
    assert len(store.gets) - reads == PATIENCE


async def test_any_other_error_reaches_those_who_wait(client, store):
    """An error that nobody expected is raised to the waiting callers."""
    handle = await client.start(ship, 1)
    store.problem = ZeroDivisionError("a bug")
    with pytest.raises(ZeroDivisionError):
        await handle.result()


async def test_a_store_that_cannot_be_watched_is_told(client, store, monkeypatch):
    """One that was closed, say: nobody waits for ever, neither now nor later."""
    handle = await client.start(ship, 1)

    def refuse(_channel: str) -> None:
        raise Closed("the store was closed")

    with monkeypatch.context() as patch:
        patch.setattr(store, "watch", refuse)
        for _ in range(2):
            with pytest.raises(Closed, match="was closed"):
                await handle.result()


async def test_closing_answers_those_who_wait(store):
    """Closing the client wakes whoever waits for a result."""
    async with Client(store=store) as client:
        handle = await client.start(ship, 1)
        result = asyncio.create_task(handle.result())
        await waiting(store)
    with pytest.raises(Closed, match="goes on"):
        await result
