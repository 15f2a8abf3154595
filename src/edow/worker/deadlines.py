"""What is due when, by a monotonic clock. One heap, looked at every tick, so that a task costs no timer of its own."""

from __future__ import annotations

import heapq
from typing import Literal, NamedTuple

from edow.worker.attempt import Attempt

Limit = Literal["start_to_close", "schedule_to_close", "heartbeat", "abandon"]

SLACK = 1_000  # entries of ended attempts that are not worth a clean-up


class Due(NamedTuple):
    attempt: Attempt
    limit: Limit


class Deadlines:
    """Entries of attempts that have ended are dropped when they are due, or when they outnumber the others."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Due]] = []
        self._sequence = 0
        self._clean_at = SLACK

    def add(self, at: float, attempt: Attempt, limit: Limit) -> None:
        self._sequence += 1  # attempts have no order of their own
        heapq.heappush(self._heap, (at, self._sequence, Due(attempt, limit)))
        if len(self._heap) > self._clean_at:
            self._clean()

    def due(self, now: float) -> list[Due]:
        """Takes out whatever is due and still matters."""
        found = []
        while self._heap and self._heap[0][0] <= now:
            entry = heapq.heappop(self._heap)[2]
            if not entry.attempt.settled:
                found.append(entry)
        return found

    def _clean(self) -> None:
        """A long timeout must not keep a short task in memory."""
        self._heap = [entry for entry in self._heap if not entry[2].attempt.settled]
        heapq.heapify(self._heap)
        self._clean_at = 2 * len(self._heap) + SLACK

    def __len__(self) -> int:
        return len(self._heap)
