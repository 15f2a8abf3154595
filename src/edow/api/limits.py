"""How many requests one client may make: a bucket of permissions each, which fills up steadily."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

MOST_CLIENTS = 10_000  # whom nobody has heard of for longest is forgotten, which means a full bucket


class RateLimit:
    """In the memory of one process: several processes allow so many each."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float]) -> None:
        """`clock` gives seconds."""
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client: (permissions, when)

    def wait_seconds(self, client: str) -> float:
        """0: this request is allowed, and counted. Else in how many seconds one would be."""
        now = self._clock()
        left, then = self._buckets.pop(client, (float(self._burst), now))
        left = min(float(self._burst), left + (now - then) * self._rate)
        allowed = left >= 1.0
        self._buckets[client] = (left - 1.0 if allowed else left, now)
        if len(self._buckets) > MOST_CLIENTS:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1.0 - left) / self._rate
