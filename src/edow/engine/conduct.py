"""How inputs and moments move steps and children: results, retries, timeouts, redrives, signals.

Every change is an event first and takes effect by being delivered, live and in a replay alike. Knows nothing of parked
executions, nor of how a run begins and ends: that is the machine's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edow.engine.agenda import Due
from edow.engine.decision import Dispatch, EngineInput, LetterClosed, Tick
from edow.engine.results import child_ended, completed, discarded, failure_in, times_of, worker_of
from edow.engine.run import Run
from edow.engine.steps import State, Step, is_answer, timed_out
from edow.model import history as h
from edow.model import inbox
from edow.model.attempted import Attempted, Became
from edow.model.failure import Failure
from edow.model.wire import AT_IT, ResultEvent

Deliver = Callable[[h.AnyEvent], None]


class Conduct:
    """Of one run. `deliver` is the machine's: let an event take effect and run the code."""

    def __init__(self, run: Run, deliver: Deliver) -> None:
        self._run = run
        self._deliver = deliver
        self._unanswered: list[str] = []

    # Inputs

    def take(self, given: EngineInput) -> None:
        """Turn an input into the event that it means; drop and count it when it was answered before."""
        match given:
            case ResultEvent():
                self._result(given)
            case inbox.Signal():
                self._happen(h.SignalReceived(at=self._run.now, name=given.name, payload=given.payload))
            case inbox.ChildEnded():
                self._child_ended(given)
            case inbox.Cancel():
                self._happen(h.CancelRequested(at=self._run.now, reason=given.reason))
            case inbox.Redrive():
                self._redrive(given)
            case inbox.Discard():
                self._discard(given)
            case Tick():
                pass
            case _:
                self._duplicate()

    def _happen(self, event: h.AnyEvent) -> None:
        self._run.journal.record(event)
        self._deliver(event)

    def _duplicate(self) -> None:
        self._run.decision.duplicates += 1

    def _result(self, given: ResultEvent) -> None:
        run = self._run
        step = run.steps.get(given.step)
        if step is None:
            self._duplicate()
            if given.outcome in AT_IT and given.run == run.execution.run:
                run.decision.cancels.append(given.step)  # delivered again, and nobody waits for it any more
        elif given.run != run.execution.run or given.attempt > step.attempt:
            self._duplicate()
        elif given.outcome == "completed":
            self._completed(step, given)
        elif given.attempt != step.attempt or step.state is not State.OUT:
            self._duplicate()
        elif given.outcome == "started":
            self._attempt_started(step, given)
        elif given.outcome == "heartbeat":
            step.heard_at = run.now
            step.heartbeat = bytes(given.data)
            run.decision.heartbeats[step.key] = step.heartbeat
        else:
            self.attempt_failed(step, failure_in(given), worker_of(given), final=given.final, given=given)

    def _completed(self, step: Step, given: ResultEvent) -> None:
        run = self._run
        if step.state is State.PARKED:  # an attempt that had been given up succeeded after all
            run.decision.letters_closed.append(LetterClosed(step.key, False))
        run.forget_heartbeat(step)
        event = completed(given, run.now)
        published_at = step.dispatched_at if given.attempt == step.attempt else 0
        payload = len(step.args) + len(given.data)
        run.decision.attempts.append(
            Attempted(step.task, "completed", published_at, event.started_at, event.duration, payload)
        )
        self._happen(event)

    def _attempt_started(self, step: Step, given: ResultEvent) -> None:
        step.heard_at = self._run.now
        if step.started < given.attempt:
            self._happen(h.TaskStarted(at=self._run.now, step=step.key, attempt=given.attempt, worker=worker_of(given)))

    def _child_ended(self, given: inbox.ChildEnded) -> None:
        if given.run == self._run.execution.run and given.step in self._run.children:
            self._happen(child_ended(given, self._run.now))
        else:
            self._duplicate()

    def _redrive(self, given: inbox.Redrive) -> None:
        step = self._parked(given.run, given.step)
        if step is not None:
            run = self._run
            self._happen(h.TaskRedriven(at=run.now, step=step.key, args=given.args))
            run.decision.letters_closed.append(LetterClosed(step.key, False))
            self.dispatch(step)

    def _discard(self, given: inbox.Discard) -> None:
        step = self._parked(given.run, given.step)
        if step is not None:
            run = self._run
            run.decision.letters_closed.append(LetterClosed(step.key, True, given.reason))
            run.forget_heartbeat(step)
            self._happen(discarded(step.key, step.attempt, given.reason, run.now))

    def _parked(self, run: int, key: str) -> Step | None:
        step = self._run.steps.get(key) if run == self._run.execution.run else None
        if step is None or step.state is not State.PARKED:
            self._duplicate()
            return None
        return step

    # Failures

    def attempt_failed(
        self, step: Step, failure: Failure, worker: str, *, final: bool, given: ResultEvent | None = None
    ) -> None:
        """The attempt that is out (or waited for) came to nothing. `given`: what a worker said of it."""
        self._happen(self.judge(step, failure, worker, final=final, given=given))

    def judge(self, step: Step, failure: Failure, worker: str, *, final: bool, given: ResultEvent | None) -> h.AnyEvent:
        """What follows from the failure by the step's policy: again, raise it, or park on it."""
        run, now = self._run, self._run.now
        retry_at = None if final else step.retry_time(failure, f"{run.identity}/{step.key}", now)
        run.decision.attempts.append(_came_to_nothing(step, given, "failed" if retry_at is None else "retried"))
        started_at, duration = times_of(given)
        if retry_at is not None:
            return h.AttemptFailed(
                at=now,
                step=step.key,
                attempt=step.attempt,
                failure=failure,
                retry_at=retry_at,
                worker=worker,
                started_at=started_at,
                duration=duration,
            )
        answer = is_answer(failure, step.policy)
        parks = step.policy.exhausted == "park" and not answer
        if not answer:
            run.decision.letters.append(step.letter(failure, parked=parks))
        if not parks:
            run.forget_heartbeat(step)
        kind = h.TaskParked if parks else h.TaskFailed
        return kind(
            at=now,
            step=step.key,
            attempt=step.attempt,
            failure=failure,
            worker=worker,
            started_at=started_at,
            duration=duration,
        )

    # Moments

    def fire(self, kind: Due, key: str) -> None:
        """A moment has come that still meant something when it was taken from the agenda."""
        run = self._run
        if kind is Due.TIMER:
            self._happen(h.TimerFired(at=run.now, step=key))
            return
        step = run.steps[key]
        timeouts = step.policy.timeouts
        if kind is Due.LOOK:
            run.agenda.add(step.next_look(run.now), Due.LOOK, key)
            self._unanswered.append(key)
        elif kind is Due.RETRY:
            self._happen(h.TaskRetried(at=run.now, step=key, attempt=step.attempt + 1))
            self.dispatch(step)
        elif kind is Due.START:
            failure = timed_out("schedule_to_start", timeouts.schedule_to_start)
            self.attempt_failed(step, failure, "", final=False)
        else:
            if step.state is State.OUT:
                run.decision.cancels.append(key)
            failure = timed_out("schedule_to_close", timeouts.schedule_to_close)
            self.attempt_failed(step, failure, "", final=True)

    def dispatch(self, step: Step) -> None:
        """Publish the attempt, unless the code has let go of the step in the meantime."""
        if self._run.steps.get(step.key) is step and step.state is State.OUT:
            self._run.decision.dispatches.append(step.dispatch())

    def unanswered(self, now: int) -> list[Dispatch]:
        """The attempts whose look-again time has come since this was last asked."""
        found = [self._run.steps.get(key) for key in self._unanswered]
        self._unanswered.clear()
        return [step.dispatch() for step in found if step is not None and step.silent(now)]

    def close(self) -> None:
        """See `Run.close`."""
        self._deliver = _nowhere

    # Effects

    def effect(self, event: h.AnyEvent) -> None:
        """What an event changes, before the code runs on. What is not open any more is left alone."""
        EFFECTS[type(event)](self._run, event)


