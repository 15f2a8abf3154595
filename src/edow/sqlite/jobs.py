"""A unit of work for one of the file's two threads, and how its outcome gets back to whoever asked.

Callers may live on different event loops; each loop is woken once for all of its outcomes.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Any, Literal, TypeVar

from edow.errors import Closed

Result = TypeVar("Result")
Function = Callable[[sqlite3.Connection], Result]
Disk = Literal["before", "answer", "later"]
"""When what was written is on disk: before anybody else sees it; seen at once, but before the caller is answered;
or whenever the system gets to it. The log is kept in order: what comes later cannot outlive what came before.
"""


class Job:
    """`function` may run more than once (never applied more than once), so it keeps no state of its own."""

    __slots__ = ("after", "disk", "function", "future", "loop", "number", "problem", "result", "small")

    def __init__(
        self,
        function: Function[Any],
        disk: Disk = "later",
        after: Callable[[Any], None] | None = None,
        small: bool = False,
    ) -> None:
        self.function = function
        self.disk = disk
        self.after = after
        self.small = small
        self.number = 0  # of the transaction that applied it
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()
        self.result: object = None
        self.problem: BaseException | None = None

    def settle(self) -> None:
        """On the job's own loop: tell whoever still waits."""
        if self.future.done():
            return
        if self.problem is not None:
            self.future.set_exception(self.problem)
        else:
            self.future.set_result(self.result)


def settle(jobs: Iterable[Job]) -> None:
    """Wake each loop once."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Job]] = {}
    for job in jobs:
        by_loop.setdefault(job.loop, []).append(job)
    for loop, mine in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle_here, mine)
        except RuntimeError:
            pass  # the loop is closed: nobody waits any more


def _settle_here(jobs: list[Job]) -> None:
    for job in jobs:
        job.settle()


class Inbox:
    """Jobs on their way to a thread. Once closed it takes no more; the thread sees None after the last."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._gate = Lock()
        self._closed = False

    def put(self, job: Job) -> None:
        with self._gate:
            if self._closed:
                raise Closed(f"{self._path} is closed")
            self._queue.put(job)

    def close(self) -> None:
        with self._gate:
            if not self._closed:
                self._closed = True
                self._queue.put(None)

    @property
    def is_empty(self) -> bool:
        return self._queue.empty()

    def take(self, limit: int, seconds: float | None) -> list[Job] | None:
        """All that has arrived, up to `limit`; waits for the first, at most `seconds`. None: closed and empty."""
        try:
            first = self._queue.get(timeout=seconds)
        except Empty:
            return []
        if first is None:
            return None
        jobs = [first]
        while len(jobs) < limit:
            try:
                job = self._queue.get_nowait()
            except Empty:
                break
            if job is None:
                self._queue.put(None)  # closed: there is nothing behind it
                break
            jobs.append(job)
        return jobs
