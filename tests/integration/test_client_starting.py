"""The client: starting executions, and sending them commands."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import msgspec
import pytest

import edow
from edow.client import Client
from edow.client.ids import IdSource
from edow.client.submitter import BATCH, BATCH_BYTES
from edow.errors import AlreadyExists, Closed, StoreUnavailable
from edow.model import history, inbox
from edow.model.execution import Status, shard_of
from edow.store.contract import DeadLetter, ExecutionFilter
from edow.workflow.naming import execution_id
from tests.integration.memory_store import MemoryStore


@dataclass
class Order:
    number: int
    item: str = "book"


@edow.workflow
async def fulfil(order: Order, gift: bool = False) -> str:
    return f"{order.number}"


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def client(store):
    async with Client(store=store) as client:
        yield client


async def test_a_start_stores_row_history_and_wake_up(client, store):
    """A start stores the typed arguments by name, a Started event and a wake-up 10 s ahead."""
    handle = await client.start(fulfil, Order(7), gift=True)

    row = store.rows[handle.id]
    assert msgspec.json.decode(row.input) == {"order": {"number": 7, "item": "book"}, "gift": True}
    assert (row.workflow, row.status, row.run, row.correlation) == ("fulfil", Status.RUNNING, 1, handle.id)
    assert row.shard == shard_of(handle.id, store.shards)
    assert row.wake_at == row.started_at + 10_000_000
    [started] = history.decoder.decode(store.segments[handle.id, 1][0])
    assert isinstance(started, history.Started)
    assert (started.at, bytes(started.input)) == (row.started_at, bytes(row.input))


async def test_ids_made_up_sort_by_time(client):
    """Ids made up one after the other are in lexicographical order."""
    ids = [(await client.start(fulfil, Order(n))).id for n in range(50)]
    assert ids == sorted(set(ids))
    assert all(each.startswith("fulfil-") for each in ids)


def test_ids_grow_when_the_clock_goes_back():
    """A clock that is set back does not make ids go back, and a full millisecond carries on upwards."""
    moments = iter([2_000_000, 2_000_000, 1_000_000, 3_000_000])
    source = IdSource(lambda: next(moments), lambda bits: (1 << bits) - 1)
    ids = [source.new("w") for _ in range(4)]
    assert ids == sorted(set(ids))
    assert {len(each) for each in ids} == {len("w-") + 18}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("", "empty"),
        ("x" * 201, "201 characters"),
        ("a/b", "'/'"),
        ("a\nb", "control"),
        (7, "string"),
        ("\ud800", "control"),
    ],
)
def test_bad_ids_are_refused(value, said):
    """An id that could not be used later is refused at once, saying why."""
    with pytest.raises(edow.InvalidInput, match=said):
        execution_id(value)
    with pytest.raises(edow.InvalidInput, match=said):  # the same rule for a child
        fulfil.with_options(id=value)


async def test_a_call_that_does_not_fit_is_an_error(client, store):
    """Arguments that do not fit the workflow are refused before anything is stored."""
    with pytest.raises(edow.SignatureMismatch, match="fulfil"):
        await client.start(fulfil, {"number": "seven"})
    assert store.accepted == []


async def test_too_large_an_input_is_refused(client, store):
    """An input over 2 MiB is refused by its size, typed or by name."""
    with pytest.raises(edow.PayloadTooLarge, match="limit"):
        await client.start(fulfil, Order(1, "x" * 3_000_000))
    with pytest.raises(edow.PayloadTooLarge, match="limit"):
        await client.start_named("fulfil", {"order": "x" * 3_000_000})
    assert store.rows == {}


@pytest.mark.parametrize("values", [[1, 2], "text", {1: 2}])
async def test_a_start_by_name_takes_parameters_by_name(client, values):
    """A start without code takes an object of parameters and nothing else."""
    with pytest.raises(edow.InvalidInput, match="by name"):
        await client.start_named("fulfil", values)


async def test_a_taken_id_attaches_rejects_or_replaces(client, store):
    """The same id again: the same execution, an error, or a new run, as asked."""
    await client.start_named("fulfil", {"order": {"number": 1}}, id="order-7")
    attached = await client.start_named("fulfil", {"order": {"number": 2}}, id="order-7")
    assert (attached.run, msgspec.json.decode(store.rows["order-7"].input)["order"]) == (1, {"number": 1})

    with pytest.raises(AlreadyExists, match=r"order-7.*running"):
        await client.start_named("fulfil", {"order": {"number": 3}}, id="order-7", if_exists="reject")

    replaced = await client.start_named("fulfil", {"order": {"number": 4}}, id="order-7", if_exists="replace")
    assert replaced.run == 2


async def test_options_come_from_the_workflow(client):
    """`with_options(id=...)` names the execution, and the id is checked like any other."""
    assert (await client.start(fulfil.with_options(id="order-9"), Order(9))).id == "order-9"
    with pytest.raises(edow.InvalidInput, match="'/'"):
        await client.start(fulfil.with_options(id="order/9"), Order(9))


@pytest.mark.parametrize("option", [{"if_exists": "overwrite"}, {"traceparent": "00-zz"}, {"id": ""}])
async def test_unknown_options_are_refused(client, store, option):
    """An option value that means nothing is refused before anything is stored."""
    with pytest.raises(edow.InvalidInput):
        await client.start_named("fulfil", {}, **option)
    assert store.accepted == []


async def test_a_trace_is_kept(client, store):
    """The starter's traceparent is in the row."""
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    handle = await client.start_named("fulfil", {}, traceparent=trace)
    assert store.rows[handle.id].trace == trace


