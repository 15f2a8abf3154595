"""Schedules on a store: every tick exactly once, whoever acts on it, however they interleave, whatever dies."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

import edow
from edow.app import connect_store
from edow.background import LONG_SECONDS
from edow.errors import Unavailable
from edow.kpi import series
from edow.kpi.meter import Meter
from edow.kpi.summary import summary
from edow.store.contract import Answer, ExecutionFilter, Put, Record, RecordFilter, Request, StartRequest, Store
from edow.testing.boundaries import BoundaryStore
from edow.trigger.schedules import Runner, Schedule
from edow.trigger.schedules.book import writes as writes_of
from edow.trigger.schedules.definition import Plan, moment, utc
from edow.trigger.schedules.turn import Turn, new_book
from tests.integration.system import until
from tests.unit.trigger import oracle

HOUR = 3_600_000_000
DAY = 24 * HOUR
FIRST = datetime(2028, 2, 20, tzinfo=UTC)  # a leap year
LAST = datetime(2028, 4, 10, tzinfo=UTC)

CALENDAR = {
    "berlin": Schedule(workflow="w", cron="30 2 * * *", timezone="Europe/Berlin", overlap="allow_all", catch_up="20d"),
    "sydney": Schedule(
        workflow="w", cron="30 2 * * *", timezone="Australia/Sydney", overlap="allow_all", catch_up="20d"
    ),
    "lord_howe": Schedule(
        workflow="w", cron="15 */8 * * *", timezone="Australia/Lord_Howe", overlap="allow_all", catch_up="20d"
    ),
    "new_york": Schedule(
        workflow="w", cron="5 * 12,13 3 *", timezone="America/New_York", overlap="allow_all", catch_up="20d"
    ),
    "leap": Schedule(workflow="w", cron="0 0 29 2 *", overlap="allow_all", catch_up="20d"),
    "last": Schedule(workflow="w", cron="0 0 31 * *", overlap="allow_all", catch_up="20d", jitter="2h"),
}


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    """An empty one, open."""
    opened = connect_store(database)
    await opened.open()
    yield opened
    await opened.close()


class Shaken:
    """A store whose callers are interleaved at random, and that remembers what became of starts."""

    def __init__(self, inner: Store, chance: random.Random) -> None:
        self._inner = inner
        self._chance = chance
        self.outcomes: Counter[str] = Counter()
        self.early: list[str] = []
        self.read: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def records_get(self, kind: str, keys: Sequence[str]) -> list[Record | None]:
        await self._shake()
        self.read += keys
        return await self._inner.records_get(kind, keys)

    async def records_list(self, where: RecordFilter) -> list[Record]:
        await self._shake()
        return await self._inner.records_list(where)

    async def records_put(self, puts: Sequence[Put], now: int, requests: Sequence[Request] = ()) -> list[Answer]:
        await self._shake()
        answers = await self._inner.records_put(puts, now, requests)
        self.outcomes.update(answer.outcome for answer in answers)
        for each in requests:
            if isinstance(each, StartRequest) and tick_of(each.execution.id) > utc(now):
                self.early.append(each.execution.id)
        await self._shake()
        return answers

    async def _shake(self) -> None:
        for _ in range(self._chance.randrange(4)):
            await asyncio.sleep(0)


async def make(store: Store, schedules: dict[str, Schedule], now: int) -> None:
    """All of them in one transaction."""
    puts = []
    for name, schedule in schedules.items():
        checked = schedule.checked()
        book = new_book(checked, now)
        Turn(Plan(name, checked), book, now, ()).set_due()
        puts += writes_of(name, None, book)
    await store.records_put(puts, now)


async def started(store: Store) -> Counter[str]:
    """Ids of all executions."""
    found: Counter[str] = Counter()
    where = ExecutionFilter(limit=500)
    while True:
        page = await store.executions_list(where)
        found.update(row.id for row in page.executions)
        if page.cursor is None:
            return found
        where = ExecutionFilter(limit=500, cursor=page.cursor)


def tick_of(execution: str) -> datetime:
    return datetime.fromisoformat(execution.partition("@")[2])


def expected(schedules: dict[str, Schedule], first: datetime, last: datetime) -> Counter[str]:
    """By the scan of every minute."""
    found: Counter[str] = Counter()
    for name, schedule in schedules.items():
        [ticks] = oracle.ticks([schedule.cron or ""], ZoneInfo(schedule.timezone), first, last)
        found.update(f"{name}@{tick:%Y-%m-%dT%H:%M:%SZ}" for tick in ticks)
    return found


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("runners", "seed"), [(1, 1), (2, 2), (3, 3)])
async def test_every_tick_exactly_once(store: Store, runners: int, seed: int) -> None:
    """Runners with clocks that differ and go backwards, looking at random moments and all at once, start what the
    calendar says, each once and none before its time.
    """
    chance = random.Random(seed)
    shaken = Shaken(store, chance)
    await make(store, CALENDAR, moment(FIRST) or 0)
    loops = [Runner(shaken, lambda: 0) for _ in range(runners)]  # type: ignore[arg-type]
    skew = [chance.randrange(-30, 31) * 1_000_000 for _ in loops]
    now, end = moment(FIRST) or 0, moment(LAST) or 0
    while now < end - 2 * HOUR:
        now += chance.choice([HOUR // 60, HOUR, 5 * HOUR, 20 * HOUR, -HOUR])
        now = min(now, end - 2 * HOUR)
        awake = [each for each in zip(loops, skew, strict=True) if chance.random() < 0.8]
        await asyncio.gather(*(loop.run_once(now + late) for loop, late in awake))
    await loops[0].run_once(end - 1)
    assert await started(store) == expected(CALENDAR, FIRST, LAST)
    assert set(shaken.outcomes) == {"accepted"}, "nobody may even have tried to start what was started"
    assert not shaken.early
    assert sum(each.started for each in loops) == shaken.outcomes.total()


YEARS = {
    "leap": Schedule(workflow="w", cron="0 0 29 2 *", timezone="Asia/Tokyo"),
    "last": Schedule(workflow="w", cron="0 0 31 1,10,12 *", timezone="Europe/London"),
    "spring": Schedule(workflow="w", cron="30 2 8-14 3 *", timezone="America/New_York"),
    "autumn": Schedule(workflow="w", cron="45 1 1-7 4 *", timezone="Australia/Lord_Howe"),
    "ramadan": Schedule(workflow="w", cron="30 2 * 2,3 SUN", timezone="Africa/Casablanca"),
}


@pytest.mark.timeout(240)
async def test_every_tick_of_eight_years(store: Store) -> None:
    """Two runners that look once in a while, over two leap days and sixteen changes of clocks, miss and double none."""
    first, last = datetime(2027, 1, 1, tzinfo=UTC), datetime(2035, 1, 1, tzinfo=UTC)
    chance = random.Random(8)
    schedules = {n: msgspec.structs.replace(s, overlap="allow_all", catch_up="60d") for n, s in YEARS.items()}
    await make(store, schedules, moment(first) or 0)
    shaken = Shaken(store, chance)
    loops = [Runner(shaken, lambda: 0) for _ in range(2)]  # type: ignore[arg-type]
    now, end = moment(first) or 0, moment(last) or 0
    while now < end - 1:
        now = min(now + chance.randrange(9 * DAY), end - 1)
        await asyncio.gather(*(loop.run_once(now) for loop in loops))
    wanted = set()
    for name, each in YEARS.items():
        ticks = oracle.sparse_ticks(each.cron or "", ZoneInfo(each.timezone), first, last)
        wanted |= {f"{name}@{tick:%Y-%m-%dT%H:%M:%SZ}" for tick in ticks}
    assert set(await started(store)) == wanted
    assert len(wanted) > 150
    assert set(shaken.outcomes) == {"accepted"}
    assert not shaken.early


class Crash(BaseException):
    """The process is gone."""


async def crash_at(store: Store, boundary: int, looks: Sequence[int]) -> bool:
    """A runner that dies there, and another that goes on; whether it came that far."""
    reached = 0

    def count(_: str) -> None:
        nonlocal reached
        reached += 1
        if reached == boundary:
            raise Crash

    dying = Runner(BoundaryStore(store, count), lambda: 0)  # type: ignore[arg-type]
    try:
        for now in looks:
            await dying.run_once(now)
    except* Crash:
        pass
    for now in looks:
        await Runner(store, lambda: 0).run_once(now)
    return reached >= boundary


async def test_a_crash_at_every_boundary(store: Store, tmp_path: Path) -> None:
    """Whichever write a runner dies before or after, whoever comes next does what was not done, and that alone."""
    start = moment(FIRST) or 0
    looks = [*range(start + HOUR, start + 3 * DAY, 9 * HOUR), start + 3 * DAY - 1]
    schedules = {name: CALENDAR[name] for name in ("berlin", "lord_howe")}
    boundary, reached = 0, True
    while reached:
        boundary += 1
        again = {f"{name}-{boundary}": schedule for name, schedule in schedules.items()}
        await make(store, again, start)
        reached = await crash_at(store, boundary, looks)
        wanted = expected(again, FIRST, FIRST + timedelta(days=3))
        found = Counter({id: n for id, n in (await started(store)).items() if id.partition("@")[0] in again})
        assert found == wanted, f"at boundary {boundary}"
    assert boundary > 20


async def test_only_what_is_due_is_read(store: Store) -> None:
    """Among three thousand schedules, a look reads the three that are due, and an idle look reads none."""
    start = moment(FIRST) or 0
    many = {f"later-{n:04}": Schedule(workflow="w", cron=f"{n % 60} 0 1 6 *") for n in range(3000)}
    due = {f"due-{n}": Schedule(workflow="w", cron="0 1 * * *") for n in range(3)}
    await make(store, many | due, start)
    shaken = Shaken(store, random.Random(0))
    runner = Runner(shaken, lambda: 0)  # type: ignore[arg-type]
    assert await runner.run_once(start + HOUR // 2) == LONG_SECONDS
    assert shaken.read == []
    await runner.run_once(start + HOUR)
    assert sorted(shaken.read) == ["due-0", "due-1", "due-2"]
    assert len(await started(store)) == 3


async def test_how_late_ticks_are_started_is_measured(store: Store) -> None:
    """From when each was due until its start is stored, by whoever stored it; those that nobody started are counted."""
    start = moment(FIRST) or 0
    hourly = Schedule(workflow="w", every="1h", anchor=FIRST, catch_up="90m", overlap="allow_all")
    await make(store, {"hourly": hourly}, start)
    meters = [Meter(), Meter()]
    loops = [Runner(store, lambda: start + 5 * HOUR + 2_000_000, meter) for meter in meters]
    await asyncio.gather(*(each.run_once(start + 5 * HOUR) for each in loops))
    figures = series.added_up(meter.take() for meter in meters)
    [ticks] = figures.schedules.values()
    assert (ticks.late.count, ticks.late.total) == (2, HOUR + 2 * 2_000_000)
    assert ticks.missed == 4
    [told] = summary(figures, 60.0).schedules
    assert (told.schedule, told.late.count, told.missed) == ("hourly", 2, 4)


async def test_thousands_due_at_once(store: Store) -> None:
    """All of 700 schedules that are due at the same moment are started by two runners, each once."""
    start = moment(FIRST) or 0
    await make(store, {f"s-{n:03}": Schedule(workflow="w", cron="0 1 * * *") for n in range(700)}, start)
    loops = [Runner(store, lambda: 0) for _ in range(2)]
    await asyncio.gather(*(each.run_once(start + HOUR) for each in loops))
    assert set((await started(store)).values()) == {1}
    assert len(await started(store)) == 700
    assert sum(each.started for each in loops) == 700


async def test_a_bad_schedule_stops_no_other(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """A record that cannot be read, and one of a zone that is not there, are told of; the others go on."""
    start = moment(FIRST) or 0
    await make(store, {"a": CALENDAR["berlin"], "b": CALENDAR["berlin"], "c": CALENDAR["berlin"]}, start)
    [a, b] = await store.records_get("schedule", ["a", "b"])
    assert a is not None
    assert b is not None
    await store.records_put(
        [Put("schedule", "a", b"{"), Put("schedule", "b", b.body.replace(b"Berlin", b"Nowhere"))], start
    )
    await Runner(store, lambda: 0).run_once(start + 2 * HOUR)
    assert [each.partition("@")[0] for each in await started(store)] == ["c"]
    assert "schedule 'a' cannot be read" in caplog.text
    assert "Europe/Nowhere" in caplog.text


async def test_an_index_entry_of_nobody_is_removed(store: Store) -> None:
    """What the index says of a schedule that is gone, or due at another time, is forgotten and harms nobody."""
    start = moment(FIRST) or 0
    await make(store, {"a": CALENDAR["berlin"]}, start)
    await store.records_put([Put("tick", f"at/{start:020d}/{name}", b"{}") for name in ("a", "gone")], start)
    await store.records_put([Put("tick", "wait/gone", b"[]"), Put("tick", "wait/a", b"[]")], start)
    await Runner(store, lambda: 0).run_once(start + 1)
    assert len(await store.records_list(RecordFilter("tick"))) == 1
    assert not await started(store)


async def test_the_loop_goes_on_after_trouble(store: Store) -> None:
    """A store that cannot be reached for a while delays ticks, and loses none."""
    looks: list[Exception] = [Unavailable("away"), ValueError("a bug")]
    writes: list[Exception] = [Unavailable("away"), Unavailable("away")]

    class Shaky:
        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        async def records_list(self, where: RecordFilter) -> list[Record]:
            _stumble(looks)
            return await store.records_list(where)

        async def records_put(self, *given: Any) -> list[Answer]:
            _stumble(writes)
            return await store.records_put(*given)

    async with edow.Client(store=store) as client:
        await client.schedules().create("often", Schedule(workflow="w", every="1s", overlap="allow_all"))
        runner = Runner(Shaky(), client._link.clock)  # type: ignore[arg-type]
        await runner.start()
        await runner.start()  # idempotent

        async def twice() -> bool:
            return runner.started >= 2

        await until(twice)
        await runner.stop()
        await runner.stop()
        times = sorted(tick_of(id) for id in await started(store))
    assert times == [times[0] + timedelta(seconds=n) for n in range(len(times))]
    assert not looks
    assert not writes


def _stumble(troubles: list[Exception]) -> None:
    if troubles:
        raise troubles.pop(0)
