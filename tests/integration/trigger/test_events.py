"""Event triggers on both stores: once for each event, in order, whoever applies it and whenever it dies."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

import msgspec
import pytest

import edow
from edow.app import connect_transport
from edow.errors import InvalidInput, NotFound, StoreUnavailable, TransportUnavailable
from edow.kpi.figures import Traffic
from edow.kpi.meter import Meter
from edow.model.message import Message
from edow.store.contract import DeadLetter, DeadLetterFilter, Put, RecordFilter, Store
from edow.testing.boundaries import BoundaryStore
from edow.testing.polling import until
from edow.transport.contract import Delivery, Subscription, Transport
from edow.trigger import consumer as module
from edow.trigger.action import EVENTS, Action
from edow.trigger.consumer import Consumer
from edow.trigger.events import TRIGGERS, Compiled, Trigger
from edow.trigger.runner import EventRunner
from edow.trigger.tally import Tally
from tests.integration.trigger.stores import T0, Clock, end, row_of, signals

PAID = Trigger(
    name="paid", topic="payments", action=Action(mode="signal", signal="paid", id="body.order", value="body.amount")
)
BEGIN = Trigger(name="begin", topic="orders", action=Action(workflow="fulfil", id="body.order"))


@pytest.fixture
async def transport(tmp_path: object) -> AsyncIterator[Transport]:
    made = connect_transport(f"sqlite:///{tmp_path}/transport.db")
    await made.open()
    yield made
    await made.close()


def event(id: str, data: object, **attributes: object) -> bytes:
    """A CloudEvent."""
    base = {"specversion": "1.0", "id": id, "source": "/test", "type": "t"}
    return json.dumps(base | attributes | {"data": data}).encode()


class Desk:
    """One process: a consumer that the test drives."""

    def __init__(self, trigger: Trigger, transport: Transport, store: Store, clock: Clock, name: str = "one") -> None:
        self.tally = Tally(store, clock, "triggers", name)
        self.meter = Meter()
        self.consumer = Consumer(trigger.checked(), transport, store, clock, self.tally, self.meter)
        self.runner = EventRunner(store, transport, connect_transport, clock, name, self.meter)
        self._store = store
        self._transport = transport
        self._trigger = trigger

    async def define(self) -> None:
        await self._store.records_put([Put(TRIGGERS, self._trigger.name, msgspec.json.encode(self._trigger))], T0)

    async def open(self) -> None:
        await self.define()
        await self.consumer.open()

    async def publish(self, *bodies: bytes) -> None:
        await self._transport.publish([Message(self._trigger.topic, body) for body in bodies])

    async def take(self, count: int) -> None:
        """Apply so many messages."""
        async with asyncio.timeout(50):
            while count > 0:
                count -= await self.consumer.run_once(0.1)

    @property
    def counts(self) -> Counter[str]:
        return self.tally.counts.get(self._trigger.name, Counter())


async def run_on(desk: Desk, *bodies: bytes) -> Counter[str]:
    """Publish and apply; what became of them."""
    await desk.open()
    await desk.publish(*bodies)
    await desk.take(len(bodies))
    await desk.consumer.close()
    return desk.counts


async def test_an_event_starts_an_execution(store, transport, clock):
    """With the id, the input and the trace that are in it."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    desk = Desk(BEGIN, transport, store, clock)
    body = event("1", {"order": "o1"}, traceparent=trace)
    assert await run_on(desk, body) == {"started": 1}
    assert desk.meter.take().received == {"orders": Traffic(1, len(body))}
    row = await row_of(store, "o1")
    assert (row.workflow, json.loads(bytes(row.input)), row.trace) == ("fulfil", {"order": "o1"}, trace)


async def test_the_same_event_is_applied_once(store, transport, clock):
    """Known by source and id, though everything else may differ; another source makes another event."""
    desk = Desk(BEGIN, transport, store, clock)
    counts = await run_on(
        desk, event("1", {"order": "o1"}), event("1", {"order": "o2"}), event("1", {"order": "o3"}, source="/other")
    )
    assert counts == {"started": 2, "duplicate": 1}
    rows = await store.executions_get(["o1", "o2", "o3"])
    assert [row is not None for row in rows].count(True) == 2


