"""Trying again: what was decided is right, only the store or the broker is away.

Whoever forgets what was decided gives up here first; then nothing waits for what may not come back. What is committed
need not be tried for ever: it is in the outbox, for whoever has the shard then.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable

from edow.errors import LeaseLost, Unavailable
from edow.orchestrator.stats import Stats

log = logging.getLogger("edow.orchestrator")

PAUSES = (0.05, 1.0)  # seconds: first and longest
UNASKED = "a call has ended as cancelled, though nobody had cancelled it"


def unasked() -> bool:
    """While a CancelledError is handled: nobody asks this task to end. Some library has let out what is its own."""
    task = asyncio.current_task()
    return task is not None and not task.cancelling()


class Persistence:
    """Of one commit cycle; of what may be given up by itself after so many seconds, if `patience` is given."""

    def __init__(self, stats: Stats, patience: float = math.inf) -> None:
        self._stats = stats
        self._patience = patience
        self._given_up = asyncio.Event()

    async def __call__(self, what: str, attempt: Callable[[], Awaitable[None]]) -> None:
        """Try until it works. A lost lease ends it, and so do `give_up` and the end of the patience: then the last
        problem is raised.
        """
        pause, longest = PAUSES
        began = time.monotonic()
        while True:
            try:
                return await attempt()
            except LeaseLost:
                raise
            except Unavailable as problem:
                if self._given_up.is_set() or time.monotonic() - began >= self._patience:
                    raise
                self._stats.retries += 1
                log.warning("%s: %s; trying again in %.2g s", what, problem, pause)
            await self._rest(pause)
            pause = min(pause * 2, longest)

    def give_up(self) -> None:
        """From now on each problem is raised at once."""
        self._given_up.set()

    def resume(self) -> None:
        self._given_up.clear()

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._given_up.wait()
        except TimeoutError:
            pass
