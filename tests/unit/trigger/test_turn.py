"""What becomes of ticks: policies, catching up, limits, pauses, backfills. Pure, on virtual time."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edow.errors import InvalidInput
from edow.trigger.schedules.book import Backfill
from edow.trigger.schedules.definition import (
    OVERLAPS,
    Overlap,
    Plan,
    Schedule,
    execution_of,
    instant,
    moment_of,
    schedule_name,
)
from edow.trigger.schedules.turn import (
    BATCH,
    MAX_BUFFER,
    MAX_RECENT,
    MAX_RUNNING,
    MOST_MISSED,
    Turn,
    backfill_ids,
    new_book,
)

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
START = moment_of("start", datetime(2026, 6, 1, tzinfo=UTC))


class Drive:
    """A schedule of one tick a minute, unless told otherwise, that was made at START and is looked at when told."""

    def __init__(self, overlap: Overlap = "skip", **options: Any) -> None:
        when = {} if "every" in options else {"cron": "* * * * *"}
        self.schedule = Schedule(workflow="w", overlap=overlap, **when, **options).checked()
        self.plan = Plan("s", self.schedule)
        self.book = new_book(self.schedule, START)
        self.ended: set[str] = set()
        self.cancelled: list[str] = []

    def look(self, minutes: float, taken: Collection[str] = ()) -> list[float]:
        """At so many minutes after START; the ticks started, likewise."""
        return self.take(self.turn(minutes, taken))

    def turn(self, minutes: float, taken: Collection[str] = ()) -> Turn:
        copy = msgspec.json.decode(msgspec.json.encode(self.book), type=type(self.book))  # as if from the store
        return Turn(self.plan, copy, START + round(minutes * MINUTE), self.ended, taken)

    def take(self, turn: Turn) -> list[float]:
        turn.take()
        return self.keep(turn)

    def keep(self, turn: Turn) -> list[float]:
        self.book = turn.book
        self.cancelled += [minute(each) for each in turn.cancels]
        return [(tick - START) / MINUTE for tick in turn.starts]

    def end(self, *minutes: float) -> None:
        self.ended |= {execution_of("s", START + round(each * MINUTE)) for each in minutes}

    @property
    def due(self) -> float | None:
        return None if self.book.due is None else (self.book.due - START) / MINUTE

    @property
    def waiting(self) -> list[float]:
        return [(each.tick - START) / MINUTE for each in self.book.buffer]


def minute(execution: str) -> float:
    at = datetime.fromisoformat(execution.partition("@")[2])
    return (moment_of("at", at) - START) / MINUTE


def test_a_tick_is_started_once() -> None:
    """At its time, not before; looking again, or with a clock that went back, starts nothing."""
    drive = Drive("allow_all")
    assert drive.look(0) == [0]
    assert drive.due == 1
    assert drive.look(0.99) == []
    assert drive.look(1) == [1]
    assert drive.look(1) == []
    assert drive.look(0.2) == []
    assert drive.look(3.5) == [2, 3]
    assert drive.book.counts.started == 4


def test_skip() -> None:
    """While one runs the others are skipped, and not made up for later."""
    drive = Drive("skip")
    assert drive.look(0) == [0]
    assert drive.look(2) == []
    assert (drive.book.counts.skipped, drive.book.blockers) == (2, [])
    drive.end(0)
    assert drive.look(3) == [3]


def test_buffer_one() -> None:
    """The first waits, the others are skipped."""
    drive = Drive("buffer_one")
    assert drive.look(0) == [0]
    assert drive.look(3) == []
    assert (drive.waiting, drive.book.counts.skipped) == ([1], 2)
    assert drive.book.blockers == ["s@2026-06-01T00:00:00Z"]
    drive.end(0)
    assert drive.look(3.2) == [1]
    assert drive.look(4) == []
    assert drive.waiting == [4]


def test_buffer_all() -> None:
    """All wait, one after the other, the oldest first; what does not fit is dropped and counted."""
    drive = Drive("buffer_all", catch_up="10d")
    assert drive.look(0) == [0]
    for _ in range(MAX_BUFFER // BATCH + 1):
        drive.look(MAX_BUFFER + 7)
    assert (len(drive.waiting), drive.book.counts.dropped) == (MAX_BUFFER, 7)
    for each in range(3):
        drive.end(each)
        assert drive.look(MAX_BUFFER + 7.5) == [each + 1]


def test_cancel_other() -> None:
    """What runs is asked to stop, once; the newest begins when it has."""
    drive = Drive("cancel_other")
    assert drive.look(0) == [0]
    assert drive.look(1) == []
    assert drive.look(2) == []
    assert (drive.cancelled, drive.waiting, drive.book.counts.skipped) == ([0], [2], 1)
    drive.end(0)
    assert drive.look(2.5) == [2]
    drive.look(3)
    assert drive.cancelled == [0, 2]


def test_allow_all() -> None:
    """They run at the same time, and nobody asks whether they have ended."""
    drive = Drive("allow_all")
    assert drive.look(3) == [0, 1, 2, 3]
    assert drive.book.running == []


def test_catching_up() -> None:
    """Within the window everything, older ticks are missed; there are always ten seconds."""
    drive = Drive("allow_all", catch_up="3m")
    assert drive.look(10) == [7, 8, 9, 10]
    assert drive.book.counts.missed == 7
    hasty = Drive("allow_all", catch_up=0)
    assert hasty.look(9 / 60) == [0]
    assert hasty.look(1.5) == []
    assert hasty.book.counts.missed == 1


def test_a_long_outage_is_counted_and_not_walked_through() -> None:
    """Ten years of minutes are skipped at once; the newest is not forgotten."""
    drive = Drive("allow_all", catch_up="2m")
    years = 10 * 365 * 24 * 60
    assert drive.look(years) == [years - 2, years - 1, years]
    assert drive.book.counts.missed == MOST_MISSED
    assert drive.book.recent[0].became == "missed"


def test_more_than_a_batch_goes_on_at_once() -> None:
    """What is left is due already."""
    drive = Drive("allow_all")
    assert len(drive.look(250)) == BATCH
    assert drive.due == BATCH
    assert len(drive.look(250)) == BATCH
    assert len(drive.look(250)) == 51
    assert drive.due == 251


def test_jitter_is_the_same_whoever_asks() -> None:
    """Each tick is late by its own part of the jitter; its name and input are the calendar's."""
    drive = Drive("allow_all", jitter="40s")
    late = [drive.plan.fires(START + n * MINUTE) - START - n * MINUTE for n in range(200)]
    assert all(0 <= each < 40 * SECOND for each in late)
    assert len(set(late)) == 200
    assert late == [Plan("s", drive.schedule).fires(START + n * MINUTE) - START - n * MINUTE for n in range(200)]
    assert late[0] != Plan("t", drive.schedule).fires(START) - START
    assert drive.look(0) == []
    assert drive.due == late[0] / MINUTE
    assert drive.look(late[0] / MINUTE) == [0]


