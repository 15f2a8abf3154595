"""Waits for the ends of any number of executions with one watch and one read per wake-up.

It promises that an end is seen soon after its commit (the watch), and within about a second if a notification was lost
(the safety poll). What an ended execution's row means is for others to say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from edow.errors import Closed, Unavailable
from edow.model.execution import ENDED, Execution
from edow.store.contract import Store, Watch

POLL_SECONDS = 1.0
CHUNK = 500  # rows asked for at once
CROWD = 100  # above so many waiting, rest between reads
REST = 8.0  # ... for so many times as long as the read took, and at most the poll's time
PATIENCE = 10  # failed reads in a row before the waiting callers are told

Waiting = tuple[int, asyncio.Future[Execution | None]]  # (run that the caller knows, its future)


class EndWaiter:
    """One per client; its loop runs only while somebody waits."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        """`clock` gives seconds, to measure how long reads take."""
        self._store = store
        self._clock = clock
        self._waiting: dict[str, list[Waiting]] = {}
        self._new = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self._closed = False
        self._failures = 0

    async def ended(self, execution: str, run: int) -> Execution | None:
        """The row, as soon as it has ended or is in a later run than `run`; None if there is no such execution."""
        if self._closed:
            raise Closed("the client is closed; open a new one with `async with edow.Client(...)`")
        future: asyncio.Future[Execution | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(execution, []).append((run, future))
        self._new.set()
        if self._loop is None:
            self._loop = asyncio.create_task(self._run(), name="edow-client-wait")
        try:
            return await future
        finally:
            self._forget(execution, future)

    async def close(self) -> None:
        """Whoever still waits gets `Closed`. Idempotent."""
        self._closed = True
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
        self._fail(Closed("the client was closed while waiting for a result; the execution goes on"))

    def _forget(self, execution: str, future: asyncio.Future[Execution | None]) -> None:
        left = [each for each in self._waiting.get(execution, ()) if each[1] is not future]
        if left:
            self._waiting[execution] = left
        else:
            self._waiting.pop(execution, None)

    async def _run(self) -> None:
        watch: Watch | None = None
        try:
            watch = self._store.watch("ended")  # before the first read, so that no end falls in between
            while self._waiting:
                await self._round()
                if self._waiting:
                    await self._pause(watch)
        except Exception as problem:  # a store that was closed; whatever it is, those who wait must hear of it
            self._fail(problem)
        finally:
            self._loop = None
            if watch is not None:
                watch.close()

    async def _pause(self, watch: Watch) -> None:
        """Until something has ended, somebody new waits, or the poll is due."""
        if self._new.is_set():
            return
        ended = asyncio.ensure_future(watch.wait(POLL_SECONDS))
        new = asyncio.ensure_future(self._new.wait())
        try:
            await asyncio.wait({ended, new}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            new.cancel()
            await asyncio.gather(ended, new, return_exceptions=True)

    async def _round(self) -> None:
        """Read the rows of everybody waiting, chunk by chunk, and answer those that have ended."""
        self._new.clear()
        began = self._clock()
        ids = list(self._waiting)
        try:
            for start in range(0, len(ids), CHUNK):
                await self._read(ids[start : start + CHUNK])
        except Unavailable as problem:
            await self._bear(problem)
            return
        except Exception as problem:  # whatever it is, those who wait must hear of it
            self._fail(problem)
            return
        self._failures = 0
        if len(ids) > CROWD:
            await asyncio.sleep(min(POLL_SECONDS, REST * (self._clock() - began)))

    async def _read(self, ids: list[str]) -> None:
        rows = await self._store.executions_get(ids)
        for execution, row in zip(ids, rows, strict=True):
            left = [each for each in self._waiting.pop(execution, ()) if not _answered(each, row)]
            if left:
                self._waiting[execution] = left

    async def _bear(self, problem: Unavailable) -> None:
        """A store that does not answer may be back in a moment; one that is closed will not."""
        self._failures += 1
        if isinstance(problem, Closed) or self._failures >= PATIENCE:
            self._fail(problem)
        else:
            await asyncio.sleep(POLL_SECONDS)

    def _fail(self, problem: Exception) -> None:
        for waiting in self._waiting.values():
            for _, future in waiting:
                if not future.done():
                    future.set_exception(problem)
        self._waiting.clear()


def _answered(waiting: Waiting, row: Execution | None) -> bool:
    """Whether this caller need not wait any longer; if so it has been told."""
    run, future = waiting
    if future.done():
        return True
    if row is not None and row.status not in ENDED and row.run <= run:
        return False
    future.set_result(row)
    return True
