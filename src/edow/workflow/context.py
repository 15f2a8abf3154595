"""What a running task can know and say: `edow.context()`. The worker makes and sets a `TaskContext` for each attempt.

Promises a clear error outside of a task; knows nothing of transports, only of the callbacks that it was given.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from datetime import datetime
from typing import Protocol, TypeVar

import msgspec

from edow.errors import WrongState
from edow.workflow import codec

T = TypeVar("T")


class Flag(Protocol):
    """A threading.Event, or whatever of it crosses a process border."""

    def is_set(self) -> bool: ...


class TaskContext(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt of a step. `idempotency_key` is the same for every delivery and attempt of it."""

    execution: str
    run: int
    step: str
    task: str
    attempt: int
    idempotency_key: str
    cancelled: Flag
    """Set when nobody waits for this attempt any more; an `async def` task gets asyncio.CancelledError besides."""
    send_heartbeat: Callable[[bytes], None]
    """Given by the worker; may be called from any thread."""
    workflow: str = ""
    correlation: str = ""
    traceparent: str = ""
    worker: str = ""
    deadline: datetime | None = None
    delivery_count: int = 1
    last_heartbeat: bytes | None = None

    def heartbeat(self, details: object = None) -> None:
        """The task is alive; `details` are given to the next attempt if this one fails."""
        self.send_heartbeat(bytes(codec.encode(details, f"the heartbeat of task {self.task}")))

    def heartbeat_details(self, type: type[T]) -> T | None:
        """What the previous attempt last reported; None when nothing."""
        if self.last_heartbeat is None:
            return None
        return codec.decode(self.last_heartbeat, type, f"the heartbeat of task {self.task}")


current_context: ContextVar[TaskContext | None] = ContextVar("edow_task_context", default=None)


def context() -> TaskContext:
    """Of the task that calls. Raises WrongState outside of one."""
    found = current_context.get()
    if found is None:
        raise WrongState("edow.context() works inside a task that a worker runs only; in a workflow use edow.info()")
    return found
