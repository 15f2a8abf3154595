"""The asyncio loop that workflows run on: no clock, no I/O, no threads, and the same order in every replay.

`run()` goes on until nothing is ready. Time is what the machine says; timers are handed to the machine, which makes
them durable. Promises that tasks and futures hash alike in every replay, so that asyncio's sets iterate alike.
"""

from __future__ import annotations

import asyncio
import sys
import zlib
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from types import FrameType
from typing import Any, NoReturn, Protocol

import msgspec

from edow.engine.guard import TASK, forbid, watch
from edow.engine.scope import Scope
from edow.errors import InvalidInput
from edow.workflow.runtime import Evicted

Callback = Callable[..., object]

HASH_STEP = 0x9E3779B97F4A7C15  # 2**64 / golden ratio: neighbours land far apart
HASH_MASK = (1 << 61) - 1
EVICT_LIMIT = 100
REFUSALS = 1000
"""How often a loop that is closed raises Evicted. Code that catches that as often (`while True: try: ... except
BaseException: ...`) would go on for ever: it is made to wait for ever instead, where it can be left.
"""
RUN_LIMIT = 5_000_000
"""Handles that one run may take; whoever needs more goes round in circles without waiting for anything."""


class Spinning(Exception):
    """The workflow never came to rest."""


class Host(Protocol):
    """What the loop asks of the machine."""

    def start_timer(self, timer: DurableTimer, delay: float) -> None: ...

    def timer_cancelled(self, timer: DurableTimer) -> None: ...

    def notice(self, text: str) -> None: ...


class Ready(msgspec.Struct, eq=False):
    """A callback that is to run. asyncio wants `cancel()` of it."""

    callback: Callback
    args: tuple[Any, ...]
    context: Context
    dropped: bool = False

    def cancel(self) -> None:
        self.dropped = True

    def cancelled(self) -> bool:
        return self.dropped


class WorkflowTask(asyncio.Task[Any]):
    """An asyncio task with the scope that its steps are named in. `spared`: the end of the workflow's own task leaves
    it be.
    """

    __slots__ = ("number", "scope", "spared")
    _log_destroy_pending: bool

    def __init__(self, coro: Coroutine[Any, Any, Any], *, loop: Loop, name: str, context: Context | None) -> None:
        self.number = loop.next_hash()
        self.scope = Scope("" if not name else f"{name}/")
        self.spared = False
        super().__init__(coro, loop=loop, name=name or "workflow", context=context)

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other


class WorkflowFuture(asyncio.Future[Any]):
    """A future that sets iterate alike in every replay."""

    __slots__ = ("number",)

    def __init__(self, *, loop: Loop) -> None:
        self.number = loop.next_hash()
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other


def _forbidden(name: str) -> Callable[..., NoReturn]:
    def refuse(self: object, *args: object, **kwargs: object) -> NoReturn:
        raise forbid(f"calls {name} of its event loop", TASK)

    return refuse


class Walls(asyncio.AbstractEventLoop):
    """What a loop offers of the outside world, refused."""


REFUSED = (
    "run_in_executor call_soon_threadsafe add_reader add_writer add_signal_handler "
    "create_connection create_server create_unix_connection create_unix_server create_datagram_endpoint "
    "connect_accepted_socket connect_read_pipe connect_write_pipe subprocess_exec subprocess_shell "
    "getaddrinfo getnameinfo sock_recv sock_sendall sock_connect sock_accept sendfile start_tls "
    "run_forever run_until_complete stop"
)
for _name in REFUSED.split():
    setattr(Walls, _name, _forbidden(_name))


class DurableTimer(asyncio.TimerHandle):
    """A timer handle that knows its step."""

    __slots__ = ("key",)
    key: str


