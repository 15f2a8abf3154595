"""What the live demo measures: throughput, latency, and how long it took until all was well after something was broken.

An incident begins when something is broken. *First progress* is the first effect applied after it was (for the payment
API: after it was brought back); it has *recovered* when every order that was open at that moment has ended, and every
process is there again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

import msgspec

KEPT = 600  # samples, one a second
LATENCIES = 400  # of the orders that ended last
Point = tuple[int, float]


class Incident(msgspec.Struct):
    """Times in microseconds. `waiting`: the orders that were open, and have not ended yet."""

    name: str
    began: int
    waiting: set[str]
    mended: int | None = None  # from here on the system can heal; None: it is still broken
    progress: int | None = None
    recovered: int | None = None

    @property
    def first_progress(self) -> int | None:
        """How long it took, from when it could."""
        return None if self.progress is None or self.mended is None else self.progress - self.mended

    @property
    def recovery(self) -> int | None:
        return None if self.recovered is None or self.mended is None else self.recovered - self.mended


class Watcher:
    """Told what happens; `clock` gives microseconds."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self.open: dict[str, int] = {}  # orders and when they were started
        self.ended = 0
        self.incident: Incident | None = None
        self.incidents: list[int] = []  # when each began, for the charts
        self._latencies: deque[int] = deque(maxlen=LATENCIES)
        self._ends: deque[int] = deque(maxlen=20_000)
        self.throughput: deque[Point] = deque(maxlen=KEPT)
        self.waiting: deque[Point] = deque(maxlen=KEPT)

    # ── orders ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def started(self, ids: Iterable[str]) -> None:
        now = self._clock()
        self.open.update(dict.fromkeys(ids, now))

    def finished(self, id: str) -> None:
        now = self._clock()
        self._latencies.append(now - self.open.pop(id, now))
        self._ends.append(now)
        self.ended += 1
        if self.incident is not None:
            self.incident.waiting.discard(id)

    def progressed(self) -> None:
        """An effect was applied."""
        incident = self.incident
        if incident is not None and incident.mended is not None and incident.progress is None:
            incident.progress = self._clock()

    # ── incidents ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def broken(self, name: str, *, lasting: bool = False) -> None:
        """Something was broken; `lasting`: until `mended` is called."""
        now = self._clock()
        self.incidents.append(now)
        self.incident = Incident(name, now, set(self.open), None if lasting else now)

    def mended(self) -> None:
        """What was broken is whole again."""
        if self.incident is not None and self.incident.mended is None:
            self.incident.mended = self._clock()
            self.incident.waiting = set(self.open)

    def settle(self, complete: bool) -> bool:
        """Look whether the incident is over; True when it has just ended. `complete`: every process is there."""
        incident = self.incident
        if incident is None or incident.recovered is not None or incident.mended is None:
            return False
        if incident.waiting or incident.progress is None or not complete:
            return False
        incident.recovered = self._clock()
        return True

    # ── figures ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def tick(self, lag: int | None) -> None:
        """Once a second: the charts grow by a point."""
        now = self._clock()
        self.throughput.append((now, self.rate(2.0)))
        if lag is not None:
            self.waiting.append((now, float(lag)))

    def rate(self, seconds: float = 5.0) -> float:
        """Orders ended per second, lately."""
        since = self._clock() - seconds * 1_000_000
        count = 0
        for at in reversed(self._ends):
            if at < since:
                break
            count += 1
        return count / seconds

    def percentile(self, share: float) -> int | None:
        """Of the time from start to end of the orders that ended last, in microseconds."""
        if not self._latencies:
            return None
        ordered = sorted(self._latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
