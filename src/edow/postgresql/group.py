"""Group commit: what is asked while one batch is on its way becomes the next one.

It promises that a job which fails for a reason of its own fails alone, and that jobs are begun in the order in which
they were asked. It knows nothing of what they do.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from edow.errors import Closed, Unavailable

Job = TypeVar("Job")
Outcome = TypeVar("Outcome")


class Group(Generic[Job, Outcome]):
    """`perform` does several jobs in one transaction; its outcomes are in their order. `weigh` tells a job's size; a
    batch has at most `most`, or one job.
    """

    def __init__(
        self, perform: Callable[[Sequence[Job]], Awaitable[Sequence[Outcome]]], weigh: Callable[[Job], int], most: int
    ) -> None:
        self._perform = perform
        self._weigh = weigh
        self._most = most
        self._waiting: deque[tuple[Job, asyncio.Future[Outcome]]] = deque()
        self._running: asyncio.Task[None] | None = None
        self._closed = False

    def submit(self, job: Job) -> asyncio.Future[Outcome]:
        """What became of it. Cancelling the future does not undo the job."""
        if self._closed:
            raise Closed("closed meanwhile")
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, future))
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name="edow-postgresql-group")
        return future

    async def close(self) -> None:
        """Finish what was asked, and take no more. Idempotent."""
        self._closed = True
        if self._running is not None:
            await asyncio.wait([self._running])

    def open(self) -> None:
        """Take jobs (again)."""
        self._closed = False

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._do(self._take())
        finally:
            self._running = None

    def _take(self) -> list[tuple[Job, asyncio.Future[Outcome]]]:
        batch = [self._waiting.popleft()]
        weight = self._weigh(batch[0][0])
        while self._waiting and (weight := weight + self._weigh(self._waiting[0][0])) <= self._most:
            batch.append(self._waiting.popleft())
        return batch

    async def _do(self, batch: list[tuple[Job, asyncio.Future[Outcome]]]) -> None:
        try:
            outcomes = await self._perform([job for job, _ in batch])
        except BaseException as problem:
            if len(batch) > 1 and isinstance(problem, Exception) and not isinstance(problem, Unavailable):
                for one in batch:  # it is not known whose fault it was
                    await self._do([one])
                return
            for _, future in batch:
                if not future.done():
                    future.set_exception(problem)
                    future.exception()  # whoever has gone need not hear of it
            if not isinstance(problem, Exception):
                raise
            return
        for (_, future), outcome in zip(batch, outcomes, strict=True):
            if not future.done():
                future.set_result(outcome)
