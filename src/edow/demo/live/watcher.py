"""What the live demo measures: throughput, latency, and how long it took until all was well after something was broken.

An incident begins when something is broken. *First progress* is the first order that ends once what was killed has been
replaced (for the payment API: once it was brought back): what others had in hand all the while is none. It has
*recovered* when every order that was open at that moment has ended, too. Several may go on at a time, each by itself.
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
    whole: bool = False  # every process is there again
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
        self.incident: Incident | None = None  # the latest
        self.going: list[Incident] = []  # those that are not over
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
        for incident in self.going:
            incident.waiting.discard(id)
            if incident.whole and incident.mended is not None and incident.progress is None:
                incident.progress = now

    # ── incidents ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def broken(self, name: str, *, lasting: bool = False) -> None:
        """Something was broken; `lasting`: until `mended` is called."""
        now = self._clock()
        self.incidents.append(now)
        self.incident = Incident(name, now, set(self.open), None if lasting else now)
        self.going.append(self.incident)

    def mended(self) -> None:
        """What was broken is whole again."""
        for incident in self.going:
            if incident.mended is None:
                incident.mended = self._clock()
                incident.waiting = set(self.open)

    def settle(self, complete: bool) -> list[Incident]:
        """Incidents that have just come to their end. `complete`: every process is there."""
        if not complete:
            return []
        for incident in self.going:
            incident.whole = True
        over = [each for each in self.going if each.progress is not None and not each.waiting]
        for incident in over:
            incident.recovered = self._clock()
            self.going.remove(incident)
        return over

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
