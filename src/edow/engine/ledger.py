"""What is open according to history alone, for when the code cannot be asked because the execution is parked.

Promises that nothing which reaches a parked execution is lost or taken twice: it becomes an event that is delivered
when the execution is resumed. Knows nothing of the code and its policies.
"""

from __future__ import annotations

from collections.abc import Iterable

from edow.engine.decision import EngineInput
from edow.engine.outcome import STATUS
from edow.engine.results import child_ended, completed, discarded, failure_in, times_of, worker_of
from edow.engine.steps import State, Step
from edow.model import history as h
from edow.model import inbox
from edow.model.execution import Status
from edow.model.wire import ResultEvent


class Ledger:
    """`steps` holds the attempt of each open task, `out` those of which an attempt is out, `dead` those parked.

    `blind`: history cannot be asked either. Then the end of a child is taken for one that was waited for.
    """

    def __init__(self, *, blind: bool = False) -> None:
        self.blind = blind
        self.parked = False
        self.status: Status | None = None
        self.steps: dict[str, int] = {}
        self.out: set[str] = set()
        self.dead: set[str] = set()
        self.started: dict[str, int] = {}  # the attempt that a worker has begun, as far as that is recorded
        self.children: dict[str, h.ChildStarted] = {}

    def read(self, events: Iterable[h.AnyEvent]) -> None:
        for event in events:
            self._read(event)

    def take_over(self, steps: Iterable[Step], children: Iterable[h.ChildStarted]) -> None:
        """From a run that was up to date."""
        for step in steps:
            self._move(step.key, step.attempt, out=step.state is State.OUT)
            self.started[step.key] = step.started
            if step.state is State.PARKED:
                self.dead.add(step.key)
        self.children = {event.step: event for event in children}

    def _move(self, step: str, attempt: int, *, out: bool) -> None:
        self.steps[step] = attempt
        self.dead.discard(step)
        (self.out.add if out else self.out.discard)(step)

    def _read(self, event: h.AnyEvent) -> None:
        match event:
            case h.TaskScheduled():
                self._move(event.step, 1, out=True)
            case h.TaskRetried():
                self._move(event.step, event.attempt, out=True)
            case h.TaskRedriven():
                self._move(event.step, self.steps.get(event.step, 0) + 1, out=True)
            case h.AttemptFailed() | h.TaskParked():
                self._move(event.step, event.attempt, out=False)
                if isinstance(event, h.TaskParked):
                    self.dead.add(event.step)
            case h.TaskStarted():
                self.started[event.step] = event.attempt
            case h.ChildStarted():
                self.children[event.step] = event
            case h.TaskCompleted() | h.TaskFailed() | h.StepCancelled() | h.ChildCompleted() | h.ChildFailed():
                self._close(event.step)
            case h.Parked() | h.Resumed():
                self.parked = isinstance(event, h.Parked)
            case h.Completed() | h.Failed() | h.Cancelled() | h.Terminated() | h.ContinuedAsNew():
                self.status = STATUS[type(event)]

    def _close(self, step: str) -> None:
        self.steps.pop(step, None)
        self.children.pop(step, None)
        self.out.discard(step)
        self.dead.discard(step)

    def event_of(self, given: EngineInput, run: int, now: int) -> h.AnyEvent | None:
        """None: it was answered before, or means nothing to a parked execution."""
        if isinstance(given, ResultEvent | inbox.ChildEnded | inbox.Redrive | inbox.Discard):
            event = self._answer(given, now) if given.run == run else None
            if event is not None:
                self._read(event)
            return event
        match given:
            case inbox.Signal():
                return h.SignalReceived(at=now, name=given.name, payload=given.payload)
            case inbox.Cancel():
                return h.CancelRequested(at=now, reason=given.reason)
        return None

    def _answer(
        self, given: ResultEvent | inbox.ChildEnded | inbox.Redrive | inbox.Discard, now: int
    ) -> h.AnyEvent | None:
        step = given.step
        match given:
            case inbox.ChildEnded() if self.blind or step in self.children:
                return child_ended(given, now)
            case inbox.Redrive() if step in self.dead:
                return h.TaskRedriven(at=now, step=step, args=given.args)
            case inbox.Discard() if step in self.dead:
                return discarded(step, self.steps[step], given.reason, now)
            case ResultEvent() if step in self.steps:
                return self._result(given, now)
        return None

    def _result(self, given: ResultEvent, now: int) -> h.AnyEvent | None:
        if given.outcome == "completed":
            return completed(given, now)
        current = given.step in self.out and self.steps[given.step] == given.attempt
        if current and given.outcome == "started" and self.started.get(given.step, 0) < given.attempt:
            return h.TaskStarted(at=now, step=given.step, attempt=given.attempt, worker=worker_of(given))
        if not current or given.outcome not in ("failed", "cancelled"):
            return None
        started_at, duration = times_of(given)
        # The policy is in code that cannot be asked; one attempt more is the careful answer.
        return h.AttemptFailed(
            at=now,
            step=given.step,
            attempt=given.attempt,
            failure=failure_in(given),
            retry_at=now,
            worker=worker_of(given),
            started_at=started_at,
            duration=duration,
        )
