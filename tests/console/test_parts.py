"""What pages are made of, without a browser: masking, sharing, bars over time, the graph, charts, searches."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from edow.console import forms
from edow.console.charts import chart, nice, rates
from edow.console.gantt import rows
from edow.console.graph import graph
from edow.console.listing import search_of
from edow.console.masking import LONGEST, MASK, Masking
from edow.console.render import coded
from edow.console.shared import Shared
from edow.errors import InvalidInput
from edow.model import history
from edow.model.execution import Status
from edow.model.failure import Failure

RAW = msgspec.Raw(b"{}")

# ── masking ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_secret_fields_are_masked_however_deep() -> None:
    """By a part of the name, in any case, whatever the value is; what is null stays null."""
    body = b'{"user": {"Password": "x", "cards": [{"cardNumber": 4111}], "api_key": {"a": 1}, "token": null}, "n": 1}'
    assert Masking().masked(body) == {
        "user": {"Password": MASK, "cards": MASK, "api_key": MASK, "token": None},
        "n": 1,
    }


def test_the_names_can_be_chosen() -> None:
    """Those that were given count, and no others."""
    assert Masking(["salary"]).masked(b'{"password": 1, "gross_salary": 2}') == {"password": 1, "gross_salary": MASK}


def test_payloads_are_cut_and_what_is_no_json_is_shown_as_text() -> None:
    """A page never grows with a payload, and never fails for one."""
    long = Masking().shown(msgspec.json.encode("x" * (2 * LONGEST)))
    assert len(long) < LONGEST + 100
    assert "characters more" in long
    assert "too large" in Masking().shown(b"[" * 2_000_000)
    assert "\\u0000" in Masking().shown(b"\x00\xff") or "�" in Masking().shown(b"\x00\xff")
    assert Masking().shown(None) == ""
    assert len(Masking().short(msgspec.json.encode("y" * 500))) == 120


# ── sharing ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_many_pages_share_one_read() -> None:
    """Whoever asks while it is being read waits for the same answer; after a second it is read again."""
    clock = [0.0]
    shared, reads = Shared(lambda: clock[0]), []
    gate = asyncio.Event()

    async def read() -> int:
        reads.append(1)
        await gate.wait()
        return len(reads)

    asking = [asyncio.create_task(shared.get("key", read)) for _ in range(50)]
    await asyncio.sleep(0)
    gate.set()
    assert await asyncio.gather(*asking) == [1] * 50
    clock[0] = 0.9
    assert await shared.get("key", read) == 1
    clock[0] = 1.1
    assert await shared.get("key", read) == 2


async def test_what_was_slow_to_read_is_kept_for_longer() -> None:
    """At most a fiftieth of the time is spent on reading."""
    clock = [0.0]
    shared, reads = Shared(lambda: clock[0]), []

    async def read() -> int:
        clock[0] += 2.0
        reads.append(1)
        return len(reads)

    assert await shared.get("key", read) == 1
    clock[0] = 90.0
    assert await shared.get("key", read) == 1
    clock[0] = 103.0
    assert await shared.get("key", read) == 2


async def test_an_error_is_told_and_not_kept() -> None:
    """The next page tries again, and gets what there is then."""
    shared, wrong = Shared(), [True]

    async def read() -> str:
        if wrong:
            wrong.clear()
            raise InvalidInput("no")
        return "yes"

    with pytest.raises(InvalidInput):
        await shared.get("key", read)
    assert await shared.get("key", read) == "yes"


async def test_what_is_stale_is_not_kept() -> None:
    """It may be a whole history, and nobody may ever look at it again."""
    clock = [0.0]
    shared = Shared(lambda: clock[0])

    async def read() -> int:
        return 1

    for key in range(10):
        clock[0] += 2.0
        await shared.get(key, read)
    assert len(shared._answers) == 1


# ── bars ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def bars(events: list[history.AnyEvent], step: str) -> list[tuple[str, int, int | None]]:
    [row] = [row for row in rows(events) if row.line.name == step]
    return [(bar.doing, bar.since, bar.until) for bar in row.bars]


STARTED = history.Started(at=0, workflow="w", input=RAW)


def test_waiting_is_told_from_running() -> None:
    """By the worker's own times, which come with the result."""
    events = [
        STARTED,
        history.TaskScheduled(at=10, step="a", task="a", args=RAW),
        history.TaskCompleted(at=100, step="a", attempt=1, result=RAW, started_at=40, duration=50),
    ]
    assert bars(events, "a") == [("waiting", 10, 40), ("running", 40, 90), ("done", 90, 100)]