async def test_other_json_is_known_by_its_bytes_or_by_an_expression(store, transport, clock):
    """The former takes two messages that are alike for one, which an expression can put right."""
    body = b'{"order": "o1", "n": 1}'
    assert await run_on(Desk(BEGIN, transport, store, clock), body, body) == {"started": 1, "duplicate": 1}
    trigger = msgspec.structs.replace(BEGIN, name="by-n", topic="other", event_id="body.n")
    other = b'{"order": "o1", "n": 1, "again": true}'
    assert await run_on(Desk(trigger, transport, store, clock), body, other) == {"attached": 1, "duplicate": 1}


async def test_signals_keep_their_order(store, transport, clock):
    """Of one execution; several executions at the same time."""
    await run_on(Desk(BEGIN, transport, store, clock), *(event(f"b{n}", {"order": f"o{n}"}) for n in range(3)))
    bodies = [event(f"e{n}", {"order": f"o{n % 3}", "amount": n}) for n in range(60)]
    assert await run_on(Desk(PAID, transport, store, clock), *bodies) == {"signalled": 60}
    for order in range(3):
        assert await signals(store, f"o{order}") == list(range(order, 60, 3))


async def test_a_filter_leaves_out_what_does_not_hold(store, transport, clock):
    """Counted, acknowledged, and forgotten."""
    trigger = msgspec.structs.replace(BEGIN, filter="event.type == 'order.made' && body.total > `10`")
    made = {"type": "order.made"}
    bodies = [
        event("1", {"order": "o1", "total": 11}, **made),
        event("2", {"order": "o2", "total": 9}, **made),
        event("3", {"order": "o3", "total": 11}),
    ]
    assert await run_on(Desk(trigger, transport, store, clock), *bodies) == {"started": 1, "filtered": 2}


async def test_what_cannot_be_applied_is_a_dead_letter_with_its_reason(store, transport, clock):
    """It stops nothing that comes behind it; and it is one letter, however often it is delivered."""
    poison = [b"\xff", b"not json", event("1", {"nothing": 1}), event("2", {"order": "a/b"}), event("3", "text")]
    desk = Desk(BEGIN, transport, store, clock)
    counts = await run_on(desk, *poison, event("4", {"order": "o4"}), poison[0])
    assert counts == {"poison": 6, "started": 1}
    letters = await store.dead_letters_list(DeadLetterFilter())
    assert len(letters) == 5
    reasons = {json.loads(bytes(letter.failure))["message"].partition(": ")[2][:25] for letter in letters}
    assert {"the message is not JSON"} < reasons
    assert all("trigger begin, topic orders" in bytes(letter.failure).decode() for letter in letters)


async def test_poison_is_grouped_by_where_it_came_from_and_why(store, transport, clock):
    """Whatever is particular to one message; a group has a name, and can be acted on by it."""
    bodies = [b"no json", b"not json", event("1", {"order": "a/b"}), event("2", {"order": "c/d"})]
    await run_on(Desk(BEGIN, transport, store, clock), *bodies)
    await run_on(Desk(msgspec.structs.replace(BEGIN, name="other", topic="others"), transport, store, clock), bodies[0])
    groups = await store.dead_letters_groups(False, 10)
    assert Counter((each.newest.source, each.count) for each in groups) == {
        ("trigger/begin", 2): 2,
        ("trigger/other", 1): 1,
    }
    assert all(each.fingerprint for each in groups)
    found = await store.dead_letters_list(DeadLetterFilter(fingerprint=groups[0].fingerprint))
    assert len(found) == groups[0].count


