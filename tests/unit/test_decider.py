"""Decisions about executions of which one cannot be decided about: the others go on, and what came for it is kept."""

import msgspec
import pytest

import edow
from edow.engine.limits import Limits
from edow.engine.machine import Machine
from edow.model import history, inbox
from edow.model.execution import Execution, Status
from edow.model.failure import Failure
from edow.orchestrator.decider import Decider, Room
from edow.store.contract import Stored
from edow.workflow.registry import Registry


@edow.workflow
async def listener() -> str:
    return await edow.wait_signal("word", str)


@edow.task(retry=1, exhausted="park")
async def ship() -> None: ...


@edow.workflow
async def shipping() -> None:
    await ship()


WORKFLOWS = {"listener": listener, "shipping": shipping}
FUTURE = b'[{"type":"FromTheFuture","at":1}]'


def execution(name: str = "x") -> Execution:
    return Execution(id=name, workflow="listener", shard=0, input=msgspec.Raw(b"{}"))


def begun(row: Execution) -> bytes:
    return history.encoder.encode([history.Started(at=1, workflow=row.workflow, input=row.input)])


def a_decider() -> Decider:
    return Decider(Registry(workflows=WORKFLOWS), Limits(), 1)


def a_word(text: str) -> inbox.Signal:
    return inbox.Signal(name="word", payload=msgspec.Raw(msgspec.json.encode(text)))


def decoded(segment: bytes) -> list[str]:
    return [type(event).__name__ for event in history.decoder.decode(segment)]


def test_what_the_engine_fails_on_is_decided_about_again(monkeypatch: pytest.MonkeyPatch):
    """Nothing that came in that batch is lost, and an end waits for a machine that knows whom to tell."""
    decider, row, other = a_decider(), execution(), execution("y")
    decider.decide(
        {"x": [inbox.Start()], "y": [inbox.Start()]},
        [Stored(row, [begun(row)], {}), Stored(other, [begun(other)], {})],
        2,
        [],
    )
    apply = Machine.apply

    def fail(machine: Machine, inputs, now: int):
        if machine.disagreement is None and machine._run.execution.id == "x":
            raise ZeroDivisionError
        return apply(machine, inputs, now)

    monkeypatch.setattr(Machine, "apply", fail)
    work = {"x": [a_word("hello"), inbox.Terminate(reason="enough")], "y": [a_word("hi")]}
    draft = decider.decide(work, [], 3, [])
    assert {each.execution.id: each.execution.status for each in draft.updates} == {"x": "parked", "y": "completed"}
    kept = next(each for each in draft.appends if each.execution == "x")
    assert (kept.seq, decoded(kept.segment)) == (1, ["SignalReceived"])
    assert [inbox.decode(command) for _, _, command in draft.commands] == [inbox.Terminate(reason="enough")]
    assert decider.must_refresh({"x": []}, [])

    monkeypatch.undo()
    again = {"x": [inbox.Resume()]}
    decider.refresh(again, ["x"], 4)
    parked = next(each.execution for each in draft.updates if each.execution.id == "x")
    draft = decider.decide(again, [Stored(parked, [begun(row), kept.segment], {})], 4, [])
    assert [each.execution.status for each in draft.updates] == [Status.COMPLETED]


def test_what_comes_for_a_history_that_cannot_be_read_is_kept():
    """As of a later release that was rolled back."""
    decider, row = a_decider(), execution()
    draft = decider.decide({"x": [a_word("hello")]}, [Stored(row, [begun(row), FUTURE], {})], 2, [])
    assert [each.execution.status for each in draft.updates] == [Status.PARKED]
    assert [(each.seq, decoded(each.segment)) for each in draft.appends] == [(2, ["SignalReceived"])]
    draft = decider.decide({"x": [a_word("again")]}, [], 3, [])
    assert [each.seq for each in draft.appends] == [3]
    draft = decider.decide({"x": [inbox.Terminate(reason="enough")]}, [], 4, [])
    assert [each.execution.status for each in draft.updates] == [Status.TERMINATED]
    assert draft.ended == ["x"]


def test_a_history_that_is_no_json_is_parked():
    """There is nothing that could be gone on with."""
    decider, row = a_decider(), execution()
    draft = decider.decide({"x": [a_word("hello")]}, [Stored(row, [b"[{"], {})], 2, [])
    assert [each.execution.status for each in draft.updates] == [Status.PARKED]
    assert not draft.appends