def test_a_clock_that_is_wrong_makes_no_bar_outside_of_its_step() -> None:
    """What a worker with another clock says is kept between what the orchestrator knows."""
    events = [
        STARTED,
        history.TaskScheduled(at=10, step="a", task="a", args=RAW),
        history.TaskCompleted(at=100, step="a", attempt=1, result=RAW, started_at=5_000, duration=500),
    ]
    assert bars(events, "a") == [("waiting", 10, 100)]


def test_failed_attempts_and_the_pauses_between_them() -> None:
    """Each attempt has its bar, and what goes on has no end."""
    failure = Failure(type="ValueError", message="no")
    events = [
        STARTED,
        history.TaskScheduled(at=10, step="a", task="a", args=RAW),
        history.AttemptFailed(at=20, step="a", attempt=1, failure=failure, retry_at=50),
        history.TaskRetried(at=50, step="a", attempt=2),
        history.TaskParked(at=60, step="a", attempt=2, failure=failure),
    ]
    assert bars(events, "a") == [("failed", 10, 20), ("backoff", 20, 50), ("failed", 50, 60), ("parked", 60, None)]


def test_a_failed_attempt_that_a_worker_has_begun_is_drawn_as_long_as_it_ran() -> None:
    """Waiting before it, and the way back after it; one that was discarded while it was parked did not run."""
    failure = Failure(type="ValueError", message="no")
    events = [
        STARTED,
        history.TaskScheduled(at=10, step="a", task="a", args=RAW),
        history.AttemptFailed(at=30, step="a", attempt=1, failure=failure, retry_at=50, started_at=15, duration=10),
        history.TaskRetried(at=50, step="a", attempt=2),
        history.TaskParked(at=60, step="a", attempt=2, failure=failure, started_at=51, duration=9),
        history.TaskFailed(at=90, step="a", attempt=2, failure=failure),
    ]
    assert bars(events, "a") == [
        ("waiting", 10, 15),
        ("failed", 15, 25),
        ("done", 25, 30),
        ("backoff", 30, 50),
        ("waiting", 50, 51),
        ("failed", 51, 60),
        ("parked", 60, 90),
    ]


def test_what_nobody_waits_for_any_more_ends_with_the_execution() -> None:
    """A timer of a wait that was answered has an end."""
    events = [STARTED, history.TimerStarted(at=5, step="t", due=900), history.Completed(at=30, result=RAW)]
    assert bars(events, "t") == [("sleeping", 5, 30)]


# ── the graph ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def done(at: int, *steps: str) -> list[history.AnyEvent]:
    return [history.TaskCompleted(at=at, step=step, attempt=1, result=RAW) for step in steps]


def asked(at: int, *steps: str) -> list[history.AnyEvent]:
    return [history.TaskScheduled(at=at, step=step, task=step.partition("#")[0], args=RAW) for step in steps]


def drawn(events: list[history.AnyEvent]) -> tuple[dict[str, int], set[tuple[str, str]], dict[str, int]]:
    found = graph(events)
    names = {node.key: node.name for node in found.nodes}
    counts = {node.name: node.count for node in found.nodes}
    return counts, {(names[one], names[other]) for one, other in found.edges}, {n.name: n.layer for n in found.nodes}


def test_steps_of_a_fan_out_are_one_node_and_the_join_comes_after_it() -> None:
    """However many there are."""
    many = [f"part#{number}" for number in range(1, 500)]
    events = [STARTED, *asked(1, "list"), *done(2, "list"), *asked(2, *many), *done(3, *many), *asked(4, "join")]
    counts, edges, layers = drawn(events)
    assert counts == {"start": 1, "list": 1, "part": 499, "join": 1}
    assert edges == {("start", "list"), ("list", "part"), ("part", "join")}
    assert layers == {"start": 0, "list": 1, "part": 2, "join": 3}


