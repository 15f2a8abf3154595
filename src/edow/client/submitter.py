"""Gathers what many callers of one client ask at the same time into few transactions.

A call on an idle client goes at once; whatever arrives while one batch is being committed is the next batch. It
knows nothing of what the requests mean, and answers each caller with exactly the answers to its own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from edow.errors import Closed
from edow.model.portions import portions
from edow.store.contract import Answer, Request, StartRequest, Store

BATCH = 1000  # requests in one transaction; a single call's own requests are never split
BATCH_BYTES = 8 * 1024 * 1024  # of what they hold

Call = tuple[Sequence[Request], asyncio.Future[list[Answer]]]


class Submitter:
    """Call `submit` as often and as concurrently as you like."""

    def __init__(self, store: Store, clock: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock
        self._waiting: deque[Call] = deque()
        self._sending: asyncio.Task[None] | None = None
        self._closed = False

    def submit(self, requests: Sequence[Request]) -> asyncio.Future[list[Answer]]:
        """The answers, in order, once all of it is on disk."""
        if self._closed:
            raise Closed("the client is closed; open a new one with `async with edow.Client(...)`")
        future: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()
        self._waiting.append((requests, future))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send(), name="edow-client-submit")
        return future

    async def close(self) -> None:
        """Finish what was submitted, then refuse more. Idempotent."""
        self._closed = True
        if self._sending is not None:
            await self._sending

    async def _send(self) -> None:
        try:
            while self._waiting:
                await self._send_batch(self._take())
        finally:
            self._sending = None

    def _take(self) -> list[Call]:
        batch = next(portions(self._waiting, _size, BATCH, BATCH_BYTES, number=lambda call: len(call[0])))
        for _ in batch:
            self._waiting.popleft()
        return batch

    async def _send_batch(self, batch: list[Call]) -> None:
        requests = [request for part, _ in batch for request in part]
        try:
            answers = await self._store.accept(requests, self._clock())
        except BaseException as problem:
            for _, future in batch:
                _fail(future, problem)
            if not isinstance(problem, Exception):
                raise
            return
        at = 0
        for part, future in batch:
            if not future.done():  # else its caller has gone; the request was accepted all the same
                future.set_result(answers[at : at + len(part)])
            at += len(part)


def _size(call: Call) -> int:
    """In bytes, about."""
    return sum(map(size_of, call[0]))


def size_of(request: Request) -> int:
    """In bytes, about."""
    return len(request.segment if isinstance(request, StartRequest) else request.command)


def _fail(future: asyncio.Future[list[Answer]], problem: BaseException) -> None:
    if future.done():
        return
    if isinstance(problem, Exception):
        future.set_exception(problem)
    else:
        future.cancel()
