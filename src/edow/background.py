"""What a process does beside its main work, from start to stop: again and again, whatever goes wrong meanwhile.

It is for what no execution waits for. The loops that carry executions end with a bug, and say so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import TypeVar

from edow.errors import EdowError

T = TypeVar("T")
log = logging.getLogger("edow.background")


class Background:
    """Work that runs from start to stop; both are idempotent."""

    def __init__(self, *work: tuple[str, Callable[[], Coroutine[object, object, None]]]) -> None:
        """Each with the name that its task has."""
        self._work = work
        self._running: list[asyncio.Task[None]] = []

    def start(self) -> None:
        if not self._running:
            self._running = [asyncio.create_task(run(), name=name) for name, run in self._work]

    async def stop(self) -> bool:
        """Cancel it, and wait until it has gone; False if it did not run."""
        running, self._running = self._running, []
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        return bool(running)


async def forever(
    once: Callable[[], Awaitable[T]], trouble: str, seconds: float = 1.0, rest: Callable[[T], float] | None = None
) -> None:
    """`once` again and again, `seconds` apart, or as many as `rest` makes of its answer. `trouble` is logged where it
    fails.
    """
    while True:
        pause = seconds
        try:
            answer = await once()
            pause = seconds if rest is None else rest(answer)
        except EdowError as problem:
            log.warning("%s: %s; trying again", trouble, problem)
        except Exception:
            log.exception("%s; trying again", trouble)
        await asyncio.sleep(pause)