def test_branches_that_go_on_by_themselves_are_not_mixed_up() -> None:
    """Each goes on from its own step, and both lead to what waited for both."""
    events = [
        STARTED,
        *asked(1, "a", "b"),
        *done(2, "a"),
        *asked(2, "a2"),
        *done(3, "b"),
        *asked(3, "b2"),
    ]
    _, edges, _ = drawn(events)
    assert edges == {("start", "a"), ("start", "b"), ("a", "a2"), ("b", "b2")}


def test_a_signal_leads_to_what_was_done_about_it() -> None:
    """It is a node without steps."""
    events = [STARTED, history.SignalReceived(at=5, name="go", payload=RAW), *asked(6, "a")]
    _, edges, _ = drawn(events)
    assert edges == {("go", "a")}


# ── charts and searches ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_chart_fits_its_box() -> None:
    """The first point is at the left, the last at the right, and the scale ends on a round number."""
    drawn_chart = chart("c", "", [(0, 0.0), (500, 73.0), (1000, 37.0)], marks=[500, 5000])
    assert drawn_chart.line == "M0 100 L500 8.8 L1000 53.8"
    assert (drawn_chart.top, drawn_chart.marks) == (80.0, (500.0,))
    assert chart("c", "", []).empty
    assert [nice(value) for value in (0, 1, 3, 12, 130, 4_100, 9_001)] == [1, 1, 4, 20, 200, 5_000, 10_000]


def test_rates_of_a_counter_that_starts_again_are_not_negative() -> None:
    """Retention takes executions away."""
    assert rates([(0, 10.0), (2_000_000, 30.0), (3_000_000, 5.0)]) == [(2_000_000, 10.0), (3_000_000, 0.0)]


def test_a_search_becomes_a_filter() -> None:
    """All of what can be asked for."""
    query = {"q": " order-1 ", "workflow": "w", "attribute": "n=3", "since": "2026-11-28T20:00", "utm": "x"}
    where = search_of(query, ["failed", "parked", "failed"]).filter()
    assert (where.id_prefix, where.workflow, where.attributes) == ("order-1", "w", {"n": 3})
    assert where.status == [Status.FAILED, Status.PARKED]
    assert where.started_after == 1_795_896_000_000_000
    assert search_of({"attribute": "name=x=y"}, []).filter().attributes == {"name": "x=y"}
    assert search_of({}, []).filter().attributes is None


@pytest.mark.parametrize(
    ("query", "status"),
    [({"period": "9y"}, []), ({"attribute": "novalue"}, []), ({"since": "yesterday"}, []), ({}, ["weird"])],
)
def test_a_search_that_makes_no_sense_is_refused(query: dict[str, str], status: list[str]) -> None:
    """The error names what was asked for."""
    with pytest.raises(InvalidInput, match=next(iter([*query.values(), *status]))):
        search_of(query, status).filter()


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("use `edow list`; then", "use <code>edow list</code>; then"),
        ("`<b>` & <i>", "<code>&lt;b&gt;</code> &amp; &lt;i&gt;"),
        ("one ` alone <b>", "one ` alone &lt;b&gt;"),
        ("", ""),
    ],
)
def test_commands_in_messages_are_shown_as_code(text: str, html: str) -> None:
    """And never as more than text."""
    assert coded(text) == html


# ── forms ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("given", ["ten", "nan", "inf", "1e999"])
def test_what_is_no_number_is_refused(given: str) -> None:
    """Also what Python takes for one, and nobody can count with."""
    with pytest.raises(InvalidInput, match="is no number"):
        forms.number({"rate": given}, "rate", 1.0)
    assert forms.number({"rate": " 2.5 "}, "rate", 1.0) == 2.5
    assert forms.number({}, "rate", 1.0) == 1.0
