"""Keeps one process's figures in the store.

What was counted in the last seconds is in memory only: a process that is killed takes it with it. Nothing is counted
twice: a process writes each bucket under a name of its own, always all of it, and begins the next one only when the
last is known to be stored.
"""

from __future__ import annotations

from collections.abc import Sequence

from edow.kpi import series
from edow.kpi.figures import Figures, encode
from edow.kpi.meter import Meter
from edow.kpi.series import FINE
from edow.store.contract import Put, Store

KIND = "kpi"


class Keeper:
    """Of one process. `process` is a name that no other process has, nor this one after a restart."""

    def __init__(self, store: Store, meter: Meter, process: str) -> None:
        self._store = store
        self._meter = meter
        self._process = process
        self._bucket = 0
        self._kept = Figures()  # all of this bucket
        self._unstored = False
        self.total = Figures()  # since the process has begun

    async def flush(self, now: int, more: Figures | None = None, also: Sequence[Put] = ()) -> None:
        """Store what was counted, and `more`, and `also` these. What cannot be stored is tried again the next time."""
        taken = self._meter.take()
        self.total.merge(taken)
        if more is not None:
            taken.merge(more)
        if not self._unstored:
            self._move_on(now)
        if taken:
            self._kept.merge(taken)
            self._unstored = True
        puts = [*also]
        if self._unstored:
            key, expiry = series.key_of(FINE, self._bucket, self._process), series.expiry(FINE, self._bucket)
            puts.append(Put(KIND, key, encode(self._kept), None, expiry, quiet=True))
        if puts:
            await self._store.records_put(puts, now)
        self._unstored = False

    def _move_on(self, now: int) -> None:
        bucket = series.bucket_start(FINE, now)
        if bucket != self._bucket:
            self._bucket, self._kept = bucket, Figures()
