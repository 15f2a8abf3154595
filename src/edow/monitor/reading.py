"""What the stored figures say: for the command line, the API and the console."""

from __future__ import annotations

from collections.abc import Sequence

from edow.kpi import series
from edow.kpi.figures import Figures
from edow.kpi.series import COARSE, DAY, FINE, HOUR, MIDDLE, RESOLUTIONS, SECOND, Point, Resolution
from edow.kpi.summary import Summary, group_rates
from edow.kpi.summary import summary as summarise
from edow.monitor.compactor import stored
from edow.monitor.keeper import KIND
from edow.monitor.prices import prices
from edow.store.contract import RecordFilter, Store


async def points(store: Store, since: int, until: int) -> list[Point]:
    """Everything measured from `since` until `until` (microseconds), in buckets: of ten seconds within an hour; of
    minutes within a day, of hours beyond, and finer ones where these are not merged yet. A bucket that begins before
    `since` is left out.
    """
    begin, end = -(-since // SECOND), -(-until // SECOND)
    found: list[Point] = []
    for resolution, beyond in ((COARSE, DAY), (MIDDLE, HOUR), (FINE, 0)):
        if end - begin > beyond or found:
            found += await _read(store, resolution, max(begin, _end(found)), end)
    return found


async def figures(store: Store, since: int, until: int) -> Figures:
    """All of it added up."""
    return series.added_up(each.figures for each in await points(store, since, until))


async def summary(store: Store, since: int, until: int) -> Summary:
    """The same as people and programs read it, priced if there is a price list."""
    found = await points(store, since, until)
    total = series.added_up(each.figures for each in found)
    return summarise(total, await measured_seconds(store, since, until), await prices(store), group_rates(found))


async def measured_seconds(store: Store, since: int, until: int) -> float:
    """Of this time, so much lies behind the first figures that there are: rates are to be told over no more."""
    first, within = since // SECOND, 0
    for resolution in reversed(RESOLUTIONS):
        for record in await store.records_list(RecordFilter(KIND, series.prefix_of(resolution), limit=1)):
            start = series.start_of(record.key)
            if not within or start < first + within:  # finer figures that begin later have lost theirs
                first, within = start, resolution.seconds
    return max(1.0, (until - max(since, first * SECOND)) / SECOND)


async def _read(store: Store, resolution: Resolution, begin: int, end: int) -> list[Point]:
    records = [(each.key, each.body) async for each in stored(store, resolution, begin, end)]
    return series.points(records, resolution)


def _end(found: Sequence[Point]) -> int:
    return found[-1].start + found[-1].seconds if found else 0
