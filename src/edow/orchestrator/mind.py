"""The engine thread: the one place where workflow code runs, away from the I/O loop.

A workflow that computes for too long delays only its fellows; leases and the broker's heartbeats go on. It is told,
not killed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger("edow.orchestrator")


class Mind:
    """Runs one call at a time on its own thread and says when a call takes longer than `limit` seconds."""

    def __init__(self, limit: float, busy_with: Callable[[], str]) -> None:
        self._limit = limit
        self._busy_with = busy_with
        self._pool: ThreadPoolExecutor | None = None
        self.slow = 0  # how often the limit was passed

    def start(self, prepare: Callable[[], None]) -> None:
        """`prepare` runs first, on the thread itself."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "edow-engine", initializer=prepare)

    def stop(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    async def call(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run `work` on the engine thread."""
        if self._pool is None:
            raise RuntimeError("the engine thread is not running")
        loop = asyncio.get_running_loop()
        alarm = loop.call_later(self._limit, self._complain)
        try:
            return await loop.run_in_executor(self._pool, lambda: work(*args, **kwargs))
        finally:
            alarm.cancel()

    def _complain(self) -> None:
        self.slow += 1
        log.warning(
            "workflow of execution %s has computed for more than %s s without yielding; heavy work belongs in a task",
            self._busy_with() or "(unknown)",
            self._limit,
        )
