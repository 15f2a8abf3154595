"""What a workflow needs from whoever runs it. The engine implements `Runtime`; the authoring side only asks.

`current` is how a task or workflow knows that it is being called inside a workflow. Knows nothing of journals or loops.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec

from edow.errors import WrongState

if TYPE_CHECKING:
    import asyncio

    from edow.workflow.definition import Workflow
    from edow.workflow.task import Task

R = TypeVar("R")


class Info(msgspec.Struct, frozen=True):
    """Where a workflow stands. `now` is its logical time in microseconds."""

    execution: str
    run: int
    workflow: str
    correlation: str
    now: int
    history_length: int


class ContinueAsNew(BaseException):
    """Ends this run and begins the next with `input`. Not an Exception, so that `except Exception` lets it pass."""

    def __init__(self, input: msgspec.Raw) -> None:
        super().__init__("continue as new")
        self.input = input


def unwrapped(error: BaseException) -> BaseException:
    """What left an `asyncio.TaskGroup`, if that was one thing: a group gives back a group."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


class Evicted(BaseException):
    """The execution leaves this process's memory; its code must not do anything any more."""


class Runtime(Protocol):
    """Called from workflow code only. Steps get their key when called, and happen when awaited."""

    def call_task(
        self, task: Task[..., R], args: msgspec.Raw, key: str | None, prefix: str = ""
    ) -> Coroutine[object, None, R]:
        """`prefix` goes before the task's name in the step's key."""

    def call_child(self, workflow: Workflow[..., R], args: msgspec.Raw) -> Coroutine[object, None, R]: ...

    def sleep(self, seconds: float, step: str | None) -> Coroutine[Any, Any, None]: ...

    def wait_signal(self, name: str, timeout: float | None, step: str | None) -> Coroutine[Any, Any, msgspec.Raw]:
        """Raises TimeoutError."""

    def send_signal(self, execution: str, name: str, payload: msgspec.Raw, step: str | None) -> None: ...

    def side_effect(
        self, produce: Callable[[], msgspec.Raw], name: str, step: str | None
    ) -> Coroutine[Any, Any, msgspec.Raw]: ...

    def set_attributes(self, values: Mapping[str, str | int | float | bool | None]) -> None: ...

    def set_progress(self, value: msgspec.Raw) -> None: ...

    def unique(self, kind: str) -> str:
        """A text that is the same in every replay and differs from that of any other call."""

    def now(self) -> int:
        """Logical time in microseconds."""

    def info(self) -> Info: ...

    def ids(self) -> tuple[str, str, str]:
        """For log lines: the execution's, its correlation's, and the traceparent of whoever started it."""

    def repeats(self) -> bool:
        """Whether what the code says has been said before: it runs over its history, or leaves memory."""

    def spare(self, task: asyncio.Task[None]) -> None:
        """Let this asyncio task go on when the workflow's own one has ended; the run ends when it is done."""

    def continue_as_new(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> ContinueAsNew: ...


current: ContextVar[Runtime | None] = ContextVar("edow_runtime", default=None)


def inside(what: str, remedy: str) -> Runtime:
    """The runtime of the calling workflow. Raises WrongState, with the remedy, outside of one."""
    runtime = current.get()
    if runtime is None:
        raise WrongState(f"{what} works inside a workflow only: {remedy}")
    return runtime
