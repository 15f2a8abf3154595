"""How values are shown, read and bound."""

from __future__ import annotations

import io
import os
import sys
from dataclasses import dataclass

import msgspec
import pytest

import edow
from edow.cli import output
from edow.cli.binding import bind
from edow.cli.jsons import MAX_BYTES, read_json
from edow.cli.progress import reported
from edow.cli.reload import times
from edow.cli.timeline import timeline
from edow.model import history as h
from edow.model.failure import Failure

RAW = msgspec.Raw(b"{}")
SECOND = 1_000_000


@pytest.mark.parametrize(
    ("microseconds", "said"),
    [
        (0, "0 µs"),
        (350, "350 µs"),
        (12_400, "12 ms"),
        (999_400, "999 ms"),
        (999_600, "1.0 s"),
        (1_234_000, "1.2 s"),
        (59_940_000, "59.9 s"),
        (59_960_000, "1 min"),
        (200 * SECOND, "3 min 20 s"),
        (3599.6 * SECOND, "1 h"),
        (18_180 * SECOND, "5 h 3 min"),
        (86_400 * SECOND, "1 d"),
        (187_200 * SECOND, "2 d 4 h"),
    ],
)
def test_durations_are_for_people(microseconds, said):
    """A duration has at most two units and never more precision than anybody reads."""
    assert output.duration(microseconds) == said


def test_moments_are_local_or_utc(monkeypatch):
    """Times are local unless UTC is asked for, which is marked."""
    assert output.moment(0, utc=True) == "1970-01-01 00:00:00Z"
    assert not output.moment(0).endswith("Z")
    assert output.moment(-1_500, utc=True, exact=True) == "1969-12-31 23:59:59.998Z"


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 bytes"), (1500, "1.5 kB"), (2_000_000_000, "2.0 GB"), (3e15, "3000.0 TB")]
)
def test_sizes_are_for_people(count, said):
    """Sizes have decimal units."""
    assert output.size(count) == said


def test_what_is_piped_is_not_cut(capsys):
    """A table that another program reads keeps every value whole."""
    table = output.table("name")
    table.add_row("x" * 500)
    output.show(table)
    assert "x" * 500 in capsys.readouterr().out


# reading JSON


def test_json_from_text_file_and_stdin(place, monkeypatch):
    """--input takes text, @FILE and -."""
    (place / "in.json").write_bytes('{"näme": 1}'.encode())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"[1, 2]")))
    assert read_json('{"a": 1}', "--input") == {"a": 1}
    assert read_json("@in.json", "--input") == {"näme": 1}
    assert read_json("-", "--input") == [1, 2]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("{'a': 1}", "not JSON"),
        ("", "not JSON"),
        ("order", "double quotes"),
        ('{"a": 1} x', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("@nowhere.json", "'nowhere.json' cannot be read: No such file"),
        ("@", "cannot be read"),
        ("@folder", "Is a directory"),
        ("@bad\0name", "cannot be read"),
        ("@latin.json", "not JSON"),
    ],
)
def test_bad_json_is_explained(place, given, said):
    """What is no JSON, or cannot be read, is an error that names the source and the place."""
    (place / "folder").mkdir()
    (place / "latin.json").write_bytes(b'"\xe4"')
    with pytest.raises(edow.InvalidInput, match="--input") as caught:
        read_json(given, "--input")
    assert said in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_explained(place):
    """A file without permission is named with the reason."""
    (place / "secret.json").write_text("1")
    (place / "secret.json").chmod(0)
    with pytest.raises(edow.InvalidInput, match="Permission denied"):
        read_json("@secret.json", "--input")


def test_endless_input_is_refused(monkeypatch):
    """No more is read than could ever be accepted."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b" " * (MAX_BYTES + 10))))
    with pytest.raises(edow.InvalidInput, match="over"):
        read_json("-", "--input")


# binding


@dataclass
class Order:
    number: int


@edow.workflow
async def single(order: Order) -> None: ...


@edow.workflow
async def many(a: int, b: str = "x") -> None: ...


@edow.workflow
async def pair(a: int, b: int) -> None: ...


@edow.workflow
async def listing(items: list[int]) -> None: ...


@edow.workflow
async def nothing() -> None: ...


@pytest.mark.parametrize(
    ("workflow", "value", "args"),
    [
        (single, {"order": {"number": 1}}, (Order(1),)),
        (single, {"number": 1}, (Order(1),)),
        (single, [{"number": 1}], (Order(1),)),
        (many, {"a": 1}, (1, "x")),
        (many, [1, "y"], (1, "y")),
        (many, [1], (1, "x")),
        (many, 7, (7, "x")),
        (pair, [1, 2], (1, 2)),
        (listing, {"items": [1]}, ([1],)),
        (listing, [[1, 2]], ([1, 2],)),
        (listing, [1, 2], ([1, 2],)),
        (listing, [1], ([1],)),
        (nothing, {}, ()),
        (nothing, [], ()),
    ],
)
def test_input_becomes_arguments(workflow, value, args):
    """An object is by name, an array by position, anything else the only parameter."""
    assert bind(workflow, value) == (args, {})


@pytest.mark.parametrize(
    ("workflow", "value"),
    [
        (single, {"order": {"number": "one"}}),
        (single, {"nummer": 1}),
        (single, "text"),
        (pair, 7),
        (pair, [1]),
        (pair, {"b": 1}),
        (many, {"a": "one"}),
        (many, {"a": 1, "c": 2}),
        (many, [1, "x", 2]),
        (many, [[1]]),
        (many, {}),
        (nothing, [1]),
        (nothing, {"a": 1}),
    ],
)
def test_input_that_does_not_fit_is_named(workflow, value):
    """An input that does not fit is an error with the workflow's signature."""
    with pytest.raises(edow.SignatureMismatch, match=f"workflow {workflow.name}"):
        bind(workflow, value)


