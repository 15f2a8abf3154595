"""Runs sync tasks in threads of our own. A thread that does not end in time is left behind and replaced.

Python cannot kill a thread. One that is told to stop gets `CancelledError` raised at its next bytecode as a best
effort; from then on it has no influence: its result is ignored, `edow.once` refuses to commit, its place is free.
"""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import logging
import threading
import time
from collections.abc import Sequence
from queue import SimpleQueue

from edow.model.failure import Failure
from edow.telemetry.exporter import enter
from edow.worker.attempt import Attempt, begin, bind, conclude, end, traceparent_of
from edow.worker.config import WorkerConfig
from edow.worker.mailbox import Mailbox
from edow.workflow.context import current_context
from edow.workflow.failures import failure_of

log = logging.getLogger("edow.worker")


class ThreadRunner:
    """At most `threads` that work, and up to `zombies` left behind; with more of those it takes no new work."""

    def __init__(self, config: WorkerConfig, ended: Mailbox[Attempt]) -> None:
        self._config = config
        self._ended = ended
        self._queue: SimpleQueue[Attempt | None] = SimpleQueue()
        self._lock = threading.Lock()  # guards which thread runs what, so that nobody is interrupted for another
        self._threads: set[Thread] = set()
        self._busy = 0
        self._zombies = 0

    @property
    def zombies(self) -> int:
        return self._zombies

    @property
    def size(self) -> int:
        return self._config.threads if self.zombies <= self._config.zombies else 0

    def start(self) -> None:
        """Threads are made when they are first needed."""

    def submit(self, attempts: Sequence[Attempt]) -> None:
        with self._lock:
            self._busy += len(attempts)
        problem = self._add_threads()
        if problem is not None:
            log.warning("%d threads have to do the work of %d: %s", len(self._threads), self._busy, problem)
            if not self._threads:
                self._refuse(attempts, problem)
                return
        for attempt in attempts:
            self._queue.put(attempt)

    def stop_attempt(self, attempt: Attempt) -> bool:
        with self._lock:
            thread = attempt.handle
            if not isinstance(thread, Thread):
                return False  # not begun, or just finished: it comes back in the ordinary way
            attempt.handle = None
            thread.retired = True
            self._threads.discard(thread)
            self._busy -= 1
            self._zombies += 1
            thread.interrupt()
        self._add_threads()
        if self.size == 0:
            log.error("%d threads are stuck in tasks; this worker takes no more sync tasks: restart it", self.zombies)
        return True

    def abandon(self, attempt: Attempt) -> None:
        """Nothing to wait for: it was abandoned when it was stopped."""

    def tick(self) -> None:
        """Where a thread could not be made, it may be possible now."""
        if len(self._threads) < min(self._busy, self._config.threads):
            self._add_threads()

    def close(self, wait_seconds: float) -> None:
        threads = list(self._threads)
        for _ in threads:
            self._queue.put(None)
        until = time.monotonic() + wait_seconds
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _add_threads(self) -> RuntimeError | None:
        """As many as there is work for; why not, where the system has none left."""
        while len(self._threads) < min(self._busy, self._config.threads):
            thread = Thread(self)
            try:
                thread.start()
            except RuntimeError as problem:
                return problem
            self._threads.add(thread)
        return None

    def _refuse(self, attempts: Sequence[Attempt], problem: RuntimeError) -> None:
        with self._lock:
            self._busy -= len(attempts)
        for attempt in attempts:
            attempt.failure = Failure(type="edow.errors.Unavailable", message=f"no thread to run it in: {problem}")
            attempt.finished = True
        self._ended.put(attempts)

    # ── called by the threads ─────────────────────────────────────────────────────────────────────────────────────────

    def next(self, thread: Thread) -> Attempt | None:
        attempt = self._queue.get()
        if attempt is not None:
            with self._lock:
                attempt.handle = thread
        return attempt

    def done(self, attempt: Attempt, thread: Thread) -> None:
        with self._lock:
            if not attempt.finished:  # else the interruption has come right behind this, and it is done once more
                attempt.handle = None
                attempt.finished = True
                if thread.retired:
                    self._zombies -= 1
                else:
                    self._busy -= 1
        self._ended.put((attempt,))


class Thread(threading.Thread):
    """Daemons, so that a stuck one cannot keep the process from ending."""

    def __init__(self, runner: ThreadRunner) -> None:
        super().__init__(name="edow-task", daemon=True)
        self._runner = runner
        self.retired = False

    def interrupt(self) -> None:
        error = ctypes.py_object(asyncio.CancelledError)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.ident or 0), error)

    def run(self) -> None:
        """A retired thread ends after its attempt, so an interruption that comes late finds nobody else's work."""
        while not self.retired:
            attempt = self._runner.next(self)
            if attempt is None:
                return
            try:
                self._perform(attempt)
            except asyncio.CancelledError:  # the interruption came just before or after the function
                pass
            self._finish(attempt)

    def _finish(self, attempt: Attempt) -> None:
        while True:
            try:
                return self._runner.done(attempt, self)
            except asyncio.CancelledError:
                continue

    def _perform(self, attempt: Attempt) -> None:
        begin(attempt)
        if attempt.stopped:
            return
        try:
            contextvars.Context().run(call, attempt)
        except BaseException as error:
            attempt.failure = failure_of(error, give_up_on=attempt.task.give_up_on)
        end(attempt)


def call(attempt: Attempt) -> None:
    """In a context of its own: what one task sets, the next does not see."""
    current_context.set(attempt.context)
    enter(traceparent_of(attempt))
    bound = bind(attempt)
    if bound is not None:
        conclude(attempt, attempt.task.fn(*bound[0], **bound[1]))