def test_jitter_longer_than_the_interval_keeps_the_order() -> None:
    """No tick overtakes another."""
    drive = Drive("allow_all", jitter="10m", catch_up="1d")
    started: list[float] = []
    for look in range(400):
        started += drive.look(look / 4)
    assert started == sorted(started)
    assert started == list(range(len(started)))
    assert len(started) > 85


def test_a_limit_of_runs() -> None:
    """Ticks that are started count, what was skipped or started by hand does not; then it is finished."""
    drive = Drive("skip", runs=2)
    assert drive.look(0) == [0]
    assert drive.look(1) == []
    turn = drive.turn(1.5)
    assert turn.trigger("allow_all").became == "started"
    drive.keep(turn)
    drive.end(0, 1.5 + 1 / MINUTE)
    assert drive.look(2) == [2]
    drive.end(2)
    assert drive.look(3) == []
    assert drive.due is None
    assert drive.look(5000) == []
    assert drive.book.counts.missed == 0


def test_what_waits_counts_towards_the_limit() -> None:
    """No more ticks wait than may be started."""
    drive = Drive("buffer_all", runs=3)
    drive.look(10)
    assert drive.waiting == [1, 2]


def test_start_and_end_are_included() -> None:
    """No tick before, none after; then it is finished."""
    start, end = datetime(2026, 6, 1, 0, 2, tzinfo=UTC), datetime(2026, 6, 1, 0, 4, tzinfo=UTC)
    drive = Drive("allow_all", start=start, end=end)
    assert drive.look(0) == []
    assert drive.due == 2
    assert drive.look(60) == [2, 3, 4]
    assert drive.due is None