@pytest.mark.parametrize("gathers", [False, True])
async def test_what_could_not_be_applied_is_applied_by_the_mended_trigger(store, transport, clock, gathers):
    """Once, whoever dies on the way; what it still cannot apply stays, with what is wrong."""
    wrong = msgspec.structs.replace(BEGIN, action=_with(BEGIN.action, id="body.nothing"), batch=2 if gathers else 0)
    desk = Desk(wrong, transport, store, clock)
    await run_on(desk, event("1", {"order": "o1"}), event("2", {"order": "a/b"}))
    async with edow.Client(store=store) as client:
        [group] = await client.desk().groups()
        where = DeadLetterFilter(fingerprint=group.fingerprint)
        assert (await client.desk().dry_run(where, None, None)).unfit == 2
        with pytest.raises(InvalidInput, match="finds nothing"):
            await client.redrive(where)
        mended = msgspec.structs.replace(wrong, action=BEGIN.action)
        await store.records_put([Put(TRIGGERS, "begin", msgspec.json.encode(mended))], T0)
        assert (await client.desk().dry_run(where, None, None)).unfit == 1
        [one] = [each for each in await client.dead_letters(where) if b'"o1"' in base64_of(each)]
        assert await client.redrive(where) == 1
        [stays] = await client.dead_letters(where)
        assert stays.id != one.id
        [done] = await client.dead_letters(DeadLetterFilter(state="redriven"))
        assert (done.id, done.reason) == (one.id, "gathered" if gathers else "started")
        await store.records_put([Put(TRIGGERS, "begin", None)], T0)
        with pytest.raises(NotFound, match="create it again"):
            await client.redrive(stays.id)
    if not gathers:
        assert (await row_of(store, "o1")).workflow == "fulfil"


async def could_not_apply(store: Store, transport: Transport, clock: Clock, *, gathers: bool) -> None:
    """An event of 7 for o1, which is there, by a trigger that has been mended since."""
    await run_on(Desk(BEGIN, transport, store, clock), event("0", {"order": "o1"}))
    mended = msgspec.structs.replace(PAID, remember=60.0)
    if gathers:
        mended = msgspec.structs.replace(BEGIN, name="paid", topic="payments", batch=9, remember=60.0)
    wrong = msgspec.structs.replace(mended, action=_with(mended.action, id="body.nothing"))
    assert await run_on(Desk(wrong, transport, store, clock), event("1", {"order": "o1", "amount": 7})) == {"poison": 1}
    await store.records_put([Put(TRIGGERS, "paid", msgspec.json.encode(mended))], T0)


async def applied(store: Store, *, gathers: bool) -> int:
    """How often."""
    if not gathers:
        return len(await signals(store, "o1"))
    pending = await store.records_list(RecordFilter(EVENTS, "pending/"))
    return sum(msgspec.json.decode(each.body)["number"] for each in pending)


