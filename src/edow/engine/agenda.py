"""When an execution has to be looked at again: one heap of everything that falls due, earliest first.

Entries are never searched for; one that no longer holds is skipped when it comes up. Knows no clock.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from enum import IntEnum

Entry = tuple[int, int, "Due", str]


class Due(IntEnum):
    """Kinds of moments."""

    TIMER = 0
    RETRY = 1
    START = 2  # schedule-to-start of an attempt
    CLOSE = 3  # schedule-to-close of a step
    LOOK = 4  # was the attempt published and never answered?


class Agenda:
    """`holds` tells whether an entry still means something."""

    def __init__(self, holds: Callable[[int, Due, str], bool]) -> None:
        self._heap: list[Entry] = []
        self._holds = holds
        self._count = 0
        self._limit = 256

    def add(self, at: int, kind: Due, step: str) -> None:
        self._count += 1
        heapq.heappush(self._heap, (at, self._count, kind, step))
        if len(self._heap) > self._limit:
            self._sweep()

    def next_at(self) -> int | None:
        """The earliest moment that still means something."""
        heap, holds = self._heap, self._holds
        while heap:
            at, _, kind, step = heap[0]
            if holds(at, kind, step):
                return at
            heapq.heappop(heap)
        return None

    def take(self) -> tuple[Due, str]:
        """The entry that `next_at` has just spoken of."""
        _, _, kind, step = heapq.heappop(self._heap)
        return kind, step

    def close(self) -> None:
        """Nothing means anything any more."""
        self._heap.clear()
        self._holds = _never

    def _sweep(self) -> None:
        self._heap = [entry for entry in self._heap if self._holds(entry[0], entry[2], entry[3])]
        heapq.heapify(self._heap)
        self._limit = 2 * len(self._heap) + 256


def _never(at: int, kind: Due, step: str) -> bool:
    return False
