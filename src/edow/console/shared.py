"""What several open pages look at is read once: answers are shared, and asked for again only after a while.

An answer that took long to get is kept for longer, so that a page never costs a database more than a small share of
its time, however many executions it holds and however many people look.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, NamedTuple, TypeVar, cast

T = TypeVar("T")

AGE_SECONDS = 1.0  # an answer is as good as new for so long
SHARE = 50  # ... and for so many times as long as it took to get it: at most 2 % of a connection's time
MOST = 500  # answers kept


class _Answer(NamedTuple):
    value: asyncio.Future[Any]
    good_until: float


class Shared:
    """A cache of answers by key. Whoever asks for one that is being got waits for the same."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._answers: OrderedDict[Hashable, _Answer] = OrderedDict()

    async def get(self, key: Hashable, read: Callable[[], Awaitable[T]]) -> T:
        """The answer for `key`; `read` gets it if there is none that is fresh. An error is not kept."""
        known = self._answers.get(key)
        if known is not None and (not known.value.done() or self._clock() < known.good_until):
            return cast(T, await asyncio.shield(known.value))
        return await self._read(key, read)

    def forget(self) -> None:
        """Somebody has changed something, and wants to see it."""
        self._answers.clear()

    def _forget_stale(self, now: float) -> None:
        """What is no longer good is of no use, and may be large."""
        for key in [key for key, each in self._answers.items() if each.value.done() and each.good_until <= now]:
            del self._answers[key]
        while len(self._answers) > MOST:
            self._answers.popitem(last=False)

    async def _read(self, key: Hashable, read: Callable[[], Awaitable[T]]) -> T:
        began = self._clock()
        value: asyncio.Future[Any] = asyncio.ensure_future(read())
        self._answers[key] = _Answer(value, began)
        self._answers.move_to_end(key)
        self._forget_stale(began)
        try:
            found = await asyncio.shield(value)
        except BaseException:
            if self._answers.get(key) == _Answer(value, began):
                del self._answers[key]
            raise
        ended = self._clock()
        if self._answers.get(key) == _Answer(value, began):
            self._answers[key] = _Answer(value, ended + max(AGE_SECONDS, SHARE * (ended - began)))
        return cast(T, found)
