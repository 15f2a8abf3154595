"""Trying again: what was decided is right, only the store or the broker is away.

Whoever forgets what was decided gives up here first; then nothing waits for a store that may not come back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from edow.errors import LeaseLost, Unavailable
from edow.orchestrator.stats import Stats

log = logging.getLogger("edow.orchestrator")

PAUSES = (0.05, 1.0)  # seconds: first and longest


class Persistence:
    """Of one commit cycle."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        self._given_up = asyncio.Event()

    async def __call__(self, what: str, attempt: Callable[[], Awaitable[None]]) -> None:
        """Try until it works. A lost lease ends it, and so does `give_up`: then the last problem is raised."""
        pause, longest = PAUSES
        while True:
            try:
                return await attempt()
            except LeaseLost:
                raise
            except Unavailable as problem:
                if self._given_up.is_set():
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