class Died(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("gathers", [False, True])
@pytest.mark.parametrize("after", [False, True])
async def test_it_is_applied_once_however_late_somebody_comes_to_it(store, transport, clock, gathers, after):
    """Whoever dies before it is on disk, or after: the event may be forgotten when the next one looks; the letter says
    what was done.
    """
    await could_not_apply(store, transport, clock, gathers=gathers)

    def reached(name: str) -> None:
        if name.endswith(":after" if after else ":before"):
            raise Died

    for dying in (BoundaryStore(store, reached), store):
        async with edow.Client(store=dying) as client:
            client._link.clock = clock
            with suppress(Died):
                await client.redrive(DeadLetterFilter())
        clock.forward(61)
        await store.records_purge(clock.now, 1000)
    assert await applied(store, gathers=gathers) == 1
    assert await store.dead_letters_list(DeadLetterFilter()) == []


@pytest.mark.parametrize("gathers", [False, True])
async def test_of_several_who_have_it_applied_one_does(opened, store, transport, clock, gathers):
    """At the same moment; the others have nothing to do."""
    await could_not_apply(store, transport, clock, gathers=gathers)

    async def redrive(store: Store) -> int:
        async with edow.Client(store=store) as client:
            client._link.clock = clock
            return await client.redrive(DeadLetterFilter())

    stores = [store, *[await opened() for _ in range(2)]]
    assert sum(await asyncio.gather(*(redrive(stores[at % 3]) for at in range(6)))) == 1
    assert await applied(store, gathers=gathers) == 1


async def test_what_was_delivered_once_more_meanwhile_is_known(store, transport, clock):
    """Its letter is closed, and nothing is done."""
    await could_not_apply(store, transport, clock, gathers=False)
    again = Desk(msgspec.structs.replace(PAID, remember=60.0), transport, store, clock, "two")
    assert await run_on(again, event("1", {"order": "o1", "amount": 7})) == {"signalled": 1}
    async with edow.Client(store=store) as client:
        client._link.clock = clock
        assert await client.redrive(DeadLetterFilter()) == 1
        [letter] = await client.dead_letters(DeadLetterFilter(state="redriven"))
    assert (letter.reason, await signals(store, "o1")) == ("duplicate", [7])


def base64_of(letter: DeadLetter) -> bytes:
    return base64.b64decode(json.loads(bytes(letter.args))["base64"])


async def test_a_signal_waits_for_its_execution(store, transport, clock):
    """Kept, and delivered in order once the execution has been started."""
    desk = Desk(PAID, transport, store, clock)
    assert await run_on(desk, *(event(f"e{n}", {"order": "o1", "amount": n}) for n in range(3))) == {"kept": 3}
    assert await desk.runner.deliver_once() == 0
    await run_on(Desk(BEGIN, transport, store, clock), event("b", {"order": "o1"}))
    assert await desk.runner.deliver_once() == 3
    assert sorted(await signals(store, "o1")) == [0, 1, 2]
    assert await desk.runner.deliver_once() == 0
    assert desk.runner.tally.counts["paid"] == {"delivered": 3}


async def test_a_signal_does_not_wait_for_ever(store, transport, clock):
    """After its time it is counted as unmatched, and gone; also if its execution has ended meanwhile."""
    desk = Desk(msgspec.structs.replace(PAID, action=_with(PAID.action, keep=60.0)), transport, store, clock)
    await run_on(desk, event("e", {"order": "o1", "amount": 1}))
    clock.forward(59)
    await desk.runner.deliver_once()
    assert len(await store.records_list(RecordFilter(EVENTS, "kept/"))) == 1
    clock.forward(2)
    await desk.runner.deliver_once()
    assert await store.records_list(RecordFilter(EVENTS, "kept/")) == []
    assert desk.runner.tally.counts["paid"] == {"unmatched": 1}


async def test_with_two_processes_each_kept_signal_is_delivered_once(opened, transport, clock):
    """Both look at the same moment."""
    stores = [await opened() for _ in range(2)]
    desks = [Desk(PAID, transport, store, clock, f"p{n}") for n, store in enumerate(stores)]
    await run_on(desks[0], *(event(f"e{n}", {"order": f"o{n % 5}", "amount": n}) for n in range(20)))
    await run_on(Desk(BEGIN, transport, stores[0], clock), *(event(f"b{n}", {"order": f"o{n}"}) for n in range(5)))
    delivered = await asyncio.gather(*(desk.runner.deliver_once() for desk in desks))
    while sum(delivered) < 20:
        delivered.append(await desks[0].runner.deliver_once())
    found = [await signals(stores[0], f"o{n}") for n in range(5)]
    assert sorted(value for each in found for value in each) == list(range(20))


def _with(action: Action, **change: object) -> Action:
    return msgspec.structs.replace(action, **change)


# Debounce and batch

QUIET = Trigger(
    name="quiet",
    topic="edits",
    action=Action(workflow="publish", id="body.page", input="{page: body.page, text: body.text, edits: count}"),
    debounce=10.0,
)
BATCH = Trigger(name="batch", topic="rows", action=Action(workflow="load", id="body.table"), batch=3, batch_wait=60.0)


async def started(store: Store, prefix: str) -> list[dict[str, object]]:
    """The inputs of all executions whose ids begin so, oldest first."""
    from edow.store.contract import ExecutionFilter

    page = await store.executions_list(ExecutionFilter(id_prefix=prefix))
    return [json.loads(bytes(row.input)) for row in reversed(page.executions)]


async def test_debounce_waits_for_quiet(store, transport, clock):
    """One execution, with the last event, once nothing has come for the quiet period."""
    desk = Desk(QUIET, transport, store, clock)
    await desk.open()
    for number in range(3):
        await desk.publish(event(f"e{number}", {"page": "p", "text": number}))
        await desk.take(1)
        clock.forward(9)
        await desk.runner.fire_once()
        assert await started(store, "p.") == []
    clock.forward(1)
    await desk.runner.fire_once()
    assert await started(store, "p.") == [{"page": "p", "text": 2, "edits": 3}]
    await desk.publish(event("later", {"page": "p", "text": 9}))
    await desk.take(1)
    clock.forward(10)
    await desk.runner.fire_once()
    assert len(await started(store, "p.")) == 2
    assert await store.records_list(RecordFilter(EVENTS, "pending/")) == []
    assert await store.records_list(RecordFilter(EVENTS, "due/")) == []
    await desk.consumer.close()


async def test_debounce_does_not_wait_for_ever(store, transport, clock):
    """At the latest after max wait, though events keep coming."""
    desk = Desk(msgspec.structs.replace(QUIET, max_wait=30.0), transport, store, clock)
    await desk.open()
    for number in range(6):
        await desk.publish(event(f"e{number}", {"page": "p", "text": number}))
        await desk.take(1)
        clock.forward(6)
        await desk.runner.fire_once()
    assert [each["edits"] for each in await started(store, "p.")] == [5]
    await desk.consumer.close()


async def test_a_batch_starts_when_it_is_full(store, transport, clock):
    """In the transaction of the event that fills it, with all events in order; per key."""
    desk = Desk(BATCH, transport, store, clock)
    bodies = [event(f"{table}{n}", {"table": table, "n": n}) for n in range(4) for table in "ab"]
    assert await run_on(desk, *bodies) == {"gathered": 8, "fired": 2}
    assert [[each["n"] for each in found["events"]] for found in await started(store, "a.")] == [[0, 1, 2]]
    clock.forward(59)
    await desk.runner.fire_once()
    assert len(await started(store, "a.")) == 1
    clock.forward(2)
    await desk.runner.fire_once()
    assert [[each["n"] for each in found["events"]] for found in await started(store, "b.")] == [[0, 1, 2], [3]]


async def test_a_batch_takes_each_event_once(store, transport, clock):
    """The same event again, in the same delivery and later, counts once."""
    desk = Desk(BATCH, transport, store, clock)
    once = event("1", {"table": "a", "n": 1})
    await desk.open()
    await desk.publish(once, once)
    await desk.take(2)
    await desk.publish(once)
    await desk.take(1)
    assert desk.counts == {"gathered": 1, "duplicate": 2}
    clock.forward(61)
    await desk.runner.fire_once()
    assert [len(found["events"]) for found in await started(store, "a.")] == [1]
    await desk.consumer.close()


@pytest.mark.timeout(240)
async def test_many_processes_gather_and_fire_exactly_once(opened, tmp_path, clock):
    """Three processes share 300 events of three keys; all of them fire at the same moment."""
    desks = []
    trigger = msgspec.structs.replace(BATCH, batch=7)
    for number in range(3):
        transport = connect_transport(f"sqlite:///{tmp_path}/transport.db")
        await transport.open()
        desks.append(Desk(trigger, transport, await opened(), clock, f"p{number}"))
        await desks[-1].open()
    await desks[0].publish(*(event(f"e{n}", {"table": "abc"[n % 3], "n": n}) for n in range(300)))
    left = 300

    async def take(desk: Desk) -> None:
        nonlocal left
        while left > 0:
            taken = await desk.consumer.run_once(0.05)
            left -= taken

    async with asyncio.timeout(150):
        await asyncio.gather(*(take(desk) for desk in desks))
    clock.forward(61)
    await asyncio.gather(*(desk.runner.fire_once() for desk in desks))
    await desks[0].runner.fire_once()
    inputs = [found for table in "abc" for found in await started(desks[0]._store, f"{table}.")]
    seen = sorted(each["n"] for found in inputs for each in found["events"])
    assert seen == list(range(300))
    assert {len(found["events"]) for found in inputs} <= {7, 100 % 7}
    for desk in desks:
        await desk.consumer.close()
        await desk._transport.close()


async def test_gathered_events_whose_mapping_fails_are_a_dead_letter(store, transport, clock):
    """All of them, with the reason, whether the batch was full or its time was over."""
    trigger = msgspec.structs.replace(BATCH, action=_with(BATCH.action, input="events[0].body.n"))
    desk = Desk(trigger, transport, store, clock)
    await run_on(desk, *(event(f"e{n}", {"table": "a", "n": n}) for n in range(3)), event("e9", {"table": "b", "n": 1}))
    clock.forward(61)
    await desk.runner.fire_once()
    letters = await store.dead_letters_list(DeadLetterFilter())
    assert len(letters) == 2
    assert all("must give an object" in bytes(letter.failure).decode() for letter in letters)
    assert await store.records_list(RecordFilter(EVENTS, "due/")) == []


# Trouble


class Dying:
    """A store that dies at one moment: the call is applied or not, and the caller never learns."""

    def __init__(self, store: Store, at: int, applied: bool) -> None:
        self._store = store
        self._left = at
        self._applied = applied

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def records_put(self, *args: object, **kwargs: object) -> object:
        self._left -= 1
        dies = self._left == 0
        if dies and not self._applied:
            raise StoreUnavailable("it died")
        answers = await self._store.records_put(*args, **kwargs)  # type: ignore[arg-type]
        if dies:
            raise StoreUnavailable("it died")
        return answers


@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize("at", [1, 2, 5])
@pytest.mark.parametrize("trigger", [BEGIN, PAID, BATCH, QUIET], ids=lambda each: each.name)
async def test_whatever_the_moment_of_death_each_event_is_applied_once(store, transport, clock, trigger, at, applied):
    """The process is gone before it has acknowledged; its successor gets the messages again."""
    same = {"order": "o", "table": "o", "page": "o"}
    begin = msgspec.structs.replace(BEGIN, name="x", topic="x")
    await run_on(Desk(begin, transport, store, clock), event("b", same))
    orders = [f"s{n}" if trigger is BEGIN else "o" for n in range(5)]
    bodies = [event(f"e{n}", same | {"order": orders[n], "amount": n, "n": n, "text": n}) for n in range(5)]
    first = Desk(trigger, transport, Dying(store, at, applied), clock)  # type: ignore[arg-type]
    second = Desk(trigger, transport, store, clock, "two")
    await second.define()
    await first.consumer.open()
    dead = 0
    for body in bodies:
        await second.publish(body)
        try:
            await first.take(1)
        except (StoreUnavailable, ExceptionGroup):
            dead += 1
            await first.consumer.close()
            await second.consumer.open()
            await second.take(1)
            await second.consumer.close()
            await first.consumer.open()
    assert dead == 1
    await first.consumer.close()
    clock.forward(1000)
    await second.runner.fire_once()
    if trigger is BEGIN:
        assert all(await store.executions_get([f"s{n}" for n in range(5)]))
    elif trigger is PAID:
        assert await signals(store, "o") == list(range(5))
    elif trigger is BATCH:
        found = [each["n"] for inputs in await started(store, "o.") for each in inputs["events"]]
        assert found == list(range(5))
    else:
        assert await started(store, "o.") == [{"page": "o", "text": 4, "edits": 5}]


async def test_a_runner_reads_what_is_defined_and_not_paused(store, transport, clock, tmp_path, monkeypatch):
    """Definitions are noticed, changed, paused and deleted while it runs; another transport is opened for those that
    name one.
    """
    monkeypatch.setattr("edow.trigger.runner.PATIENCE_SECONDS", 50)
    other = f"sqlite:///{tmp_path}/elsewhere.db"
    desk = Desk(msgspec.structs.replace(BEGIN, transport=other), transport, store, clock)
    runner = desk.runner
    assert await runner.look_once() == 0
    await desk.define()
    assert await runner.look_once() == 1
    assert await runner.look_once() == 1
    paused = msgspec.structs.replace(BEGIN, paused=True)
    await store.records_put([Put(TRIGGERS, "begin", msgspec.json.encode(paused))], T0)
    assert await runner.look_once() == 0
    broken = msgspec.structs.replace(BEGIN, transport="nonsense://x", name="broken")
    await store.records_put([Put(TRIGGERS, "broken", msgspec.json.encode(broken))], T0)
    assert await runner.look_once() == 0
    await runner.stop()


async def test_a_singleton_by_events(store, transport, clock):
    """At most one runs for an id; after its end the next event begins another run."""
    trigger = msgspec.structs.replace(BEGIN, action=_with(BEGIN.action, singleton=True))
    desk = Desk(trigger, transport, store, clock)
    assert await run_on(desk, event("1", {"order": "o"}), event("2", {"order": "o"})) == {"started": 1, "attached": 1}
    await end(store, "o", T0)
    again = Desk(trigger, transport, store, clock, "two")
    assert await run_on(again, event("3", {"order": "o"})) == {"started": 1}
    assert (await row_of(store, "o")).run == 2


@pytest.mark.parametrize(
    "change",
    [
        {"topic": ""},
        {"topic": "edow.results.0"},
        {"filter": "("},
        {"event_id": "("},
        {"debounce": 1.0, "batch": 2},
        {"batch": 1001},
        {"batch": 2, "batch_wait": 0.0},
        {"debounce": -1.0},
        {"debounce": 10.0, "max_wait": 5.0},
        {"debounce": 1.0, "action": Action(mode="signal", signal="s", id="x")},
        {"batch": 2, "action": Action(workflow="w")},
        {"remember": 0.0},
    ],
)
def test_a_definition_that_cannot_be_is_refused(change):
    """When it is made."""
    with pytest.raises(InvalidInput):
        msgspec.structs.replace(BEGIN, **change).checked()


def test_a_cloudevent_is_one_only_with_all_it_needs():
    """Otherwise the whole message is the body."""
    compiled = Compiled(BEGIN)
    whole = compiled.event(Delivery("t", b'{"id": "1", "source": "s", "data": 1}', None, 1, None))
    assert whole is not None
    assert whole.context["body"] == {"id": "1", "source": "s", "data": 1}
    cloud = compiled.event(Delivery("t", event("1", {"a": 1}), "k", 1, None))
    assert cloud is not None
    assert (cloud.context["body"], cloud.context["key"]) == ({"a": 1}, "k")


class Away:
    """A transport whose broker takes the connection, and says nothing."""

    def __init__(self) -> None:
        self.closed = 0

    async def open(self) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None:
        self.closed += 1


async def test_a_broker_that_does_not_answer_holds_up_its_own_trigger_alone(store, transport, clock, monkeypatch):
    """Others begin and end meanwhile; it is tried once at a time, and let go at the end."""
    monkeypatch.setattr("edow.trigger.runner.PATIENCE_SECONDS", 0.01)
    away, tried = Away(), []

    def connect(url: str) -> Away:
        tried.append(url)
        return away

    runner = EventRunner(store, transport, connect, clock, "one", Meter())
    silent = msgspec.structs.replace(PAID, name="a-silent", transport="kafka://away")
    for trigger in (silent, BEGIN):
        await store.records_put([Put(TRIGGERS, trigger.name, msgspec.json.encode(trigger))], T0)
    while not await runner.look_once():
        pass
    assert runner.topics == {"orders"}
    await store.records_put([Put(TRIGGERS, BEGIN.name, None)], T0)
    assert await runner.look_once() == 0
    await runner.stop()
    assert (tried, away.closed) == (["kafka://away"], 1)


class Leaving:
    """A transport whose subscribers raise what they are given to."""

    def __init__(self, inner: Transport, **errors: list[Exception]) -> None:
        self._inner = inner
        self._errors = errors

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    async def subscribe(self, subscription: Subscription) -> object:
        return Raising(await self._inner.subscribe(subscription), self._errors)


class Raising:
    def __init__(self, inner: object, errors: dict[str, list[Exception]]) -> None:
        self._inner = inner
        self._errors = errors

    def __getattr__(self, name: str) -> object:
        async def call(*args: object, **kwargs: object) -> object:
            if self._errors.get(name):
                raise self._errors[name].pop()
            return await getattr(self._inner, name)(*args, **kwargs)

        return call


class Standing:
    """A store on which a write never ends."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.reached = asyncio.Event()

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def records_put(self, *_: object, **__: object) -> None:
        self.reached.set()
        await asyncio.Event().wait()


def consumer_of(transport: object, store: object, clock: Clock) -> Consumer:
    return Consumer(BEGIN.checked(), transport, store, clock, Tally(store, clock, "triggers", "one"), Meter())  # type: ignore[arg-type]


async def test_a_trigger_ends_though_its_broker_is_away(store, transport, clock):
    """What it cannot give back does not keep it from ending: its leases run out."""
    leaving, standing = Leaving(transport, nack=[TransportUnavailable("the broker is away")]), Standing(store)
    consumer = consumer_of(leaving, standing, clock)
    await consumer.open()
    await transport.publish([Message("orders", event("1", {"order": "o1"}))])
    await consumer.start()
    await standing.reached.wait()
    await consumer.stop()
    assert not [each for each in asyncio.all_tasks() if each.get_name() == "edow-trigger-begin"]


async def test_a_subscription_that_cannot_be_closed_does_not_end_a_trigger(store, transport, clock, monkeypatch):
    """It is read with another one."""
    monkeypatch.setattr("edow.trigger.consumer.PAUSES", (0.0, 0.0))
    errors = {"receive": [TransportUnavailable("the broker is away")], "close": [KeyError("a bug of a driver")]}
    consumer = consumer_of(Leaving(transport, **errors), store, clock)
    await consumer.open()
    await transport.publish([Message("orders", event("1", {"order": "o1"}))])
    await consumer.start()

    async def applied() -> bool:
        [row] = await store.executions_get(["o1"])
        return row is not None

    await until(applied)
    await consumer.stop()


async def test_a_definition_that_cannot_be_read_holds_up_no_other(store, transport, clock):
    """What was gathered for it waits for a release that can; what is due behind it is started."""
    other = msgspec.structs.replace(QUIET, name="a-newer", topic="newer")
    for trigger, page in ((other, "n"), (QUIET, "p")):
        await run_on(Desk(trigger, transport, store, clock), event(f"e-{page}", {"page": page, "text": 1}))
        clock.forward(1)
    await store.records_put([Put(TRIGGERS, other.name, b'{"name": "a-newer", "topic": 7}')], T0)
    clock.forward(20)
    runner = Desk(QUIET, transport, store, clock).runner
    await runner.fire_once()
    assert len(await started(store, "p.")) == 1
    await store.records_put([Put(TRIGGERS, other.name, msgspec.json.encode(other))], T0)
    await runner.fire_once()
    assert len(await started(store, "n.")) == 1


class Shaky:
    """A subscriber whose broker is away for one renewal."""

    def __init__(self) -> None:
        self.asked = 0
        self.again = asyncio.Event()

    async def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        self.asked += 1
        if self.asked == 1:
            raise TransportUnavailable("away for a test")
        self.again.set()
        return []


async def test_leases_are_renewed_after_a_renewal_has_failed(
    transport: Transport, store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What takes long to apply stays this process's own over a moment without the broker."""
    monkeypatch.setattr(module, "LEASE_SECONDS", 0.003)
    shaky = Shaky()
    renewing = asyncio.create_task(Desk(PAID, transport, store, clock).consumer._renew(shaky, []))
    async with asyncio.timeout(30):
        await shaky.again.wait()
    renewing.cancel()
    await asyncio.gather(renewing, return_exceptions=True)