def _came_to_nothing(step: Step, given: ResultEvent | None, became: Became) -> Attempted:
    payload = len(step.args) + (0 if given is None else len(given.data))
    return Attempted(step.task, became, step.dispatched_at, *times_of(given), payload)


def _nowhere(event: h.AnyEvent) -> None:
    """Events of a closed machine take no effect."""


def _task_completed(run: Run, event: h.TaskCompleted) -> None:
    run.close_step(event.step, event.result)


def _task_failed(run: Run, event: h.TaskFailed) -> None:
    run.close_step(event.step, event.failure)


def _attempt_failed(run: Run, event: h.AttemptFailed) -> None:
    step = run.steps.get(event.step)
    if step is not None:
        step.state = State.WAITING
        step.retry_at = event.retry_at
        step.failure = event.failure
        run.agenda.add(event.retry_at, Due.RETRY, step.key)


def _task_started(run: Run, event: h.TaskStarted) -> None:
    step = run.steps.get(event.step)
    if step is not None:
        step.started = event.attempt
        step.heard_at = event.at


def _task_retried(run: Run, event: h.TaskRetried) -> None:
    step = run.steps.get(event.step)
    if step is not None:
        step.attempt = event.attempt
        step.failure = None
        run.out(step, event.at)


def _task_parked(run: Run, event: h.TaskParked) -> None:
    step = run.steps.get(event.step)
    if step is not None:
        step.state = State.PARKED
        step.failure = event.failure


def _task_redriven(run: Run, event: h.TaskRedriven) -> None:
    step = run.steps.get(event.step)
    if step is not None:
        step.before = step.attempt
        step.attempt += 1
        step.asked_at = event.at
        if event.args is not None:
            step.args = event.args
        run.watch_close(step)
        run.out(step, event.at)


def _timer_fired(run: Run, event: h.TimerFired) -> None:
    run.fire(event.step)


def _signal_received(run: Run, event: h.SignalReceived) -> None:
    run.mailbox.put(event.name, event.payload)


def _child_completed(run: Run, event: h.ChildCompleted) -> None:
    run.close_child(event.step, event.result)


def _child_failed(run: Run, event: h.ChildFailed) -> None:
    run.close_child(event.step, event.failure)


EFFECTS: dict[type, Callable[[Run, Any], None]] = {
    h.TaskCompleted: _task_completed,
    h.TaskFailed: _task_failed,
    h.AttemptFailed: _attempt_failed,
    h.TaskStarted: _task_started,
    h.TaskRetried: _task_retried,
    h.TaskParked: _task_parked,
    h.TaskRedriven: _task_redriven,
    h.TimerFired: _timer_fired,
    h.SignalReceived: _signal_received,
    h.ChildCompleted: _child_completed,
    h.ChildFailed: _child_failed,
}
