"""Figures over weeks, on virtual time: what is merged into minutes and hours is what was counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from edow.app import System
from edow.kpi.figures import Figures
from edow.kpi.meter import Meter
from edow.kpi.series import DAY, HOUR, MINUTE, SECOND
from edow.model.attempted import Attempted
from edow.monitor import reading
from edow.monitor.compactor import Compactor
from edow.monitor.keeper import Keeper
from edow.store.contract import RecordFilter, Store

BEGIN = 1_800_000_000 // HOUR * HOUR * SECOND


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    async with System(database) as system:
        yield system.store


class Process:
    """Counts one attempt and two starts whenever it is told to."""

    def __init__(self, store: Store, name: str) -> None:
        self.meter = Meter()
        self.keeper = Keeper(store, self.meter, name)

    async def count(self, now: int) -> None:
        self.meter.executions(["order", "order"], [])
        self.meter.attempts([("order", [Attempted("pay", "completed", now - 9, now - 6, 4, 1)])], now)
        await self.keeper.flush(now)


def starts(figures: Figures) -> int:
    return figures.workflows["order"].started if figures.workflows else 0


async def live(store: Store, seconds: int, every: int) -> int:
    """Two processes count, and the figures are merged every half minute; how many starts there were."""
    one, two, compactor = Process(store, "one"), Process(store, "two"), Compactor(store)
    for second in range(0, seconds, every):
        now = BEGIN + second * SECOND
        await one.count(now)
        await two.count(now + SECOND)
        await compactor.run_once(now)
    return seconds // every * 4


async def test_each_window_holds_what_was_counted_in_it(store: Store) -> None:
    """After three hours every window, in whatever resolution it is read, has all counts of its time and no others."""
    total = await live(store, 3 * HOUR, 60)
    until = BEGIN + 3 * HOUR * SECOND
    for length in (10 * MINUTE, HOUR, 2 * HOUR, 3 * HOUR):
        assert starts(await reading.figures(store, until - length * SECOND, until)) == length // 60 * 4
    assert starts(await reading.figures(store, until - 30 * DAY * SECOND, until)) == total
    found = await reading.points(store, until - 30 * DAY * SECOND, until)
    assert [each.seconds for each in found[:3]] == [HOUR, HOUR, MINUTE]
    assert found[0].figures.workflows["order"].tasks["pay"].run.count == 120


async def test_merging_again_changes_nothing(store: Store) -> None:
    """A second process that merges the same, at the same time or later, writes nothing."""
    await live(store, 2 * HOUR, 120)
    now = BEGIN + (2 * HOUR + 10 * MINUTE) * SECOND
    await asyncio.gather(Compactor(store).run_once(now), Compactor(store).run_once(now))
    before = await store.records_list(RecordFilter("kpi", limit=10_000))
    assert await Compactor(store).run_once(now) == 0
    assert await store.records_list(RecordFilter("kpi", limit=10_000)) == before


async def test_what_comes_late_is_merged_still(store: Store) -> None:
    """A process that could not store its figures for some minutes is in the minutes and hours all the same."""
    late = Process(store, "late")
    await live(store, HOUR - 60, 60)
    late.meter.executions(["order"] * 5, [])
    await late.keeper.flush(BEGIN + (HOUR - 300) * SECOND)
    now = BEGIN + (HOUR + 6 * MINUTE) * SECOND
    await Compactor(store).run_once(now)
    assert starts(await reading.figures(store, BEGIN - 30 * DAY * SECOND, now)) == (HOUR // 60 - 1) * 4 + 5


async def test_rates_are_told_over_no_more_than_was_measured(store: Store) -> None:
    """Of a day, ninety minutes after the first figures: ninety minutes, whatever is merged, has left, or is stored of
    the hour before. Of the last ten minutes: ten.
    """
    assert await reading.measured_seconds(store, BEGIN, BEGIN + DAY * SECOND) == DAY
    begun = BEGIN + 50 * MINUTE * SECOND
    await Process(store, "one").count(begun)
    for minutes in (1, 30, 90):
        now = begun + minutes * MINUTE * SECOND
        await Compactor(store).run_once(now)
        await store.records_purge(now, 1000)
        assert await reading.measured_seconds(store, now - DAY * SECOND, now) == minutes * MINUTE
        assert await reading.measured_seconds(store, now - MINUTE * SECOND, now) == MINUTE


async def test_figures_leave_in_their_time(store: Store) -> None:
    """Tens of seconds are gone after three hours, minutes after two days; hours stay for ninety days."""
    total = await live(store, HOUR, 60)
    for later, left in ((3 * HOUR, 61), (2 * DAY, 1), (89 * DAY, 1), (91 * DAY, 0)):
        now = BEGIN + later * SECOND
        await Compactor(store).run_once(now)
        while await store.records_purge(now, 1000):
            pass
        assert len(await store.records_list(RecordFilter("kpi", limit=10_000))) == left
        assert starts(await reading.figures(store, BEGIN - SECOND, now)) == (total if left else 0)