def test_a_pause_holds_what_waits() -> None:
    """No ticks while it is paused, and what waits does not begin, but what is started by hand does."""
    drive = Drive("buffer_all")
    drive.look(1)
    drive.book.paused = True
    drive.end(0)
    assert drive.look(5) == []
    assert (drive.waiting, drive.due, drive.book.blockers) == ([1], None, [])
    turn = drive.turn(5)
    outcome = turn.trigger(None)
    assert (outcome.became, outcome.execution) == ("started", "s@2026-06-01T00:05:00.000001Z")
    drive.keep(turn)
    drive.book.paused = False
    drive.ended.add(outcome.execution)
    turn = drive.turn(5.5)
    turn.set_due()
    assert drive.keep(turn) == []
    assert drive.due == 5.5, "it has something to do at once"


def test_started_by_hand_no_two_are_the_same() -> None:
    """Also with a clock that stands still, or goes back, and never with the name of a tick."""
    drive = Drive("allow_all")
    seen = set()
    for at in (0, 0, 0, 1, 0.5, 1 - 1 / MINUTE):
        turn = drive.turn(at)
        seen.add(turn.trigger(None).execution)
        drive.keep(turn)
    assert len(seen) == 6
    assert not seen & {execution_of("s", START + n * MINUTE) for n in range(3)}


def backfilled(drive: Drive, first: float, last: float, overlap: Overlap) -> None:
    begin, end = (START + round(each * MINUTE) for each in (first, last))
    drive.book.backfills.append(Backfill(begin - 1, end, overlap))


def test_a_backfill_one_after_another() -> None:
    """Each begins when the one before has ended; the schedule's own ticks go by its own policy."""
    drive = Drive("skip")
    drive.book.cursor = START + 100 * MINUTE
    backfilled(drive, 10, 12, "buffer_all")
    for each in (10, 11, 12):
        assert drive.look(100.1) == [each]
        assert drive.look(100.2) == []
        assert bool(drive.book.blockers) == (each < 12)
        drive.end(each)
    assert drive.look(100.3) == []
    assert drive.book.backfills == []


def test_a_backfill_at_once() -> None:
    """In batches; while there is more, it is due."""
    drive = Drive("allow_all")
    drive.book.cursor = START + 1000 * MINUTE
    backfilled(drive, 0, 249, "allow_all")
    found = []
    while drive.book.backfills:
        assert backfill_ids(drive.plan, drive.book)[0].startswith("s@")
        found += drive.look(1000)
        assert (drive.due == 1000) == bool(drive.book.backfills)
    assert found == list(range(250))


def test_a_backfill_leaves_alone_what_has_run() -> None:
    """Ticks with an execution are not started again."""
    drive = Drive("allow_all")
    drive.book.cursor = START + 100 * MINUTE
    backfilled(drive, 0, 5, "allow_all")
    taken = {execution_of("s", START + n * MINUTE) for n in (1, 4)}
    assert drive.look(100, taken) == [0, 2, 3, 5]
    assert drive.book.counts.started == 4


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_everything_remembered_is_bounded(overlap: Overlap) -> None:
    """However long nothing ends: what runs, what waits and what is shown has a limit."""
    drive = Drive(overlap, catch_up="30d")
    backfilled(drive, -3000, -1, "allow_all")
    for look in range(1, 3000, 60):
        drive.look(look)
    assert len(drive.book.running) <= MAX_RUNNING
    assert len(drive.book.cancelled) <= MAX_RUNNING
    assert len(drive.book.buffer) <= MAX_BUFFER
    assert len(drive.book.recent) <= MAX_RECENT


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.sampled_from(OVERLAPS),
    st.lists(st.tuples(st.integers(-3, 7), st.booleans(), st.booleans()), max_size=40),
    st.sampled_from([{}, {"jitter": "90s"}, {"catch_up": "2m"}, {"runs": 7}, {"every": "50s"}]),
)
def test_every_tick_is_accounted_for(overlap, looks, options):
    """Whenever one looks and whatever ends: ticks are started in order and once, at most one runs at a time (but with
    allow_all), and those that are past are started, skipped, missed, dropped or waiting.
    """
    drive = Drive(overlap, **options)
    now, triggers = 0, 0
    started: list[int] = []
    for step, ends, by_hand in looks:
        now += step
        turn = drive.turn(now)
        if by_hand:
            turn.trigger(None)
            triggers += 1
        turn.take()
        started += [tick for tick in turn.starts if tick % 1000 == 0]
        drive.keep(turn)
        running = [each for each in drive.book.running if each not in drive.ended]
        assert overlap == "allow_all" or len(running) <= 1
        if ends:
            drive.ended |= set(running)
    assert started == sorted(set(started))
    counts, book = drive.book.counts, drive.book
    decided = counts.started + counts.skipped + counts.missed + counts.dropped + len(book.buffer)
    assert decided == triggers + len(_until(drive.plan, book.cursor))


