"""What a batch of decisions comes to: rows, segments, commands and messages, as they are to be committed."""

import asyncio
import logging

import msgspec

import edow
from edow.engine.limits import Limits
from edow.model import history, inbox, topics, wire
from edow.model.execution import Execution, Parent, Status
from edow.orchestrator.decider import Decider
from edow.orchestrator.draft import CANCEL_BYTES, SEGMENT_BYTES, Draft
from edow.store.contract import Stored
from edow.workflow.registry import Registry


@edow.task
async def work(number: int) -> None: ...


@edow.workflow
async def pages(page: int) -> None:
    edow.attributes(page=page, odd=True if page % 2 else None)
    edow.progress({"page": page})
    await edow.wait_signal("next", bool)
    edow.attributes(page=page + 1, odd=None)
    edow.progress({"page": page + 1})
    edow.continue_as_new(page + 1)


@edow.workflow
async def wide(count: int) -> None:
    await asyncio.gather(*(work(number) for number in range(count)))


@edow.workflow
async def asks_what_was_cancelled() -> None:
    task = asyncio.create_task(work(1))
    task.add_done_callback(lambda done: done.result())
    await edow.wait_signal("next", bool)
    task.cancel()
    await edow.wait_signal("next", bool)


WORKFLOWS = {each.name: each for each in (pages, wide, asks_what_was_cancelled)}
NEXT = inbox.Signal(name="next", payload=msgspec.Raw(b"true"))


def stored(workflow: str, parent: Parent | None = None, **given: object) -> Stored:
    row = Execution(
        id="x", workflow=workflow, shard=0, input=msgspec.Raw(msgspec.json.encode(given)), parent=parent, events=1
    )
    started = history.Started(at=1, workflow=workflow, input=row.input, parent=parent)
    return Stored(row, [history.encoder.encode([started])], {})


def begun(item: Stored) -> tuple[Decider, Draft]:
    decider = Decider(Registry(workflows=WORKFLOWS), Limits(), 1)
    return decider, decider.decide({"x": [inbox.Start()]}, [item], 2, [])


def test_what_is_shown_just_before_continue_as_new_is_shown():
    """And an attribute that is set to None is gone."""
    decider, draft = begun(stored("pages", page=1))
    assert msgspec.json.decode(draft.updates[0].execution.attributes) == {"page": 1, "odd": True}
    (update,) = decider.decide({"x": [NEXT]}, [], 3, []).updates
    assert (update.run, update.execution.run) == (1, 2)
    assert msgspec.json.decode(update.execution.attributes) == {"page": 2}
    assert msgspec.json.decode(update.execution.progress) == {"page": 2}


def test_signals_for_the_next_run_are_spread_over_as_many_segments_as_they_need():
    """A store refuses a value that is too large, and with it all that is committed beside it."""
    decider, _ = begun(stored("pages", page=1))
    large = inbox.Signal(name="other", payload=msgspec.Raw(b'"%s"' % (b"x" * (SEGMENT_BYTES // 3))))
    draft = decider.decide({"x": [*[large] * 8, NEXT]}, [], 3, [])
    segments = [each for each in draft.appends if each.run == 2]
    assert max(len(each.segment) for each in segments) <= SEGMENT_BYTES
    assert sum(each.count for each in segments) == 9 == draft.updates[0].execution.events
    assert [each.seq for each in segments] == [sum(each.count for each in segments[:at]) for at in range(len(segments))]


def test_calling_off_thousands_of_steps_takes_as_many_messages_as_any_broker_takes():
    """One that is too large is refused, and nobody would be told."""
    decider, _ = begun(stored("wide", count=8000))
    draft = decider.decide({"x": [inbox.Terminate()]}, [], 3, [])
    messages = [each for each in draft.messages if each.topic == topics.CONTROL]
    assert len(messages) > 1
    assert max(len(each.body) for each in messages) < CANCEL_BYTES + 1000
    told = [key for each in messages for key in wire.decode_cancel(each.body).data]
    assert len(set(told)) == len(told) == 8000


def test_the_parent_of_an_execution_that_is_replaced_is_told():
    """The new run is nobody's child, and nobody else would ever tell it."""
    parent = Parent("mother", 3, "ship")
    item = stored("pages", parent, page=1)
    decider, _ = begun(item)
    replaced = {"x": [inbox.Start(run=2)]}
    hot = decider.refresh(replaced, ["x"], 3)
    for farewells in (hot, [decider.farewell("x", 1, item.segments, 3)]):
        ((execution, _, command),) = decider.decide({}, [], 3, farewells).commands
        ended = inbox.decode(command)
        assert (execution, ended.run, ended.step, ended.failure.kind) == ("mother", 3, "ship", "terminated")


def test_the_parent_of_a_run_that_had_ended_was_told_then():
    item = stored("pages", Parent("mother", 3, "ship"), page=1)
    item.segments.append(history.encoder.encode([history.Terminated(at=2)]))
    decider, _ = begun(stored("pages", page=1))
    assert decider.decide({}, [], 3, [decider.farewell("x", 1, item.segments, 3)]).commands == []


def test_a_callback_that_raises_cancelled_error_stops_nobody(caplog):
    """The batch is decided; what went wrong is told with it."""
    decider, _ = begun(stored("asks_what_was_cancelled"))
    with caplog.at_level(logging.ERROR):
        draft = decider.decide({"x": [NEXT]}, [], 3, [])
    assert [notice for _, notice in draft.notices] == ["a callback failed: CancelledError: "]
    assert not caplog.records
    assert decider.decide({"x": [NEXT]}, [], 4, []).updates[0].execution.status is Status.COMPLETED
