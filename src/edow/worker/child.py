"""What runs in a child process: one CPU-bound task at a time, told and answered over two pipes in JSON. Never pickle.

A child lives for many attempts and ends with its parent, even when that is killed in the middle of a task.
"""

from __future__ import annotations

import importlib
import os
import signal
import struct
import sys
import threading
import traceback
from queue import SimpleQueue
from types import ModuleType
from typing import IO

import msgspec

from edow.errors import NotFound
from edow.model.failure import Failure
from edow.model.raw import OptionalRaw
from edow.model.wire import TaskEvent
from edow.worker.attempt import AnyTask, Attempt, make_context
from edow.worker.threads import call
from edow.workflow.failures import failure_of
from edow.workflow.task import Task

MAIN = "__mp_main__"  # as in multiprocessing: a script's `if __name__ == "__main__"` part must not run here

_length = struct.Struct(">I")


class Source(msgspec.Struct, frozen=True, tag=True):
    """A module that defines tasks; `path` is given for a script, which cannot be imported by its name."""

    name: str
    path: str = ""


class Boot(msgspec.Struct, frozen=True, tag=True):
    """The first message: where code is found, and what to import before the first task."""

    path: list[str]
    sources: list[Source]
    worker: str


class Run(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """Run this attempt of the task `qualname` in `module`."""

    module: str
    qualname: str
    number: int
    event: TaskEvent
    count: int
    details: OptionalRaw = None  # what an earlier attempt in this worker last reported


class Ready(msgspec.Struct, frozen=True, tag=True):
    """Imports are done. `broken`: modules that could not be imported, and why."""

    broken: dict[str, str]


class Beat(msgspec.Struct, frozen=True, tag=True):
    details: msgspec.Raw


class Done(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    result: OptionalRaw = None
    failure: Failure | None = None


_encode = msgspec.json.Encoder().encode
decode_order = msgspec.json.Decoder(Boot | Run).decode
decode_answer = msgspec.json.Decoder(Ready | Beat | Done).decode


class Pipe:
    """Length-prefixed messages. Writing is safe from several threads."""

    def __init__(self, reader: IO[bytes], writer: IO[bytes]) -> None:
        self._reader = reader
        self._writer = writer
        self._lock = threading.Lock()

    def send(self, message: msgspec.Struct) -> None:
        body = _encode(message)
        with self._lock:
            self._writer.write(_length.pack(len(body)) + body)
            self._writer.flush()

    def receive(self) -> bytes | None:
        """None when the other side is gone."""
        head = self._reader.read(_length.size)
        if len(head) < _length.size:
            return None
        (size,) = _length.unpack(head)
        body = self._reader.read(size)
        return body if len(body) == size else None

    def close(self) -> None:
        for stream in (self._writer, self._reader):
            try:
                stream.close()
            except OSError:  # the other side went away with something unsent
                pass


# ── in the child ──────────────────────────────────────────────────────────────────────────────────────────────────────


def main() -> None:
    """Take orders until the parent closes the pipe."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the parent decides when its children end
    pipe = _take_over_stdio()
    orders: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, orders), daemon=True).start()
    boot = decode_order(orders.get())
    assert isinstance(boot, Boot)
    desk = Child(pipe, boot)
    pipe.send(Ready(desk.broken))
    while True:
        order = decode_order(orders.get())
        assert isinstance(order, Run)
        pipe.send(desk.perform(order))


def _take_over_stdio() -> Pipe:
    """Keep the pipes for ourselves: what a task prints goes to stderr and cannot garble them."""
    pipe = Pipe(os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb"))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return pipe


def _listen(pipe: Pipe, orders: SimpleQueue[bytes]) -> None:
    while (body := pipe.receive()) is not None:
        orders.put(body)
    os._exit(0)  # the parent is gone; nobody waits for what is running


class Child:
    """Loads modules and calls tasks."""

    def __init__(self, pipe: Pipe, boot: Boot) -> None:
        self._pipe = pipe
        self._worker = boot.worker
        self._modules: dict[str, ModuleType] = {}
        self.broken: dict[str, str] = {}
        sys.path[:] = boot.path
        for source in boot.sources:
            try:
                self._modules[source.name] = load(source)
            except BaseException:  # whatever a module does at import, the tasks of the others can still run
                self.broken[source.name] = traceback.format_exc()

    def perform(self, order: Run) -> Done:
        module = self._modules.get(order.module)
        if module is None:
            return Done(failure=_broken(order, self.broken.get(order.module, "it was not announced")))
        try:
            task = find_task(module, order.qualname)
        except NotFound as error:
            return Done(failure=msgspec.structs.replace(failure_of(error), retryable=False))
        attempt = Attempt(order.event, task, order.number)
        attempt.details = None if order.details is None else bytes(order.details)
        attempt.on_beat = self._beat
        attempt.context = make_context(attempt, self._worker, order.count)
        try:
            call(attempt)
        except BaseException as error:
            return Done(failure=failure_of(error, give_up_on=task.give_up_on))
        return Done(attempt.result, attempt.failure)

    def _beat(self, attempt: Attempt) -> None:
        self._pipe.send(Beat(msgspec.Raw(attempt.details or b"null")))
        attempt.beat_queued = False


def load(source: Source) -> ModuleType:
    """Import a module, or run a script as a module of another name."""
    if not source.path:
        return importlib.import_module(source.name)
    module = ModuleType(MAIN)
    module.__file__ = source.path
    sys.modules["__main__"] = sys.modules[MAIN] = module
    with open(source.path, "rb") as file:
        exec(compile(file.read(), source.path, "exec"), module.__dict__)
    for value in vars(module).values():
        if isinstance(value, type) and value.__module__ == MAIN:
            value.__module__ = "__main__"  # failures are told by class name, and the parent knows them by this one
    return module


def find_task(module: ModuleType, qualname: str) -> AnyTask:
    """By the function's qualified name, or under whatever name the module has given the task."""
    found: object = module
    for part in qualname.split("."):
        found = getattr(found, part, None)
    for value in (found, *vars(module).values()):
        if isinstance(value, Task) and value.fn.__qualname__ == qualname:
            return value
    raise NotFound(
        f"task function {qualname!r} is not found in module {module.__name__!r}; a task that runs in a process must be "
        "defined at the top level of a module, where a fresh process finds it"
    )


def _broken(order: Run, why: str) -> Failure:
    return Failure(
        type="ImportError",
        message=f"module {order.module!r} cannot be imported in a task process: {why.strip().splitlines()[-1]}",
        stack=why,
    )
