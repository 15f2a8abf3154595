"""An execution's spans, made from its history when it has ended: it and its steps, waits, retries, compensations.

What a worker did is the worker's to tell, with ids that fit into these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from edow.model import history
from edow.model.execution import Execution
from edow.model.failure import Failure
from edow.telemetry.spans import Span, Value
from edow.telemetry.traceparent import Context, attempt_span, execution_span, parse, span_id, step_span

COMPENSATES = "compensate:"  # how the steps of a saga's compensations begin


class _Open(msgspec.Struct):
    """A step that has begun."""

    kind: str
    name: str
    at: int
    attempt: int = 1


def spans_of(row: Execution, events: Sequence[history.AnyEvent]) -> list[Span]:
    """Of the run that `row` tells the end of; none if its traceparent is no valid one."""
    caller = parse(row.trace)
    if caller is None or not events:
        return []
    return _Past(row, caller).told(events)


class _Past:
    """One pass over the events."""

    def __init__(self, row: Execution, caller: Context) -> None:
        self._row = row
        self._caller = caller
        self._here = caller._replace(span=execution_span(row.id, row.run))
        self._common: dict[str, Value] = {
            "edow.execution.id": row.id,
            "edow.execution.run": row.run,
            "edow.workflow": row.workflow,
            "messaging.message.conversation_id": row.correlation,
        }
        self._open: dict[str, _Open] = {}
        self._notes: list[tuple[str, int, Mapping[str, Value]]] = []
        self._spans: list[Span] = []

    def told(self, events: Sequence[history.AnyEvent]) -> list[Span]:
        for event in events:
            self._take(event)
        last = events[-1].at
        for step in list(self._open):
            self._close(step, last, "")
        self._spans.append(self._execution(events[0].at, last, events[-1]))
        return self._spans

    def _take(self, event: history.AnyEvent) -> None:
        match event:
            case history.TaskScheduled(step=step, task=task, at=at):
                self._open[step] = _Open("task", task, at)
            case history.TimerStarted(step=step, at=at):
                self._open[step] = _Open("sleep", "", at)
            case history.ChildStarted(step=step, workflow=workflow, at=at):
                self._open[step] = _Open("child", workflow, at)
            case history.TaskCompleted() | history.AttemptFailed() | history.TaskFailed() | history.TaskParked():
                self._task(event)
            case history.TaskRedriven(step=step, at=at):
                self._note("redriven", at, step)
            case history.TimerFired(step=step, at=at) | history.ChildCompleted(step=step, at=at):
                self._close(step, at, "")
            case history.StepCancelled(step=step, at=at):
                self._close(step, at, "cancelled")
            case history.ChildFailed(step=step, at=at, failure=failure):
                self._close(step, at, _error(failure))
            case history.SignalReceived(name=name, at=at):
                self._note("signal", at, name)

    def _task(self, event: history.AttemptEnded) -> None:
        step = self._open.get(event.step)
        if step is None:
            return
        self._came_back(event)
        if isinstance(event, history.TaskCompleted):
            self._close(event.step, event.at, "")
        elif isinstance(event, history.TaskFailed):
            self._close(event.step, event.at, _error(event.failure))
        else:
            self._note("attempt failed" if isinstance(event, history.AttemptFailed) else "parked", event.at, event.step)

    def _came_back(self, event: history.AttemptEnded) -> None:
        """From the worker's end to the decision upon it."""
        ended = event.started_at + event.duration
        if not event.started_at or ended > event.at:  # clocks that are apart tell nothing
            return
        key = f"{self._row.id}/{self._row.run}/{event.step}"
        parent = self._caller._replace(span=attempt_span(key, event.attempt))
        self._add(
            Span(name="return", id=span_id("return", key, event.attempt), parent=parent, start=ended, end=event.at)
        )

    def _close(self, step: str, at: int, error: str) -> None:
        opened = self._open.pop(step, None)
        if opened is None:
            return
        verb = "compensate" if step.startswith(COMPENSATES) else {"task": "step"}.get(opened.kind, opened.kind)
        self._add(
            Span(
                name=f"{verb} {opened.name}".rstrip(),
                id=step_span(self._row.id, self._row.run, step),
                parent=self._here,
                start=opened.at,
                end=at,
                attributes={"edow.step": step, "edow.compensation": verb == "compensate"},
                error=error,
            )
        )

    def _add(self, span: Span) -> None:
        self._spans.append(msgspec.structs.replace(span, attributes={**self._common, **span.attributes}))

    def _note(self, name: str, at: int, what: str) -> None:
        self._notes.append((name, at, {"edow.name": what}))

    def _execution(self, start: int, end: int, last: history.AnyEvent) -> Span:
        row, parent = self._row, self._caller
        if row.parent is not None:
            parent = parent._replace(span=step_span(row.parent.execution, row.parent.run, row.parent.step))
        how = str(last.__struct_config__.tag)
        error = "" if isinstance(last, history.Completed | history.ContinuedAsNew) else how
        if isinstance(last, history.Failed):
            error = _error(last.failure)
        return Span(
            name=f"workflow {row.workflow}",
            id=self._here.span,
            parent=parent,
            start=start,
            end=end,
            attributes={**self._common, "edow.status": how},
            events=tuple(self._notes),
            error=error,
        )


def segments_of(segments: Sequence[bytes]) -> Iterator[history.AnyEvent]:
    for segment in segments:
        yield from history.decoder.decode(segment)


def _error(failure: Failure) -> str:
    return f"{failure.type}: {failure.message}"[:500]