async def test_calls_made_meanwhile_share_a_transaction(client, store):
    """While one batch is being committed, everything that is asked for becomes the next one."""
    store.gate = asyncio.Event()
    calls = [asyncio.create_task(client.start_named("fulfil", {}, id=f"e{n}")) for n in range(100)]
    await asyncio.sleep(0)  # all have called
    await asyncio.sleep(0)
    late = [asyncio.create_task(client.start_named("fulfil", {}, id=f"late{n}")) for n in range(50)]
    await asyncio.sleep(0)
    store.gate.set()

    assert [handle.id for handle in await asyncio.gather(*calls, *late)][::149] == ["e0", "late49"]
    assert store.accepted == [100, 50]


async def test_what_shares_a_transaction_is_bounded_in_bytes(client, store):
    """However many large starts come at the same moment, a database takes them."""
    store.gate = asyncio.Event()
    large = "x" * (BATCH_BYTES // 5)
    calls = [asyncio.create_task(client.start_named("fulfil", {"x": large}, id=f"e{n}")) for n in range(6)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    store.gate.set()
    await asyncio.gather(*calls)
    assert store.accepted == [4, 2]


async def test_a_failed_transaction_fails_its_callers_only(client, store):
    """An unavailable store is told to those who were in the batch; the next call works."""
    store.problem = StoreUnavailable("the disk is full")
    with pytest.raises(StoreUnavailable):
        await client.start_named("fulfil", {})
    assert (await client.start_named("fulfil", {}, id="next")).id == "next"


async def test_a_caller_that_gives_up_harms_nobody(client, store):
    """A start whose caller was cancelled is stored, and its neighbour is answered."""
    store.gate = asyncio.Event()
    first, second = (asyncio.create_task(client.start_named("fulfil", {}, id=name)) for name in ("a", "b"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    store.gate.set()
    assert (await second).id == "b"
    assert set(store.rows) == {"a", "b"}


async def test_many_starts_go_in_batches(client, store):
    """start_many stores about a thousand executions per transaction and keeps their order."""
    handles = await client.start_many(fulfil, ((Order(n),) for n in range(2500)))
    assert store.accepted == [BATCH, BATCH, 500]
    assert [msgspec.json.decode(store.rows[each.id].input)["order"]["number"] for each in handles] == list(range(2500))


async def test_many_starts_take_names_and_ids(client, store):
    """Inputs may be by name, and each may have its id; too few ids are an error."""
    handles = await client.start_many(fulfil, [{"order": Order(1), "gift": True}, (Order(2),)], ids=["a", "b"])
    assert [each.id for each in handles] == ["a", "b"]
    assert msgspec.json.decode(store.rows["a"].input)["gift"] is True
    with pytest.raises(edow.InvalidInput, match="1 ids"):
        await client.start_many(fulfil, [(Order(1),), (Order(2),)], ids=["c"])


async def test_many_starts_say_how_far_they_came(client, store):
    """When an input does not fit, the error says how many were started before it, and those are stored."""
    inputs = [(Order(n),) for n in range(1500)] + [("no order",)]
    with pytest.raises(edow.SignatureMismatch) as caught:
        await client.start_many(fulfil, inputs)
    assert "1000 executions before it have been started" in caught.value.__notes__[0]
    assert len(store.rows) == 1000


async def test_commands_reach_the_inbox(client, store):
    """Signal, cancel and terminate become commands of the execution."""
    handle = await client.start(fulfil, Order(1))
    await handle.signal("approved", True)
    await client.get(handle.id).cancel("changed my mind")
    await handle.terminate()
    assert store.commands == [
        (handle.id, inbox.Signal(name="approved", payload=msgspec.Raw(b"true"))),
        (handle.id, inbox.Cancel(reason="changed my mind")),
        (handle.id, inbox.Terminate()),
    ]


async def test_a_signal_that_is_no_json_is_refused(client, store):
    """A value without JSON form is named and nothing is sent."""
    handle = await client.start(fulfil, Order(1))
    with pytest.raises(edow.NotEncodable, match="approved"):
        await handle.signal("approved", object())
    assert store.commands == []


async def test_commands_to_the_unknown_and_the_ended(client, store):
    """Unknown ids are NotFound, naming what is near; ended executions are WrongState."""
    handle = await client.start(fulfil.with_options(id="order-77"), Order(1))
    with pytest.raises(edow.NotFound, match="did you mean 'order-77'"):
        await client.get("order-7").cancel()
    store.end(handle.id, Status.COMPLETED, b"null")
    with pytest.raises(edow.WrongState, match="completed"):
        await handle.signal("approved")


async def test_only_what_is_parked_can_be_resumed(client, store):
    """resume is refused while running, and while a dead letter is what is waited for."""
    handle = await client.start(fulfil, Order(1))
    with pytest.raises(edow.WrongState, match="running"):
        await handle.resume()
    store.end(handle.id, Status.PARKED, failure=b'{"type":"edow.errors.Disagreement","message":"differs"}')
    await handle.resume()
    assert store.commands == [(handle.id, inbox.Resume())]

    store.rows[handle.id].failure = None
    letter = DeadLetter(id=f"{handle.id}/1/charge", execution=handle.id, run=1, step="charge", task="charge")
    store.letters.append(letter)
    with pytest.raises(edow.WrongState, match="redrive or discard"):
        await handle.resume()


async def test_a_closed_client_says_so():
    """Before it is opened and after it is closed, a client refuses with the remedy."""
    client = Client(store=MemoryStore())
    with pytest.raises(Closed, match="async with"):
        await client.start(fulfil, Order(1))
    async with client:
        handle = await client.start(fulfil, Order(1))
    with pytest.raises(Closed):
        await client.start(fulfil, Order(1))
    with pytest.raises(Closed):
        await handle.cancel()


def test_a_client_has_one_store():
    """A URL and a store at the same time contradict each other."""
    with pytest.raises(edow.InvalidInput, match="not both"):
        Client("sqlite:///x.db", store=MemoryStore())


async def test_listing_reads_page_by_page(client, store):
    """list goes through all pages, newest first; page hands out one and its cursor."""
    for n in range(7):
        await client.start_named("fulfil", {}, id=f"e{n}")
    where = ExecutionFilter(limit=3)
    assert [row.id async for row in client.list(where)] == [f"e{n}" for n in range(6, -1, -1)]
    assert (await client.page(where)).cursor == "3"


async def test_history_is_events(client):
    """history gives decoded events, and says which runs there are when there is none."""
    handle = await client.start(fulfil, Order(1))
    [started] = await client.history(handle.id)
    assert isinstance(started, history.Started)
    with pytest.raises(edow.NotFound, match="run 5"):
        await client.history(handle.id, 5)
    with pytest.raises(edow.NotFound):
        await client.history("nobody")
