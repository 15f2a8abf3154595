"""How many executions there are in each status, which no index can tell: they have to be counted.

An answer that took long is kept for a while, so that whoever asks every second (health, metrics, a console) costs the
database no more than a small share of its time, however many executions it holds. The same for every store.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

QUICK_SECONDS = 0.05  # an answer that took no longer is not kept
SHARE = 50  # another one is kept for so many times as long as it took


class Tally:
    """Safe to use from one event loop. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._found: dict[str, int] = {}
        self._good_until = 0.0

    async def get(self, count: Callable[[], Awaitable[dict[str, int]]]) -> dict[str, int]:
        """What `count` answers now, or has answered not long ago."""
        began = self._clock()
        if began >= self._good_until:
            self._found = await count()
            took = self._clock() - began
            self._good_until = began + SHARE * took if took > QUICK_SECONDS else 0.0
        return dict(self._found)
