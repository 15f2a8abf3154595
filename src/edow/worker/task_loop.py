"""Runs async tasks on an event loop and thread of their own, so that a task that blocks cannot stop the I/O loop.

Attempts cross over in batches, both ways. A loop that no longer answers is reported with the stack of the task that
blocks it, and once an attempt on it is past its limits a fresh loop takes over the new work.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence

from edow.telemetry.exporter import enter
from edow.worker.attempt import Attempt, begin, bind, conclude, end, traceparent_of
from edow.worker.config import WorkerConfig
from edow.worker.mailbox import Mailbox
from edow.workflow.context import current_context
from edow.workflow.failures import failure_of

CLOSE_SECONDS = 1.0  # for tasks that were abandoned, when their loop is closed
LOST_AFTER_SECONDS = 30.0  # a loop that is blocked for so long gets no new work, whatever blocks it

log = logging.getLogger("edow.worker")


class TaskLoop:
    """One loop on one thread."""

    def __init__(self, make_loop: Callable[[], asyncio.AbstractEventLoop], ended: Mailbox[Attempt]) -> None:
        self._loop = make_loop()
        self._inbox = Mailbox(self._loop, self._begin)
        self._ended = ended
        self._finished: list[Attempt] = []
        self._pinged = False
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="edow-tasks", daemon=True)
        self.live: set[Attempt] = set()  # begun and not returned
        self.missed = 0  # ticks since it last answered

    # ── called from the I/O loop ──────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        self._thread.start()

    def submit(self, attempts: Sequence[Attempt]) -> None:
        for attempt in attempts:
            attempt.home = self
        self._inbox.put(attempts)

    def cancel(self, attempt: Attempt) -> None:
        self._call(self._cancel, attempt)

    def not_begun(self) -> list[Attempt]:
        """Take back what a blocked loop has not looked at."""
        return self._inbox.take()

    def tick(self) -> None:
        if self._pinged:
            self.missed += 1
        else:
            self._pinged, self.missed = True, 0
            self._call(self._pong)

    def stack(self) -> str:
        """Where its thread is now."""
        frame = sys._current_frames().get(self._thread.ident or 0)
        return "".join(traceback.format_stack(frame)) if frame else "(its thread has ended)"

    def culprit(self) -> Attempt | None:
        """The attempt that is being executed at this moment."""
        task = asyncio.current_task(self._loop)
        return next((attempt for attempt in list(self.live) if attempt.handle is task), None) if task else None

    def close(self) -> None:
        """End its tasks and then the loop; does not wait."""
        if self._thread.ident is None:  # never started
            self._loop.close()
        else:
            self._call(self._stop)

    def join(self, seconds: float) -> bool:
        """True when its thread has ended."""
        if self._thread.ident is not None:
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def _call(self, call: Callable[..., None], *args: Attempt) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:  # closed: it has nothing left to do
            pass

    # ── on its own thread ─────────────────────────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        loop = self._loop
        asyncio.set_event_loop(loop)
        try:
            while not (self._closing or loop.is_closed()):
                self._run_on()
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            if tasks:
                loop.run_until_complete(asyncio.wait(tasks, timeout=CLOSE_SECONDS))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            asyncio.set_event_loop(None)
            loop.close()

    def _run_on(self) -> None:
        """A task of the user's tasks that calls sys.exit(), or one that stops the loop, must not end all the others."""
        try:
            self._loop.run_forever()
        except BaseException as error:  # asyncio lets these out of the loop, besides giving them to whoever awaits
            log.warning("%s in a task that a task has made: it does not end the worker", type(error).__name__)

    def _stop(self) -> None:
        self._closing = True
        self._loop.stop()

    def _pong(self) -> None:
        self._pinged = False

    def _begin(self, attempts: list[Attempt]) -> None:
        create, live = self._loop.create_task, self.live
        for attempt in attempts:
            if not attempt.stopped:
                live.add(attempt)
                attempt.handle = create(self._perform(attempt), name=attempt.event.id)
            else:
                self._finish(attempt)

    def _cancel(self, attempt: Attempt) -> None:
        if attempt in self.live and isinstance(attempt.handle, asyncio.Task):
            attempt.handle.cancel()

    async def _perform(self, attempt: Attempt) -> None:
        current_context.set(attempt.context)
        enter(traceparent_of(attempt))
        begin(attempt)
        try:
            call = bind(attempt)
            if call is not None:
                conclude(attempt, await attempt.task.fn(*call[0], **call[1]))
        except GeneratorExit:  # the loop is gone
            raise
        except BaseException as error:
            attempt.failure = failure_of(error, give_up_on=attempt.task.give_up_on)
        end(attempt)
        self.live.discard(attempt)
        self._finish(attempt)

    def _finish(self, attempt: Attempt) -> None:
        attempt.finished = True
        attempt.handle = None
        if not self._finished:
            self._loop.call_soon(self._hand_back)  # after everything that can end in this turn of the loop
        self._finished.append(attempt)

    def _hand_back(self) -> None:
        finished, self._finished = self._finished, []
        self._ended.put(finished)


