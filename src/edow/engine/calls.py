"""What workflow code gets when it calls: the engine's side of `edow.workflow.runtime.Runtime`.

Promises that a step has its key when the call is written and happens when the call is awaited. After eviction every
call raises `Evicted`, so that code being thrown away cannot do anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

import msgspec

from edow.engine.loop import WorkflowTask
from edow.engine.run import Run, Waiter
from edow.errors import InvalidInput
from edow.model import history as h
from edow.model.failure import Failure
from edow.workflow.definition import Workflow
from edow.workflow.failures import child_exception_of, exception_of, failure_of
from edow.workflow.runtime import ContinueAsNew, Evicted, Info
from edow.workflow.task import Task

R = TypeVar("R")


class Calls:
    """One per machine, found by workflow code through `runtime.current`."""

    def __init__(self, run: Run, definition: Workflow[..., object]) -> None:
        self._run = run
        self._definition = definition

    # Tasks and children

    def call_task(
        self, task: Task[..., R], args: msgspec.Raw, key: str | None, prefix: str = ""
    ) -> Coroutine[object, None, R]:
        if self._run.loop.closed:
            return _never(self._run.loop.refused())
        step = self._key(prefix + task.name if prefix else task.name, task.step)
        return self._prepared(step, task.name, self._task(step, task, args, key))

    async def _task(self, key: str, task: Task[..., R], args: msgspec.Raw, partition: str | None) -> R:
        run = self._run
        run.unstarted.pop(key, None)
        step = run.open_step(key, task.name, args, partition, task.policy)
        try:
            outcome: Any = await step.future
        except asyncio.CancelledError:
            run.cancel_step(step)
            raise
        if type(outcome) is Failure:
            raise exception_of(outcome, what=task.what, step=key, declared=task.declared)
        return task.signature.decode_result(outcome)

    def call_child(self, workflow: Workflow[..., R], args: msgspec.Raw) -> Coroutine[object, None, R]:
        if self._run.loop.closed:
            return _never(self._run.loop.refused())
        step = self._key(workflow.name, workflow.step)
        return self._prepared(step, workflow.name, self._child(step, workflow, args))

    async def _child(self, key: str, workflow: Workflow[..., R], args: msgspec.Raw) -> R:
        run = self._run
        run.unstarted.pop(key, None)
        child = run.open_child(
            h.ChildStarted(
                at=run.now,
                step=key,
                workflow=workflow.name,
                execution=workflow.child_id or self._child_id(key),
                input=args,
                on_close=workflow.on_close,
            )
        )
        try:
            outcome: Any = await child.future
        except asyncio.CancelledError:
            run.cancel_child(child)
            raise
        if type(outcome) is Failure:
            raise child_exception_of(outcome, what=f"{workflow.what} ({child.event.execution})", step=key)
        return workflow.signature.decode_result(outcome)

    # Time and signals

    async def sleep(self, seconds: float, step: str | None) -> None:
        await self._allowed()
        if step is not None:
            step = self._key("timer", step)
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        loop, future = self._run.loop, self._run.loop.create_future()
        self._run.timer_key = step
        timer = loop.call_later(seconds, _wake, future)
        try:
            await future
        finally:
            timer.cancel()

    async def wait_signal(self, name: str, timeout: float | None, step: str | None) -> msgspec.Raw:
        await self._allowed()
        if step is not None:
            step = self._key("timer", step)
        mailbox = self._run.mailbox
        come = mailbox.take(name)
        if come is not None:
            return come
        waiter: Waiter = self._run.loop.create_future()
        timer = None
        if timeout is not None:
            self._run.timer_key = step
            timer = self._run.loop.call_later(timeout, _wake, waiter)
            self._run.timer_key = None  # a time-out of 0 needs no timer
        mailbox.wait(name, waiter)
        try:
            come = await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and (lost := waiter.result()) is not None:
                mailbox.give_back(name, lost)
            raise
        finally:
            mailbox.leave(name, waiter)
            if timer is not None:
                timer.cancel()
        if come is None:
            raise TimeoutError(f"no signal {name!r} came within {timeout:g} s")
        return come

    def send_signal(self, execution: str, name: str, payload: msgspec.Raw, step: str | None) -> None:
        run = self._run
        key = self._key(f"signal:{name.replace('#', '##')}", step)  # apart from signal:NAME#2
        event = h.SignalSent(at=run.now, step=key, execution=execution, name=name, payload=payload)
        if run.journal.issue(event) is None:
            run.decision.signals.append(event)

    # Values

    async def side_effect(self, produce: Callable[[], msgspec.Raw], name: str, step: str | None) -> msgspec.Raw:
        await self._allowed()
        run = self._run
        key = self._key(name, step)
        known = run.journal.recorded(key)
        if isinstance(known, h.SideEffect):
            event = known
        elif known is not None:
            event = h.SideEffect(at=run.now, step=key, value=NOTHING)
        else:
            event = _effect(run.now, key, produce)
        run.journal.issue(event)
        if known is not None and known is not event:  # a disagreement: the execution is parked here
            await run.loop.create_future()
        if event.failure is not None:  # made anew in the first run, too: all runs see the same
            raise exception_of(event.failure, what=f"side effect {name}", step=key, declared=(Exception,))
        return event.value

    def set_attributes(self, values: Mapping[str, str | int | float | bool | None]) -> None:
        self._alive()
        run = self._run
        if run.journal.issue_unnumbered(h.AttributesSet(at=run.now, values=dict(values))):
            run.decision.attributes_changed = True

    def set_progress(self, value: msgspec.Raw) -> None:
        self._alive()
        run = self._run
        if run.journal.issue_unnumbered(h.ProgressSet(at=run.now, value=value)):
            run.decision.progress_changed = True

    def unique(self, kind: str) -> str:
        return f"{self._run.identity}/{self._key(f'{kind}()', None)}"

    def now(self) -> int:
        self._alive()
        return self._run.moment

    def info(self) -> Info:
        self._alive()
        run = self._run
        return Info(
            execution=run.execution.id,
            run=run.execution.run,
            workflow=self._definition.name,
            correlation=run.execution.correlation,
            now=run.moment,
            history_length=run.journal.length,
        )

    def ids(self) -> tuple[str, str, str]:
        row = self._run.execution
        return row.id, row.correlation, row.trace

    def repeats(self) -> bool:
        return self._run.repeats

    def spare(self, task: asyncio.Task[None]) -> None:
        if isinstance(task, WorkflowTask):
            task.spared = True

    def continue_as_new(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> ContinueAsNew:
        if self._run.loop.scope() is not self._run.loop.root_scope:
            raise InvalidInput("continue_as_new was called in a sub-task: call it in the workflow's own task")
        return ContinueAsNew(self._definition.signature.encode_call(args, kwargs))

    # Keys

    def _key(self, name: str, explicit: str | None) -> str:
        loop = self._run.loop
        if loop.closed:
            raise Evicted
        if explicit is None:
            return self._run.journal.count(name, loop.scope())
        return self._run.journal.claim(explicit, loop.root_scope)

    def _prepared(self, step: str, name: str, coro: Coroutine[object, None, R]) -> Coroutine[object, None, R]:
        coro.__name__ = coro.__qualname__ = name  # type: ignore[attr-defined]
        self._run.unstarted[step] = coro
        return coro

    def _child_id(self, step: str) -> str:
        execution = self._run.execution
        return f"{execution.id}:{execution.run}:{step.replace('/', '.')}"

    async def _allowed(self) -> None:
        if self._run.loop.closed:
            await self._run.loop.refused()

    def _alive(self) -> None:
        if self._run.loop.closed:
            raise Evicted


NOTHING = msgspec.Raw(b"null")


def _effect(now: int, key: str, produce: Callable[[], msgspec.Raw]) -> h.SideEffect:
    try:
        return h.SideEffect(at=now, step=key, value=produce())
    except Exception as problem:
        return h.SideEffect(at=now, step=key, value=NOTHING, failure=failure_of(problem))


async def _never(future: asyncio.Future[Any]) -> Any:
    return await future


def _wake(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_result(None)
