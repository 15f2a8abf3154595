"""From a history to the lines that `edow show` prints: one for each step and each thing that reached the execution.

Pure: events in, lines out. It knows nothing of how a line looks.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from edow.model import history
from edow.model.failure import PAUSED, Failure
from edow.model.history import AnyEvent


class Line(msgspec.Struct, kw_only=True):
    """One line. Times in microseconds; `ended_at` None: still going on (or it takes no time)."""

    kind: str  # task | timer | child | signal | side effect | event
    name: str
    state: str
    at: int
    ended_at: int | None = None
    attempts: int = 0
    ran: int | None = None  # how long the last attempt ran
    due: int | None = None
    detail: str = ""
    failures: list[str] = []

    @property
    def open(self) -> bool:
        """Whether the execution may still be waiting for it."""
        return self.state in OPEN


OPEN = frozenset({"scheduled", "running", "retrying", "sleeping", "parked"})


def timeline(events: Iterable[AnyEvent]) -> list[Line]:
    """Lines in the order in which they began."""
    builder = _Builder()
    for event in events:
        builder.add(event)
    return builder.lines


class _Builder:
    def __init__(self) -> None:
        self.lines: list[Line] = []
        self._steps: dict[str, Line] = {}

    def add(self, event: AnyEvent) -> None:
        """Dispatch by what the event is about."""
        if self._began(event) or self._attempted(event) or self._ended(event):
            return
        if isinstance(event, history.End):
            self._drop_open(event.at)
        self._happened(event)

    def _began(self, event: AnyEvent) -> bool:
        match event:
            case history.TaskScheduled(step=step, task=task):
                line = Line(kind="task", name=step, state="scheduled", at=event.at, detail=_unless(task, step))
                self._open(step, line)
            case history.TimerStarted(step=step, due=due):
                self._open(step, Line(kind="timer", name=step, state="sleeping", at=event.at, due=due))
            case history.ChildStarted(step=step, execution=execution):
                self._open(step, Line(kind="child", name=step, state="running", at=event.at, detail=execution))
            case history.SideEffect(step=step, value=value, failure=failure):
                detail = _short(value) if failure is None else f"{failure.type}: {failure.message}"
                self._point("side effect", step, "done" if failure is None else "failed", event, detail)
            case history.SignalSent(step=step, execution=execution, name=name):
                self._point("signal", step, "sent", event, f"{name} to {execution}")
            case _:
                return False
        return True

    def _attempted(self, event: AnyEvent) -> bool:
        match event:
            case history.TaskStarted(step=step, attempt=attempt, worker=worker):
                self._update(step, state="running", attempts=attempt, detail=worker)
            case history.AttemptFailed(step=step, attempt=attempt, failure=failure):
                self._failed(step, "retrying", attempt, failure)
                self._update(step, due=event.retry_at, ran=event.duration or None)
            case history.TaskRetried(step=step):
                self._update(step, state="scheduled", due=None)
            case history.TaskParked(step=step, attempt=attempt, failure=failure):
                self._failed(step, "parked", attempt, failure)
                self._update(step, ran=event.duration or None)
            case history.TaskRedriven(step=step, args=args):
                self._update(step, state="scheduled", detail="redriven" + (" with new arguments" if args else ""))
            case _:
                return False
        return True

    def _ended(self, event: AnyEvent) -> bool:
        match event:
            case history.TaskCompleted(step=step, attempt=attempt, duration=ran):
                self._update(step, state="done", attempts=attempt, ran=ran, ended_at=event.at)
            case history.TaskFailed(step=step, attempt=attempt, failure=failure):
                self._failed(step, "failed", attempt, failure, event.at)
                self._update(step, ran=event.duration or None)
            case history.TimerFired(step=step):
                self._update(step, state="done", ended_at=event.at)
            case history.ChildCompleted(step=step):
                self._update(step, state="done", ended_at=event.at)
            case history.ChildFailed(step=step, failure=failure):
                self._failed(step, "failed", 0, failure, event.at)
            case history.StepCancelled(step=step):
                self._update(step, state="cancelled", ended_at=event.at)
            case _:
                return False
        return True

    def _happened(self, event: AnyEvent) -> None:
        match event:
            case history.Started(workflow=workflow):
                self._point("event", "started", "", event, workflow)
            case history.SignalReceived(name=name, payload=payload):
                self._point("signal", name, "received", event, _short(payload))
            case history.CancelRequested(reason=reason):
                self._point("event", "cancel requested", "", event, reason)
            case history.Parked(failure=failure):
                name = "paused" if failure.type == PAUSED else "parked"
                self._point("event", name, "parked", event, failure.message if name == "paused" else said(failure))
            case history.Resumed():
                self._point("event", "resumed", "", event)
            case history.AttributesSet() | history.ProgressSet():
                return  # shown with the execution itself
            case history.Failed(failure=failure):
                self._point("event", "failed", "failed", event, said(failure))
            case history.Completed(result=result):
                self._point("event", "completed", "done", event, _short(result))
            case history.Cancelled(reason=reason) | history.Terminated(reason=reason):
                self._point("event", type(event).__name__.lower(), "cancelled", event, reason)
            case history.ContinuedAsNew():
                self._point("event", "continued as new", "", event)

    def _drop_open(self, at: int) -> None:
        """Nobody waits for these any more: the timer of a wait that was answered, the task of a lost race."""
        for line in self._steps.values():
            if line.open:
                line.state, line.ended_at = "dropped", at

    def _open(self, step: str, line: Line) -> None:
        self._steps[step] = line
        self.lines.append(line)

    def _point(self, kind: str, name: str, state: str, event: AnyEvent, detail: str = "") -> None:
        self.lines.append(Line(kind=kind, name=name, state=state, at=event.at, ended_at=event.at, detail=detail))

    def _update(self, step: str, **changes: object) -> None:
        line = self._steps.get(step)
        for name, value in changes.items():
            if line is not None:
                setattr(line, name, value)

    def _failed(self, step: str, state: str, attempt: int, failure: Failure, at: int | None = None) -> None:
        line = self._steps.get(step)
        if line is not None:
            line.failures = [*line.failures, said(failure)]
            self._update(
                step, state=state, attempts=max(attempt, line.attempts), due=None, ended_at=at, detail=said(failure)
            )


def said(failure: Failure) -> str:
    """`ValueError: no such order`."""
    kind = failure.type.rpartition(".")[2] or failure.kind
    return f"{kind}: {failure.message}" if failure.message else kind


def _short(value: msgspec.Raw) -> str:
    text = bytes(value).decode("utf-8", "replace")
    return text if len(text) <= 80 else text[:79] + "…"


def _unless(task: str, step: str) -> str:
    """The task's name, where the step's does not tell it."""
    return "" if step.partition("#")[0] == task else task
