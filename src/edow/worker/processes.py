"""Runs CPU-bound tasks in child processes of our own. A child can be killed, which ends a task for certain.

Each child has one thread here that feeds it, waits for it and replaces it. A child that dies fails its attempt
and nothing else.
"""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from queue import SimpleQueue

import msgspec

from edow.model.failure import Failure
from edow.worker.attempt import AnyTask, Attempt, begin, end
from edow.worker.child import Beat, Boot, Done, Pipe, Ready, Run, Source, decode_answer
from edow.worker.config import WorkerConfig
from edow.worker.mailbox import Mailbox

BOOT_SECONDS = 300.0  # for a child to import what its tasks need

log = logging.getLogger("edow.worker")


class ProcessRunner:
    """Up to `processes` children, started when they are first needed."""

    def __init__(self, config: WorkerConfig, ended: Mailbox[Attempt], tasks: Iterable[AnyTask]) -> None:
        self._config = config
        self._ended = ended
        self._boot = Boot(list(sys.path), _sources(tasks), config.name)
        self._queue: SimpleQueue[Attempt | None] = SimpleQueue()
        self._slots: list[Slot] = []

    @property
    def size(self) -> int:
        return self._config.processes

    @property
    def zombies(self) -> int:
        return 0  # a process can be killed

    def start(self) -> None:
        """Children are started when they are first needed."""

    def submit(self, attempts: Sequence[Attempt]) -> None:
        for attempt in attempts:
            if len(self._slots) < self._config.processes:
                self._add_slot(attempt)
            if self._slots:
                self._queue.put(attempt)
            else:
                attempt.finished = True
                self._ended.put((attempt,))

    def _add_slot(self, attempt: Attempt) -> None:
        """Where the system has no thread left for it, those that there are go on; else the attempt fails."""
        slot = Slot(self._queue, self._ended, self._boot)
        try:
            slot.start()
        except RuntimeError as problem:
            log.warning("%d task processes have to do the work of one more: %s", len(self._slots), problem)
            if not self._slots:
                attempt.failure = _unavailable(problem)
        else:
            self._slots.append(slot)

    def stop_attempt(self, attempt: Attempt) -> bool:
        slot = attempt.handle
        return isinstance(slot, Slot) and slot.kill(attempt)

    def abandon(self, attempt: Attempt) -> None:
        """Nothing to wait for: its process was killed when it was stopped."""

    def tick(self) -> None:
        """The slots look after their children themselves."""

    def close(self, wait_seconds: float) -> None:
        slots, self._slots = self._slots, []
        for _ in slots:
            self._queue.put(None)
        until = time.monotonic() + wait_seconds
        for slot in slots:
            slot.join(max(0.0, until - time.monotonic()))
            slot.end()


class Slot(threading.Thread):
    """One child at a time."""

    def __init__(self, queue: SimpleQueue[Attempt | None], ended: Mailbox[Attempt], boot: Boot) -> None:
        super().__init__(name="edow-process", daemon=True)
        self._queue = queue
        self._ended = ended
        self._boot = boot
        self._lock = threading.Lock()  # guards which attempt the child runs, so that no other one is killed
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Pipe | None = None

    def kill(self, attempt: Attempt) -> bool:
        """Called from the I/O loop. False: the child does not run this attempt (any more)."""
        with self._lock:
            if attempt.handle is not self or self._process is None:
                return False
            self._process.kill()
            return True

    def end(self) -> None:
        """Whatever it is doing."""
        with self._lock:
            if self._process is not None:
                self._process.kill()

    def run(self) -> None:
        while (attempt := self._queue.get()) is not None:
            try:
                self._perform(attempt)
            except Exception as error:
                log.exception("a task process could not be used")
                attempt.failure = _unavailable(error)
                self._forget()
            with self._lock:
                attempt.handle = None
            attempt.finished = True
            self._ended.put((attempt,))
        self._forget()

    def _perform(self, attempt: Attempt) -> None:
        pipe = self._pipe or self._spawn()
        with self._lock:
            if attempt.stopped:
                return
            attempt.handle = self
        begin(attempt)
        done = self._converse(pipe, attempt)
        end(attempt)
        if done is None:
            attempt.failure = _died(attempt, self._forget())
        else:
            attempt.result, attempt.failure = done.result, done.failure

    def _converse(self, pipe: Pipe, attempt: Attempt) -> Done | None:
        fn = attempt.task.fn
        try:
            count = attempt.context.delivery_count if attempt.context else 1
            details = None if attempt.details is None else msgspec.Raw(attempt.details)
            pipe.send(Run(fn.__module__, fn.__qualname__, attempt.number, attempt.event, count, details))
            while (body := pipe.receive()) is not None:
                answer = decode_answer(body)
                if isinstance(answer, Done):
                    return answer
                if isinstance(answer, Beat):
                    attempt.beat(bytes(answer.details))
        except OSError:  # it died before it had read everything
            pass
        return None

    def _spawn(self) -> Pipe:
        root = str(Path(__file__).parents[2])
        code = f"import sys; sys.path.insert(0, {root!r}); from edow.worker.child import main; main()"
        process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin is not None
        assert process.stdout is not None
        pipe = self._pipe = Pipe(process.stdout, process.stdin)
        with self._lock:
            self._process = process
        late = threading.Timer(BOOT_SECONDS, process.kill)
        late.daemon = True
        late.start()
        try:
            pipe.send(self._boot)
            body = pipe.receive()
        finally:
            late.cancel()
        ready = decode_answer(body) if body is not None else None
        if not isinstance(ready, Ready):
            raise ChildProcessError(
                f"a task process ended at its start with exit code {process.wait()}, or took {BOOT_SECONDS:g} s for it"
            )
        for module, why in ready.broken.items():
            log.error("module %s cannot be imported in a task process, its tasks will fail:\n%s", module, why)
        return pipe

    def _forget(self) -> int:
        """Close the pipes, which ends the child if it still lives; its exit code."""
        with self._lock:
            process, self._process = self._process, None
        pipe, self._pipe = self._pipe, None
        if process is None:
            return 0
        if pipe is not None:
            pipe.close()
        try:
            return process.wait(1.0)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


def _unavailable(problem: Exception) -> Failure:
    return Failure(type="edow.errors.Unavailable", message=f"no process to run it in: {problem}")


def _died(attempt: Attempt, code: int) -> Failure:
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return Failure(
        type="edow.worker.ProcessDied",
        message=f"the process that ran task {attempt.event.subject!r} ended with {how} before the task had returned",
    )


def _sources(tasks: Iterable[AnyTask]) -> list[Source]:
    """Where the process tasks are defined."""
    modules = {task.fn.__module__ for task in tasks if task.kind == "process"}
    return [_source(name) for name in sorted(modules)]


def _source(name: str) -> Source:
    if name != "__main__":
        return Source(name)
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:  # python -m package.module
        return Source(name, spec.origin or "")
    return Source(name, str(Path(getattr(main, "__file__", "") or "").resolve()))
