"""What is due when, by a monotonic clock. One heap, looked at every tick, so that a task costs no timer of its own."""

from __future__ import annotations

import heapq
from typing import Literal, NamedTuple
from weakref import ReferenceType, ref

from edow.worker.attempt import Attempt

Limit = Literal["start_to_close", "schedule_to_close", "heartbeat", "abandon"]

SLACK = 1_000  # entries of ended attempts that are not worth a clean-up
Entry = tuple[float, int, ReferenceType[Attempt], Limit]


class Due(NamedTuple):
    attempt: Attempt
    limit: Limit


class Deadlines:
    """Entries of attempts that have ended are dropped when they are due, or when they outnumber the others. Until then
    they keep nothing of them in memory, for arguments and results may be large.
    """

    def __init__(self) -> None:
        self._heap: list[Entry] = []
        self._sequence = 0
        self._clean_at = SLACK

    def add(self, at: float, attempt: Attempt, limit: Limit) -> None:
        self._sequence += 1  # attempts have no order of their own
        heapq.heappush(self._heap, (at, self._sequence, ref(attempt), limit))
        if len(self._heap) > self._clean_at:
            self._clean()

    def due(self, now: float) -> list[Due]:
        """Takes out whatever is due and still matters."""
        found = []
        while self._heap and self._heap[0][0] <= now:
            _, _, known, limit = heapq.heappop(self._heap)
            attempt = known()
            if attempt is not None and not attempt.settled:
                found.append(Due(attempt, limit))
        return found

    def _clean(self) -> None:
        """A long timeout must not keep a short task in memory."""
        self._heap = [entry for entry in self._heap if not _over(entry[2]())]
        heapq.heapify(self._heap)
        self._clean_at = 2 * len(self._heap) + SLACK

    def __len__(self) -> int:
        return len(self._heap)


def _over(attempt: Attempt | None) -> bool:
    return attempt is None or attempt.settled
