"""How long things took: a histogram whose buckets grow by a constant factor, after DDSketch (Masson et al., 2019).

A quantile is told with a relative error of at most 2 %, whatever the values; merging adds counts, so that it may be
done in any order and loses nothing.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from math import ceil, log

import msgspec

GROWTH = 1.04  # from one bucket to the next
RELATIVE_ERROR = (GROWTH - 1) / (GROWTH + 1)  # 1.96 %
NOTHING = -1  # the bucket of 0
TABLE = 1 << 18  # microseconds, a quarter of a second: what is below is looked up

_SCALE = 1 / log(GROWTH)


def bucket_of(value: int) -> int:
    return int(log(value) * _SCALE) if value > 0 else NOTHING


@cache
def _table() -> array[int]:
    """The buckets of 0, 1, 2 ... microseconds: half a megabyte, made when a process begins to measure."""
    table = array("h", [NOTHING])
    while len(table) < TABLE:
        bucket = bucket_of(len(table))
        end = max(len(table) + 1, int(GROWTH ** (bucket + 1)) - 1)  # just before the next bucket, or in it
        while bucket_of(end) == bucket:
            end += 1
        while bucket_of(end - 1) != bucket:
            end -= 1
        table += array("h", [bucket]) * (end - len(table))
    return table[:TABLE]


def value_of(bucket: int) -> float:
    """What stands for every value of the bucket."""
    return 0.0 if bucket == NOTHING else 2 * GROWTH ** (bucket + 1) / (GROWTH + 1)


class Histogram(msgspec.Struct, array_like=True):
    """Of microseconds; a clock that went back makes no time at all. `total` is the exact sum of all values."""

    buckets: dict[int, int] = {}
    total: int = 0

    def add(self, values: Sequence[int]) -> None:
        if not values:
            return
        if min(values) < 0:
            values = [value if value > 0 else 0 for value in values]
        table, buckets = _table(), self.buckets
        if max(values) < TABLE:  # ten times as fast as logarithms
            found = Counter(map(table.__getitem__, values))
        else:
            found = Counter([table[value] if value < TABLE else bucket_of(value) for value in values])
        for bucket, count in found.items():
            buckets[bucket] = buckets.get(bucket, 0) + count
        self.total += sum(values)

    def merge(self, other: Histogram) -> None:
        """Take in all that the other has counted."""
        buckets = self.buckets
        for bucket, count in other.buckets.items():
            buckets[bucket] = buckets.get(bucket, 0) + count
        self.total += other.total

    @property
    def count(self) -> int:
        return sum(self.buckets.values())

    @property
    def mean(self) -> float | None:
        count = self.count
        return self.total / count if count else None

    def quantile(self, part: float) -> float | None:
        """The smallest value that so many (0 to 1) do not exceed, by nearest rank; None if nothing was counted."""
        rank = max(1, ceil(part * self.count))
        for bucket in sorted(self.buckets):
            rank -= self.buckets[bucket]
            if rank <= 0:
                return value_of(bucket)
        return None

    def at_most(self, limit: float) -> int:
        """How many took no longer; who is within 2 % of the limit may be counted on either side of it."""
        return sum(count for bucket, count in self.buckets.items() if value_of(bucket) <= limit)


def merged(each: Iterable[Histogram]) -> Histogram:
    """All of them in one."""
    total = Histogram()
    for histogram in each:
        total.merge(histogram)
    return total
