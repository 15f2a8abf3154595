"""The engine thread: the one place where workflow code runs, away from the I/O loop.

A workflow that computes for too long delays only its fellows; leases and the broker's heartbeats go on. It is told,
not killed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger("edow.orchestrator")


class Mind:
    """Runs one call at a time on its own thread and says when a call takes longer than `limit` seconds.

    A step passes through here twice, so getting there and back has to be cheap: a queue there, a callback back.
    """

    def __init__(self, limit: float, busy_with: Callable[[], str]) -> None:
        self._limit = limit
        self._busy_with = busy_with
        self._queue: SimpleQueue[Callable[[], None] | None] | None = None
        self.slow = 0  # how often the limit was passed

    def start(self, prepare: Callable[[], None]) -> None:
        """`prepare` runs first, on the thread itself."""
        if self._queue is None:
            self._queue = SimpleQueue()
            self._queue.put(prepare)
            Thread(target=_serve, args=[self._queue], name="edow-engine", daemon=True).start()

    @property
    def running(self) -> bool:
        return self._queue is not None

    def stop(self) -> None:
        """The thread ends after the call under way."""
        if self._queue is not None:
            self._queue.put(None)
            self._queue = None

    async def call(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run `work` on the engine thread, and say when that takes long."""
        alarm = asyncio.get_running_loop().call_later(self._limit, self._complain)
        try:
            return await self.ask(work, *args, **kwargs)
        finally:
            alarm.cancel()

    async def ask(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """The same, for whoever does not mind how long it takes until the thread is free."""
        if self._queue is None:
            raise RuntimeError("the engine thread is not running")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[R] = loop.create_future()
        self._queue.put(partial(_run, partial(work, *args, **kwargs), loop, answer))
        return await answer

    def _complain(self) -> None:
        self.slow += 1
        log.warning(
            "workflow of execution %s has computed for more than %s s without yielding; heavy work belongs in a task",
            self._busy_with() or "(unknown)",
            self._limit,
        )


def _serve(queue: SimpleQueue[Callable[[], None] | None]) -> None:
    while (call := queue.get()) is not None:
        call()


def _run(work: Callable[[], Any], loop: asyncio.AbstractEventLoop, answer: asyncio.Future[Any]) -> None:
    tell: Callable[[Any], None]
    try:
        result = work()
        tell = answer.set_result
    except BaseException as problem:
        result, tell = problem, answer.set_exception
    try:
        loop.call_soon_threadsafe(_tell, answer, tell, result)
    except RuntimeError:
        pass  # the loop is closed: nobody waits any more


def _tell(answer: asyncio.Future[Any], tell: Callable[[Any], None], result: object) -> None:
    if not answer.done():  # else its caller has gone
        tell(result)