def _until(plan: Plan, last: int) -> list[int]:
    found = []
    for tick in plan.ticks(START - 1):
        if tick > last:
            break
        found.append(tick)
    return found


def test_the_time_of_the_tick_is_in_the_input() -> None:
    """In strings at any depth; other braces are left alone."""
    values = {
        "at": "{{scheduled_time}}",
        "deep": [{"day": "{{ scheduled_date }}", "n": 7}],
        "text": "{{schedule}} at {{scheduled_local}}, {not} {this}",
    }
    schedule = Schedule(workflow="w", cron="30 23 * * *", timezone="America/New_York", input=values).checked()
    tick = moment_of("", datetime(2026, 6, 2, 3, 30, tzinfo=UTC))
    assert msgspec.json.decode(Plan("s", schedule).input(tick)) == {
        "at": "2026-06-02T03:30:00Z",
        "deep": [{"day": "2026-06-01", "n": 7}],
        "text": "s at 2026-06-01T23:30:00-04:00, {not} {this}",
    }


def test_intervals_are_counted_from_their_anchor() -> None:
    """From 1970, or from a moment before or after now."""

    def first(anchor: datetime | None) -> str:
        return instant(next(Plan("s", Schedule(workflow="w", every="90m", anchor=anchor).checked()).ticks(START)))

    assert first(None) == "2026-06-01T01:30:00Z"
    assert first(datetime(2026, 5, 31, 23, 50, tzinfo=UTC)) == "2026-06-01T01:20:00Z"
    assert first(datetime(2030, 1, 1, 0, 20, tzinfo=UTC)) == "2026-06-01T00:20:00Z"


@pytest.mark.parametrize(
    "wrong",
    [
        {"cron": 5},
        {"cron": None, "every": timedelta(hours=1)},
        {"input": ["a"]},
        {"input": {1: 2}},
        {"workflow": None},
        {"timezone": None},
        {"start": "2026-01-01"},
        {"start": datetime(2026, 1, 1)},
        {"overlap": "never"},
        {"runs": "7"},
        {"jitter": None},
    ],
)
def test_whatever_is_no_schedule_is_refused(wrong: dict[str, Any]) -> None:
    """Also what only Python can say, with an error of ours."""
    with pytest.raises(InvalidInput):
        Schedule(**({"workflow": "w", "cron": "@daily"} | wrong)).checked()


def test_deep_input_is_refused() -> None:
    """Not with a RecursionError, here or later."""
    value: object = "x"
    for _ in range(300):
        value = [value]
    with pytest.raises(InvalidInput, match="nested more than 64"):
        Schedule(workflow="w", cron="@daily", input={"a": value}).checked()


@pytest.mark.parametrize("name", ["", "a/b", "a@b", "a\nb", "x" * 173, 7])
def test_names_that_cannot_be(name: object) -> None:
    """An execution's id has to fit behind it."""
    with pytest.raises(InvalidInput, match="schedule name"):
        schedule_name(name)


def test_the_longest_name_fits() -> None:
    """With a trigger's moment, which is the longest."""
    name = schedule_name("x" * 172)
    assert len(execution_of(name, START + 123_456)) == 200