class Loop(Walls):
    """One per machine, used from one thread."""

    def __init__(self, host: Host, execution: str) -> None:
        self._host = host
        self._ready: deque[Ready] = deque()
        self._hash = zlib.crc32(execution.encode()) * HASH_STEP & HASH_MASK
        self._siblings: dict[int, WorkflowTask] = {}
        self._keep = 32
        self.tasks: list[WorkflowTask] = []  # all that may not be done yet, in order of creation
        self.root_scope = Scope()
        self.now = 0.0
        self.closed = False
        self._refusals = 0

    # Running

    def run(self) -> None:
        """Until nothing is ready. Raises Spinning."""
        ready = self._ready
        if not ready:
            return
        outer = events._get_running_loop()
        events._set_running_loop(self)
        watched, watch.active = watch.active, True
        try:
            for _ in range(RUN_LIMIT):
                handle = ready.popleft()
                if not handle.dropped:
                    try:
                        handle.context.run(handle.callback, *handle.args)
                    except (SystemExit, KeyboardInterrupt):
                        pass  # raised in a workflow: its task has it as its outcome
                    except BaseException as error:  # also CancelledError: `lambda task: task.result()`
                        self.call_exception_handler({"message": "a callback failed", "exception": error})
                if not ready:
                    return
        finally:
            watch.active = watched
            events._set_running_loop(outer)
        raise Spinning

    def evict(self, task: WorkflowTask, context: Context) -> None:
        """Close a task's coroutine, whatever its `finally` blocks try."""
        task._log_destroy_pending = False
        self._refusals = 0
        coro: Any = task.get_coro()
        outer = events._get_running_loop()
        events._set_running_loop(self)
        watched, watch.active = watch.active, True
        asyncio.tasks._enter_task(self, task)
        try:
            for _ in range(EVICT_LIMIT):  # each `await` in a `finally` takes one more
                try:
                    context.run(coro.close)
                except RuntimeError:  # "coroutine ignored GeneratorExit": it awaits again
                    continue
                except BaseException:
                    pass  # the code is to stop; how it takes that is of no interest
                return
            _keep(coro)
        finally:
            asyncio.tasks._leave_task(self, task)
            watch.active = watched
            events._set_running_loop(outer)

    def drop_ready(self) -> None:
        self._ready.clear()

    def let_go(self) -> None:
        """Of the host. Once closed, the loop asks nothing of it any more."""
        del self._host

    # Scheduling

    def call_soon(  # type: ignore[override]
        self, callback: Callback, *args: Any, context: Context | None = None
    ) -> Any:
        handle = Ready(callback, args, copy_context() if context is None else context)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callback, *args: Any, context: Context | None = None
    ) -> Any:
        if delay <= 0:
            return self.call_soon(callback, *args, context=context)
        timer = DurableTimer(self.now + delay, callback, args, self, context)
        if self.closed:
            self._refuse()
        else:
            self._host.start_timer(timer, delay)
        return timer

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callback, *args: Any, context: Context | None = None
    ) -> Any:
        return self.call_later(when - self.now, callback, *args, context=context)

    def fire(self, timer: DurableTimer) -> None:
        """The timer's time has come."""
        if not timer.cancelled():
            self.call_soon(timer._run)

    def _timer_handle_cancelled(self, handle: DurableTimer) -> None:
        """Called by asyncio.TimerHandle.cancel."""
        if not self.closed:
            self._host.timer_cancelled(handle)

    def time(self) -> float:
        return self.now

    # Futures and tasks

    def next_hash(self) -> int:
        self._hash = number = (self._hash + HASH_STEP) & HASH_MASK
        return number

    def create_future(self) -> asyncio.Future[Any]:
        return self.refused() if self.closed else WorkflowFuture(loop=self)

    def refused(self) -> asyncio.Future[Any]:
        """What becomes of whatever is asked after the eviction: Evicted, or a future that nothing comes of."""
        self._refuse()
        return WorkflowFuture(loop=self)

    def _refuse(self) -> None:
        self._refusals += 1
        if self._refusals <= REFUSALS:
            raise Evicted

    def scope(self) -> Scope:
        """Of the asyncio task that runs; callbacks outside of one count as the workflow's own."""
        task = asyncio.current_task(self)
        return task.scope if type(task) is WorkflowTask else self.root_scope

    def create_task(self, coro: Any, **options: Any) -> Any:
        if self.closed:
            coro.close()
            return self.refused()
        caller = sys._getframe(1)
        if caller.f_code in ENSURE_FUTURE:
            if (frame := _as_completed_frame(caller)) is not None:
                return self._sibling(coro, frame)
            if _waits_for(caller):
                return self._alias(coro)
        task = self.new_task(coro, options.get("context"))
        if options.get("name") is not None:
            task.set_name(options["name"])
        return task

    def new_task(self, coro: Coroutine[Any, Any, Any], context: Context | None) -> WorkflowTask:
        # Named for its function alone: before 3.12 asyncio sets a given name only later.
        segment = self.scope().child(getattr(coro, "__name__", "task"))
        task = WorkflowTask(coro, loop=self, name=segment, context=context)
        self._remember(task)
        return task

    def root_task(self, coro: Coroutine[Any, Any, Any], context: Context) -> WorkflowTask:
        task = WorkflowTask(coro, loop=self, name="", context=context)
        task.scope = self.root_scope
        self._remember(task)
        return task

    def _remember(self, task: WorkflowTask) -> None:
        self.tasks.append(task)
        if len(self.tasks) > self._keep:
            self.tasks = [other for other in self.tasks if not other.done()]
            self._keep = 2 * len(self.tasks) + 32

    def _sibling(self, coro: Coroutine[Any, Any, Any], frame: FrameType) -> WorkflowTask:
        """asyncio.as_completed takes its coroutines in the order of their addresses; make the tasks in the list's."""
        if id(coro) not in self._siblings:
            given = frame.f_locals["fs"]
            if not isinstance(given, list | tuple | deque | dict):
                raise InvalidInput(
                    f"asyncio.as_completed({type(given).__name__}) would run them in a random order "
                    "that no replay can repeat: give it a list"
                )
            for each in dict.fromkeys(given):
                if asyncio.iscoroutine(each):
                    self._siblings[id(each)] = self.new_task(each, None)
        return self._siblings.pop(id(coro))

    def _alias(self, coro: Coroutine[Any, Any, Any]) -> WorkflowTask:
        """Since 3.12 asyncio.wait_for awaits in the task that calls it. Before, it makes one: steps are named alike."""
        task = WorkflowTask(coro, loop=self, name="wait_for", context=None)
        task.scope = self.scope()
        self._remember(task)
        return task

    # What asyncio asks

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return events._get_running_loop() is self

    def is_closed(self) -> bool:
        return self.closed

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.closed:
            error = context.get("exception")
            self._host.notice(f"{context.get('message')}: {type(error).__name__}: {error}")


def _waits_for(frame: FrameType | None) -> bool:
    """Whether asyncio.wait_for itself asks, and not because the time is up already: that task every version makes."""
    while frame is not None and frame.f_code in ENSURE_FUTURE:
        frame = frame.f_back
    return frame is not None and frame.f_code is WAIT_FOR and frame.f_locals["timeout"] > 0


def _keep(coro: object) -> None:
    """One that cannot be made to end, for good: Python would do away with it, also when the process ends, by running
    its code once more, and that outside of any workflow, where calling a task runs it.
    """
    import ctypes  # nothing else needs it

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(coro))


def _as_completed_frame(frame: FrameType | None) -> FrameType | None:
    for _ in range(5):
        if frame is None or frame.f_code is AS_COMPLETED:
            return frame
        frame = frame.f_back
    return None


AS_COMPLETED = asyncio.as_completed.__code__
WAIT_FOR = asyncio.wait_for.__code__
ENSURE_FUTURE = frozenset(
    {asyncio.ensure_future.__code__} | {getattr(asyncio.tasks, "_ensure_future", asyncio.ensure_future).__code__}
)