def test_a_signal_that_nobody_hears_is_told():
    """To an execution that is not there, that has ended, or that ends with what came just before."""
    decider, row, ended = a_decider(), execution(), execution("y")
    ended.status = Status.COMPLETED
    signal = inbox.Signal(name="word", payload=msgspec.Raw(b'"hi"'), sender="z")
    work = {"x": [inbox.Start(), signal, signal], "y": [signal], "nobody": [signal, inbox.Cancel()]}
    draft = decider.decide(work, [Stored(row, [begun(row)], {}), Stored(ended, [begun(ended)], {})], 2, [])
    assert draft.notices == [
        ("x", "signal 'word' from execution 'z' is dropped: it takes no signals any more"),
        ("y", "signal 'word' from execution 'z' is dropped: it takes no signals any more"),
        ("nobody", "signal 'word' from execution 'z' is dropped: there is no execution of that id"),
    ]
    assert decider.decide({"x": [a_word("late")]}, [], 3, []).notices == [
        ("x", "signal 'word' is dropped: it takes no signals any more")
    ]


def test_a_replaced_run_that_cannot_be_read_stops_nobody():
    """Its workers are not told; everything else goes on."""
    decider = a_decider()
    assert decider.farewell("x", 1, [FUTURE], 2).last.cancels == []


def test_the_dead_letters_of_a_replaced_run_are_closed():
    """They wait for somebody who could not do anything about them any more."""
    row = Execution(id="x", workflow="shipping", shard=0, input=msgspec.Raw(b"{}"))
    segments = [
        history.encoder.encode(
            [
                history.Started(at=1, workflow="shipping", input=row.input),
                history.TaskScheduled(at=1, step="ship", task="ship", args=msgspec.Raw(b"{}")),
                history.TaskParked(at=2, step="ship", attempt=1, failure=Failure(type="Lost", message="")),
            ]
        )
    ]
    decider = a_decider()
    draft = decider.decide({}, [], 3, [decider.farewell("x", 1, segments, 3)])
    assert [(each.id, each.state) for each in draft.letters_closed] == [("x/1/ship", "discarded")]


def a_letter(name: str, size: int) -> Stored:
    """Of a signal that nobody waits for: a history of about so many bytes."""
    row = execution(name)
    heard = history.SignalReceived(at=1, name="else", payload=msgspec.Raw(msgspec.json.encode("x" * size)))
    return Stored(row, [begun(row), history.encoder.encode([heard])], {})


def test_what_is_in_memory_is_bounded_in_bytes_too():
    """The longest unused leave first, those whose decisions are not committed never; what they receive counts."""
    decider = a_decider()
    decider.decide({name: [inbox.Start()] for name in "abcd"}, [a_letter(name, 1000) for name in "abcd"], 2, [])
    room = Room(10, 5000)
    decider.settle([], room, [])
    assert decider.cold("abcd") == []

    other = inbox.Signal(name="else", payload=msgspec.Raw(msgspec.json.encode("x" * 1000)))
    decider.decide({"a": [other]}, [], 3, [])
    assert decider.exceeds(room)
    decider.settle([], room, ["b"])
    assert (decider.cold("abcd"), decider.exceeds(room)) == (["c"], False)

    decider.settle([], Room(10, 0), "ab")
    assert decider.cold("abcd") == ["c", "d"]
    decider.settle([], Room(10, 0), [])
    assert decider.cold("abcd") == list("abcd")
    assert not decider.exceeds(Room(0, 0))


def test_what_the_engine_fails_on_takes_no_more_room(monkeypatch: pytest.MonkeyPatch):
    """Its history is not in memory any more."""
    decider = a_decider()
    decider.decide({"a": [inbox.Start()]}, [a_letter("a", 1000)], 2, [])
    assert decider.exceeds(Room(1, 1000))
    apply = Machine.apply

    def fail(machine: Machine, inputs, now: int):
        if machine.disagreement is None:
            raise ZeroDivisionError
        return apply(machine, inputs, now)

    monkeypatch.setattr(Machine, "apply", fail)
    decider.decide({"a": [a_word("hello")]}, [], 3, [])
    assert not decider.exceeds(Room(1, 1000))
    decider.settle([], Room(0, 0), [])
    assert not decider.exceeds(Room(0, 0))
