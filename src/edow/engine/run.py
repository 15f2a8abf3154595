"""Everything that one run has open: steps, children, timers, signals, and the decision being made.

Shared by the side that workflow code calls (`calls`) and the side that inputs reach (`machine`). Opens and closes
steps, writing each doing to the journal; knows nothing of inputs.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Coroutine
from typing import Any

import msgspec

from edow.engine.agenda import Agenda, Due
from edow.engine.decision import Decision, LetterClosed
from edow.engine.journal import Journal
from edow.engine.loop import DurableTimer, Loop
from edow.engine.steps import SECOND, State, Step
from edow.errors import InvalidInput
from edow.model import history as h
from edow.model.execution import Execution
from edow.model.policy import StepPolicy
from edow.workflow.duration import LONGEST

NOT_WAITED_FOR = "the workflow no longer waits for this step"


class Child:
    """A child execution that has not ended."""

    __slots__ = ("event", "future")

    def __init__(self, event: h.ChildStarted, future: asyncio.Future[object]) -> None:
        self.event = event
        self.future = future


Waiter = asyncio.Future[msgspec.Raw | None]


class Mailbox:
    """Signals that came, in order, and who waits for them; never both of one name."""

    def __init__(self) -> None:
        self._come: dict[str, deque[msgspec.Raw]] = {}
        self._waiters: dict[str, OrderedDict[Waiter, None]] = {}

    def put(self, name: str, payload: msgspec.Raw) -> None:
        if not self._hand_over(name, payload):
            self._come.setdefault(name, deque()).append(payload)

    def take(self, name: str) -> msgspec.Raw | None:
        come = self._come.get(name)
        return come.popleft() if come else None

    def wait(self, name: str, waiter: Waiter) -> None:
        self._waiters.setdefault(name, OrderedDict())[waiter] = None

    def leave(self, name: str, waiter: Waiter) -> None:
        """Timed out or cancelled."""
        waiters = self._waiters.get(name)
        if waiters is not None:
            waiters.pop(waiter, None)

    def give_back(self, name: str, payload: msgspec.Raw) -> None:
        """It was handed to somebody who was cancelled at that moment: it is the next one's."""
        if not self._hand_over(name, payload):
            self._come.setdefault(name, deque()).appendleft(payload)

    def unread(self) -> list[tuple[str, msgspec.Raw]]:
        return [(name, payload) for name, come in self._come.items() for payload in come]

    def _hand_over(self, name: str, payload: msgspec.Raw) -> bool:
        waiters = self._waiters.get(name)
        while waiters:
            waiter, _ = waiters.popitem(last=False)
            if not waiter.done():
                waiter.set_result(payload)
                return True
        return False