class AsyncRunner:
    """The task loop in use, and those that were given up."""

    def __init__(self, config: WorkerConfig, ended: Mailbox[Attempt]) -> None:
        self._config = config
        self._ended = ended
        self._make_loop = _loop_factory()
        self._loop = TaskLoop(self._make_loop, ended)
        self._given_up: list[TaskLoop] = []
        self._reported = False

    @property
    def size(self) -> int:
        return self._config.concurrency

    @property
    def zombies(self) -> int:
        """Task loops given up and still blocked."""
        return len(self._given_up)

    def start(self) -> None:
        self._loop.start()

    def submit(self, attempts: Sequence[Attempt]) -> None:
        self._loop.submit(attempts)

    def stop_attempt(self, attempt: Attempt) -> bool:
        if isinstance(attempt.home, TaskLoop):
            attempt.home.cancel(attempt)
        return False

    def abandon(self, attempt: Attempt) -> None:
        log.warning(
            "task %s of execution %s does not end though it was told to; it goes on without influence",
            attempt.event.subject,
            attempt.event.executionid,
        )
        if attempt.home is self._loop and self._loop.missed > 1:
            self._replace()

    def tick(self) -> None:
        loop = self._loop
        loop.tick()
        blocked = loop.missed * self._config.tick_seconds
        if blocked < self._config.blocked_seconds:
            self._reported = False
        elif not self._reported:
            self._reported = True
            self._report(loop, blocked)
        if blocked >= LOST_AFTER_SECONDS:
            self._replace()
        self._bury()

    def close(self, wait_seconds: float) -> None:
        loops = [self._loop, *self._given_up]
        until = time.monotonic() + wait_seconds
        for loop in loops:
            loop.close()
        for loop in loops:
            loop.join(max(0.0, until - time.monotonic()))

    def _report(self, loop: TaskLoop, blocked: float) -> None:
        attempt = loop.culprit()
        log.warning(
            "task %s of execution %s has blocked the task loop for %.1f s; make it a plain `def`, which runs in a "
            "thread, or await something. It is at:\n%s",
            attempt.event.subject if attempt else "(unknown)",
            attempt.event.executionid if attempt else "(unknown)",
            blocked,
            loop.stack(),
        )

    def _replace(self) -> None:
        """New work goes to a fresh loop; the old one finishes what it has begun, if it ever can."""
        old, self._loop = self._loop, TaskLoop(self._make_loop, self._ended)
        self._given_up.append(old)
        self._loop.start()
        self._loop.submit(old.not_begun())
        log.error("the task loop is blocked and was replaced; %d loops are stuck", len(self._given_up))

    def _bury(self) -> None:
        for loop in self._given_up[:]:
            if not loop.live:
                self._given_up.remove(loop)
                loop.close()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """The same kind of loop as the caller's where that is uvloop; else the default."""
    kind = type(asyncio.get_running_loop())
    return kind if kind.__module__.startswith("uvloop") else asyncio.new_event_loop
