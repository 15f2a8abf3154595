"""Hands values to an event loop from any thread, with one wake-up for however many arrive before the loop looks.

This is the only way in which the worker's threads talk to each other's loops. Order is kept per sender; there
are no locks.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """`deliver` is called on `loop` with all that has arrived. What comes after the loop was closed is dropped."""

    def __init__(self, loop: asyncio.AbstractEventLoop, deliver: Callable[[list[T]], None]) -> None:
        self._loop = loop
        self._deliver = deliver
        self._items: deque[T] = deque()
        self._woken = False

    def put(self, items: Iterable[T]) -> None:
        self._items.extend(items)
        if not self._woken:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._open)
            except RuntimeError:  # the loop is closed: nobody is left to care
                self._items.clear()

    def take(self) -> list[T]:
        """What has arrived and was not delivered yet."""
        pop = self._items.popleft
        return [pop() for _ in range(len(self._items))]

    def _open(self) -> None:
        self._woken = False  # before looking: whoever puts from here on wakes the loop again
        if items := self.take():
            self._deliver(items)
