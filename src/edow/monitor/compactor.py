"""Merges everybody's figures into coarser ones, in the order of time and a little behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator

from edow.errors import RecordChanged
from edow.kpi import series
from edow.kpi.series import COARSE, FINE, MIDDLE, SECOND, Resolution
from edow.monitor.keeper import KIND
from edow.store.contract import Put, Record, RecordFilter, Store

PAGE = 100


class Compactor:
    """Any number may do it at once: the outcome follows from what is stored."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def run_once(self, now: int) -> int:
        """Make the buckets that are due; how many were written."""
        return await self._merge(FINE, MIDDLE, now) + await self._merge(MIDDLE, COARSE, now)

    async def _merge(self, finer: Resolution, coarser: Resolution, now: int) -> int:
        end = series.bucket_start(coarser, now - coarser.settled * SECOND)  # its bucket is not over yet
        written = 0
        async for start, parts in self._buckets(finer, coarser, await self._begin(coarser, end), end):
            written += await self._write(coarser, start, parts, now)
        return written

    async def _begin(self, coarser: Resolution, end: int) -> int:
        last = await self._store.records_list(RecordFilter(KIND, series.prefix_of(coarser), descending=True, limit=1))
        return min(series.start_of(last[0].key) + coarser.seconds, end - coarser.again) if last else 0

    async def _buckets(
        self, finer: Resolution, coarser: Resolution, begin: int, end: int
    ) -> AsyncIterator[tuple[int, list[Record]]]:
        """The finer records of each coarse bucket."""
        current, parts = 0, list[Record]()
        async for record in stored(self._store, finer, begin, end):
            start = series.start_of(record.key) // coarser.seconds * coarser.seconds
            if start != current and parts:
                yield current, parts
                parts = []
            current = start
            parts.append(record)
        if parts:
            yield current, parts

    async def _write(self, coarser: Resolution, start: int, parts: list[Record], now: int) -> bool:
        key = series.key_of(coarser, start)
        body = series.merged(each.body for each in parts)
        (there,) = await self._store.records_get(KIND, [key])
        if there is not None and there.body == body:
            return False
        version = there.version if there is not None else 0
        try:
            await self._store.records_put(
                [Put(KIND, key, body, version, series.expiry(coarser, start), quiet=True)], now
            )
        except RecordChanged:
            return False  # somebody else was at it
        return True


async def stored(store: Store, resolution: Resolution, begin: int, end: int) -> AsyncIterator[Record]:
    """Records of buckets that start from `begin` on and before `end` (seconds), in the order of time."""
    prefix = series.prefix_of(resolution)
    after = f"{prefix}{begin:012d}"  # before every record of this bucket
    while page := await store.records_list(RecordFilter(KIND, prefix, after, limit=PAGE)):
        for record in page:
            if series.start_of(record.key) >= end:
                return
            yield record
        if len(page) < PAGE:
            return
        after = page[-1].key