# timeline


def test_a_timeline_has_a_line_per_step():
    """Attempts, failures and ends of a step are one line; what happened to the execution are lines of their own."""
    failure = Failure("shop.Declined", "no money")
    lines = timeline(
        [
            h.Started(at=0, workflow="fulfil", input=RAW),
            h.TaskScheduled(at=1, step="charge", task="charge", args=RAW),
            h.TaskScheduled(at=1, step="first", task="pack", args=RAW),
            h.AttemptFailed(at=2, step="charge", attempt=1, failure=failure, retry_at=9),
            h.TimerStarted(at=2, step="sleep", due=50),
            h.TaskRetried(at=9, step="charge", attempt=2),
            h.SignalReceived(at=10, name="approved", payload=msgspec.Raw(b"true")),
            h.TaskCompleted(at=12, step="charge", attempt=2, result=RAW, duration=3),
            h.TaskParked(at=13, step="first", attempt=3, failure=failure),
            h.ProgressSet(at=13, value=RAW),
        ]
    )
    assert [(line.kind, line.name, line.state) for line in lines] == [
        ("event", "started", ""),
        ("task", "charge", "done"),
        ("task", "first", "parked"),
        ("timer", "sleep", "sleeping"),
        ("signal", "approved", "received"),
    ]
    charge, first, sleep = lines[1:4]
    assert (charge.attempts, charge.ran, charge.at, charge.ended_at) == (2, 3, 1, 12)
    assert charge.failures == ["Declined: no money"]
    assert (first.open, first.attempts, first.detail) == (True, 3, "Declined: no money")
    assert (sleep.open, sleep.due) == (True, 50)


def test_what_is_open_at_the_end_is_dropped():
    """When the execution has ended, nothing is shown as waiting any more."""
    lines = timeline([h.TimerStarted(at=2, step="sleep", due=50), h.Completed(at=20, result=msgspec.Raw(b"7"))])
    assert [(line.name, line.state, line.ended_at) for line in lines] == [
        ("sleep", "dropped", 20),
        ("completed", "done", 20),
    ]


EVERY_EVENT = [
    h.Started(at=0, workflow="w", input=RAW),
    h.TaskScheduled(at=0, step="s", task="t", args=RAW),
    h.TaskStarted(at=0, step="s", attempt=1, worker="w:1"),
    h.TaskCompleted(at=0, step="s", attempt=1, result=RAW),
    h.AttemptFailed(at=0, step="s", attempt=1, failure=Failure("E", "m"), retry_at=1),
    h.TaskRetried(at=0, step="s", attempt=2),
    h.TaskFailed(at=0, step="s", attempt=2, failure=Failure("E", "m")),
    h.TaskParked(at=0, step="s", attempt=2, failure=Failure("E", "m")),
    h.TaskRedriven(at=0, step="s", args=RAW),
    h.TimerStarted(at=0, step="z", due=1),
    h.TimerFired(at=0, step="z"),
    h.SignalReceived(at=0, name="n", payload=RAW),
    h.ChildStarted(at=0, step="c", workflow="w", execution="e", input=RAW),
    h.ChildCompleted(at=0, step="c", result=RAW),
    h.ChildFailed(at=0, step="c", failure=Failure("E", "m")),
    h.CancelRequested(at=0),
    h.Parked(at=0, failure=Failure("E", "m")),
    h.Resumed(at=0),
    h.StepCancelled(at=0, step="s"),
    h.SignalSent(at=0, step="g", execution="e", name="n", payload=RAW),
    h.SideEffect(at=0, step="x", value=RAW),
    h.AttributesSet(at=0, values={}),
    h.ProgressSet(at=0, value=RAW),
    h.Completed(at=0, result=RAW),
    h.Failed(at=0, failure=Failure("E", "m")),
    h.Cancelled(at=0),
    h.Terminated(at=0),
    h.ContinuedAsNew(at=0, input=RAW),
]


def test_the_timeline_knows_every_event():
    """Each kind of event makes or changes a line, those that are shown elsewhere apart; none is an error when alone."""
    assert {type(event) for event in EVERY_EVENT} == set(h.AnyEvent.__args__)
    about_steps = {"s", "z", "c"}
    for event in EVERY_EVENT:
        shown = timeline([event])
        changes = getattr(event, "step", None) in about_steps
        elsewhere = isinstance(event, h.AttributesSet | h.ProgressSet)
        assert shown or changes or elsewhere, event


@pytest.mark.parametrize(
    ("value", "standing"),
    [
        ({"done": 3, "total": 9}, (3, 9, "3 of 9")),
        (0.5, (0.5, 1, "50%")),
        ("packing", (0, None, "packing")),
        (True, (0, None, "True")),
        ({"x": 1}, (0, None, '{"x":1}')),
        (17, (0, None, "17")),
    ],
)
def test_progress_is_whatever_was_reported(value, standing):
    """A done/total pair or a fraction fills the bar; anything else is shown as it is."""
    assert reported(value) == standing


def test_changes_are_seen_by_file_times(place):
    """New, changed and deleted .py files differ; other files and hidden folders do not count."""
    (place / "a.py").write_text("1")
    (place / "b.txt").write_text("1")
    (place / ".venv").mkdir()
    (place / ".venv" / "c.py").write_text("1")
    before = times([place])
    assert list(before) == [str(place / "a.py")]
    os.utime(place / "a.py", ns=(1, 1))
    assert times([place]) != before
