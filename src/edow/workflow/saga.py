"""`async with edow.saga()`: what was done is undone, last first, when the block does not end well.

Promises that each compensation is a durable, retried step, that a cancellation does not interrupt them, and that one
that fails does not keep the rest from running. Knows nothing of how steps are recorded.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from functools import partial
from types import TracebackType
from typing import Any, ParamSpec

from edow.errors import InvalidInput
from edow.workflow.definition import Workflow
from edow.workflow.runtime import ContinueAsNew, Evicted, current, unwrapped
from edow.workflow.task import Task

P = ParamSpec("P")

Called = Coroutine[Any, Any, object] | Exception  # the latter: it cannot be called

PREFIX = "compensate:"
NOT_A_FAILURE = (ContinueAsNew, Evicted, GeneratorExit)


class Saga:
    """Made by `edow.saga()`."""

    def __init__(self) -> None:
        self._compensations: list[tuple[str, Callable[[], Coroutine[Any, Any, object]]]] = []

    def compensate(self, action: Callable[P, Coroutine[Any, Any, object]], *args: P.args, **kwargs: P.kwargs) -> None:
        """Should the block fail, run `action(*args, **kwargs)`. The arguments are checked here."""
        self._compensations.append((_name(action), _bound(action, args, kwargs)))

    async def __aenter__(self) -> Saga:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None or isinstance(unwrapped(error), NOT_A_FAILURE):
            return
        # Called here rather than in the runner, so that the steps are numbered in the workflow's own task.
        calls = [(name, _called(call)) for name, call in reversed(self._compensations)]
        await _uninterrupted(_run_all(calls, error))


def saga() -> Saga:
    """Begin a saga: `async with edow.saga() as saga: ...; saga.compensate(refund, receipt.id)`."""
    return Saga()


async def _run_all(calls: list[tuple[str, Called]], error: BaseException) -> None:
    import asyncio  # a third of what `import edow` costs; who awaits has it

    for name, call in calls:
        try:
            if isinstance(call, Exception):
                raise call
            await call
        except Exception as failed:  # recorded as a dead letter by the engine; the rest still has to run
            error.add_note(f"compensation {name} failed: {failed}")
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            error.add_note(f"compensation {name} was cancelled")


def _called(call: Callable[[], Coroutine[Any, Any, object]]) -> Called:
    try:
        return call()
    except Exception as problem:  # told as that of a compensation that has failed
        return problem


async def _uninterrupted(compensations: Coroutine[Any, Any, None]) -> None:
    """Wait for them; a cancellation that comes meanwhile is raised after it."""
    import asyncio  # a third of what `import edow` costs; who awaits has it

    runner = asyncio.create_task(compensations, name="compensations")
    if (runtime := current.get()) is not None:
        runtime.spare(runner)
    cancelled: asyncio.CancelledError | None = None
    while not runner.done():
        try:
            await asyncio.shield(runner)
        except asyncio.CancelledError as interruption:
            cancelled = interruption
    if cancelled is not None:
        raise cancelled


def _name(action: object) -> str:
    if isinstance(action, Task | Workflow):
        return action.name
    if inspect.iscoroutinefunction(action):
        return str(getattr(action, "__qualname__", action))
    raise InvalidInput(f"compensate({action!r}) is neither a task nor an `async def`: make it a task (@edow.task)")


def _bound(
    action: Callable[..., Coroutine[Any, Any, object]], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Callable[[], Coroutine[Any, Any, object]]:
    runtime = current.get()
    if isinstance(action, Workflow):
        action.signature.encode_call(args, kwargs)
    elif not isinstance(action, Task):
        inspect.signature(action).bind(*args, **kwargs)
    if runtime is None or not isinstance(action, Task):
        return partial(action, *args, **kwargs)
    payload = action.signature.encode_call(args, kwargs)
    key = action.partition_key(*args, **kwargs)
    return partial(runtime.call_task, action, payload, key, PREFIX)