class Run:
    """Host of the loop, and the state that `Machine` and `Calls` share."""

    def __init__(self, execution: Execution) -> None:
        self.execution = execution
        self.identity = f"{execution.id}/{execution.run}"
        self.journal = Journal()
        self.loop = Loop(self, execution.id)  # type: ignore[abstract]  # only typeshed says so
        self.agenda = Agenda(self._holds)
        self.mailbox = Mailbox()
        self.steps: dict[str, Step] = {}
        self.children: dict[str, Child] = {}
        self.timers: dict[str, tuple[int, DurableTimer]] = {}
        self.unstarted: dict[str, Coroutine[Any, Any, Any]] = {}
        self._decision: Decision | None = None
        self.now = 0  # when the decision is made
        self.moment = 0  # logical time: of the last input
        self.repeats = False  # the code runs over what is recorded, or is made to leave
        self.timer_key: str | None = None  # explicit step of the timer about to start

    @property
    def decision(self) -> Decision:
        """The one being made. There is none while the run waits: many do, and it is many objects."""
        decision = self._decision
        if decision is None:
            decision = self._decision = Decision()
        return decision

    @decision.setter
    def decision(self, decision: Decision) -> None:
        self._decision = decision

    def decided(self) -> Decision:
        """The next one begins."""
        decision, self._decision = self.decision, None
        return decision

    def close(self) -> None:
        """Let go of whatever refers back to this: memory is free at once, not only when garbage is collected."""
        self.agenda.close()
        self.loop.let_go()

    # Steps

    def open_step(self, key: str, task: str, args: msgspec.Raw, partition: str | None, policy: StepPolicy) -> Step:
        event = h.TaskScheduled(at=self.now, step=key, task=task, args=args, key=partition)
        recorded = self.journal.issue(event)
        if recorded is not None:
            event = recorded
        future: asyncio.Future[object] = asyncio.Future(loop=self.loop)
        step = Step(key, task, policy, future, event.args, event.key, event.at)
        self.steps[key] = step
        if policy.timeouts.schedule_to_close is not None:
            self.watch_close(step)
        self.out(step, event.at)
        if recorded is None:
            self.decision.dispatches.append(step.dispatch())
        return step

    def out(self, step: Step, now: int) -> None:
        """An attempt of the step is published."""
        step.out(now)
        self.agenda.add(step.look_at, Due.LOOK, step.key)
        if step.policy.timeouts.schedule_to_start is not None and (by := step.start_by) is not None:
            self.agenda.add(by, Due.START, step.key)

    def watch_close(self, step: Step) -> None:
        close_by = step.close_by
        if close_by is not None:
            self.agenda.add(close_by, Due.CLOSE, step.key)

    def close_step(self, key: str, outcome: object) -> Step | None:
        """The step has an outcome."""
        step = self.steps.pop(key, None)
        if step is not None and not step.future.done():
            step.future.set_result(outcome)
        return step

    def cancel_step(self, step: Step) -> None:
        """Nobody waits for it any more."""
        if self.steps.get(step.key) is not step:
            return
        del self.steps[step.key]
        if self.journal.issue_cancel(h.StepCancelled(at=self.now, step=step.key)):
            self.release(step)

    def release(self, step: Step) -> None:
        """Tell the world of a step that will have no outcome."""
        if step.state is State.OUT:
            self.decision.cancels.append(step.key)
        if step.state is State.PARKED:
            self.decision.letters_closed.append(LetterClosed(step.key, True, NOT_WAITED_FOR))
        self.forget_heartbeat(step)

    def forget_heartbeat(self, step: Step) -> None:
        if step.heartbeat is not None:
            self.decision.heartbeats[step.key] = None

    # Children

    def open_child(self, event: h.ChildStarted) -> Child:
        recorded = self.journal.issue(event)
        child = Child(recorded or event, asyncio.Future(loop=self.loop))
        self.children[event.step] = child
        if recorded is None:
            self.decision.children.append(event)
        return child

    def close_child(self, key: str, outcome: object) -> None:
        child = self.children.pop(key, None)
        if child is not None and not child.future.done():
            child.future.set_result(outcome)

    def cancel_child(self, child: Child) -> None:
        key = child.event.step
        if self.children.get(key) is not child:
            return
        del self.children[key]
        if self.journal.issue_cancel(h.StepCancelled(at=self.now, step=key)):
            self.release_child(child.event)

    def release_child(self, event: h.ChildStarted) -> None:
        if event.on_close == "cancel":
            self.decision.child_cancels.append(event.execution)
        elif event.on_close == "terminate":
            self.decision.child_terminates.append(event.execution)

    # Timers: the loop's host

    def start_timer(self, timer: DurableTimer, delay: float) -> None:
        explicit, self.timer_key = self.timer_key, None
        if not delay <= LONGEST:
            raise InvalidInput(
                f"a timer of {delay:g} s is longer than {LONGEST:g} s, a thousand years: wait for a signal instead"
            )
        key = explicit or self.journal.count("timer", self.loop.scope())
        event = h.TimerStarted(at=self.now, step=key, due=self.moment + (round(delay * SECOND) or 1))
        recorded = self.journal.issue(event)
        due = event.due if recorded is None else recorded.due
        timer.key = key
        self.timers[key] = due, timer
        self.agenda.add(due, Due.TIMER, key)

    def timer_cancelled(self, timer: DurableTimer) -> None:
        self.timers.pop(timer.key, None)

    def fire(self, key: str) -> None:
        found = self.timers.pop(key, None)
        if found is not None:
            self.loop.fire(found[1])

    def notice(self, text: str) -> None:
        self.decision.notices.append(text)

    # Time

    def at(self, moment: int) -> None:
        """Logical time goes on, never back."""
        if moment > self.moment:
            self.moment = moment
            self.loop.now = moment / SECOND

    def _holds(self, at: int, kind: Due, key: str) -> bool:
        if kind is Due.TIMER:
            timer = self.timers.get(key)
            return timer is not None and timer[0] == at
        step = self.steps.get(key)
        if step is None:
            return False
        if kind is Due.LOOK:
            return step.look_at == at and step.state is State.OUT
        return _step_holds(step, kind, at)


def _step_holds(step: Step, kind: Due, at: int) -> bool:
    if kind is Due.RETRY:
        return step.state is State.WAITING and step.retry_at == at
    if kind is Due.START:
        return step.state is State.OUT and step.started < step.attempt and step.start_by == at
    return step.state is not State.PARKED and step.close_by == at


def add(held: Decision, to: Decision) -> None:
    """Let `to` decide what `held` did, besides; the events are the journal's."""
    for name in held.__struct_fields__:
        mine, more = getattr(to, name), getattr(held, name)
        if name != "events" and isinstance(mine, list):
            mine.extend(more)
        elif isinstance(mine, dict):
            mine.update(more)
        elif isinstance(mine, bool):
            setattr(to, name, mine or more)
