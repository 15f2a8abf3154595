"""What a process does beside its main work, from start to stop: again and again, whatever goes wrong meanwhile.

It is for what no execution waits for. The loops that carry executions end with a bug, and say so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeVar

from edow.errors import EdowError

T = TypeVar("T")
log = logging.getLogger("edow.background")

SHORT_SECONDS = 1.0
# Of a rest that news end: what they are not told of, because whoever wrote it died before it said so, is found by then.
LONG_SECONDS = 30.0
AGAIN_SECONDS = 1.0  # until work that has ended by an error begins anew


class News(Protocol):
    """What ends a rest: see `edow.store.contract.Watch`."""

    async def wait(self, seconds: float) -> bool: ...
    def close(self) -> None: ...


def is_stopping() -> bool:
    """Whether whoever calls was cancelled, and something that it called has said nothing of it."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def kept(run: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
    """Until it is over or we are cancelled. Whatever else ends it is told, and it begins anew: a client library that
    gives up a connection may cancel calls that wait for it, and so whoever called it, though nobody wants that to end.
    """
    while True:
        try:
            return await run()
        except asyncio.CancelledError:
            if is_stopping():
                raise
            log.error("%s was cancelled by something that it called; it goes on", name)
        except Exception:
            log.exception("%s has ended; it begins anew", name)
        await asyncio.sleep(AGAIN_SECONDS)


class Background:
    """Work that runs from start to stop, whatever ends it in between; both are idempotent."""

    def __init__(self, *work: tuple[str, Callable[[], Coroutine[Any, Any, None]]]) -> None:
        """Each with the name that its task has."""
        self._work = work
        self._running: list[asyncio.Task[None]] = []

    def start(self) -> None:
        if not self._running:
            self._running = [asyncio.create_task(kept(run, name), name=name) for name, run in self._work]

    async def stop(self) -> bool:
        """Cancel it, and wait until it has gone; False if it did not run."""
        running, self._running = self._running, []
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        return bool(running)


async def forever(
    once: Callable[[], Awaitable[T]],
    trouble: str,
    seconds: float = SHORT_SECONDS,
    rest: Callable[[T], float] | None = None,
    watch: Callable[[], News] | None = None,
) -> None:
    """`once` again and again, `seconds` apart, or as many as `rest` makes of its answer. `trouble` is logged where it
    fails. What is longer than `seconds` of a rest is over as soon as the watch has news.
    """
    news = None if watch is None else watch()
    try:
        while not is_stopping():
            pause = seconds
            try:
                answer = await once()
                pause = seconds if rest is None else rest(answer)
            except EdowError as problem:
                log.warning("%s: %s; trying again", trouble, problem)
            except Exception:
                log.exception("%s; trying again", trouble)
            await rested(pause, news, seconds)
    finally:
        if news is not None:
            news.close()


async def rested(seconds: float, news: News | None, least: float = SHORT_SECONDS) -> None:
    """The time is over; or `least` of it, and there are news. However many there are, so often they are looked at."""
    if news is None or seconds <= least:
        await asyncio.sleep(seconds)
        return
    await asyncio.sleep(least)
    await news.wait(seconds - least)
