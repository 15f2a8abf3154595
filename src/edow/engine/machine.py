"""One run of one execution in memory: history + inputs + now -> a decision.

Inputs become events, events are delivered to the workflow's code on its own loop, and what the code does becomes events
in turn. Replay is the same thing with recorded events. Promises never to read a clock, make an id or do I/O; refuses
to know who stores or publishes what it decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import Context

import msgspec

from edow.engine import outcome
from edow.engine.calls import Calls
from edow.engine.conduct import Conduct
from edow.engine.decision import Decision, Dispatch, EngineInput, LetterClosed
from edow.engine.journal import INPUTS
from edow.engine.ledger import Ledger
from edow.engine.limits import DEFAULTS, Limits
from edow.engine.loop import Spinning, WorkflowTask
from edow.engine.run import NOT_WAITED_FOR, Run, add
from edow.engine.steps import State
from edow.errors import InvalidInput
from edow.model import history as h
from edow.model import inbox
from edow.model.execution import Execution, Status
from edow.model.failure import PAUSED, Failure
from edow.model.wire import ResultEvent
from edow.workflow.definition import Workflow
from edow.workflow.failures import failure_of
from edow.workflow.runtime import current


class Machine:
    """Use: `rebuild` once, with the history so far (at least Started); `apply` for each batch; `close` to evict."""

    def __init__(
        self,
        definition: Workflow[..., object] | None,
        execution: Execution,
        limits: Limits = DEFAULTS,
    ) -> None:
        self._definition = definition
        self._limits = limits
        self._run = Run(execution)
        self._conduct = Conduct(self._run, self._deliver)
        self._context = Context()
        self._ledger: Ledger | None = None
        self._root: WorkflowTask | None = None
        self._started: h.Started | None = None
        self._cancel_reason = ""
        self._held: Decision | None = None  # what the code did beyond history, while parked
        self._held_status: Status | None = None
        self._redriven: list[str] = []  # while parked: to be published on resume
        self._stopping = False  # the workflow's own task is done, the others are asked to stop
        self._parked = False  # history says so
        self._halt: Failure | None = None  # the code cannot be driven any further
        self._status: Status | None = None  # set when the run has ended
        self.late: list[inbox.AnyCommand] = []  # what names no run, behind continue-as-new; signals behind any end
        self._events = 0  # in history, this decision's included

    @classmethod
    def replay(
        cls,
        definition: Workflow[..., object] | None,
        execution: Execution,
        segments: Iterable[list[h.AnyEvent]],
        limits: Limits = DEFAULTS,
    ) -> Machine:
        """Does today's code fit this history? See `disagreement`."""
        machine = cls(definition, execution, limits)
        machine.rebuild(segments)
        return machine

    @classmethod
    def blind(cls, execution: Execution, why: Failure, events: int) -> Machine:
        """Of an execution that cannot be decided about, with a history of so many `events`: what comes for it is
        recorded, for a machine that can.
        """
        machine = cls(None, execution)
        machine._halt, machine._parked, machine._ledger, machine._events = why, True, Ledger(blind=True), events
        return machine

    # What others may know

    @property
    def disagreement(self) -> Failure | None:
        """Why the code cannot be driven any further: it does not fit, is unknown, spins, or has hit a limit."""
        return self._halt

    @property
    def ended(self) -> bool:
        return self._status is not None

    @property
    def events(self) -> int:
        """Length of the run's history."""
        return self._events

    def waits_for(self) -> Failure | None:
        """The failure of a step that waits for a person."""
        return self._failure_of(State.PARKED)

    def tries_again(self) -> Failure | None:
        """The failure of a step that waits for its next attempt."""
        return self._failure_of(State.WAITING)

    def _failure_of(self, state: State) -> Failure | None:
        waiting = (step for step in self._run.steps.values() if step.state is state and step.failure is not None)
        step = next(waiting, None)
        return None if step is None or step.failure is None else msgspec.structs.replace(step.failure, step=step.key)

    def out(self, now: int) -> Iterator[tuple[str, int | None]]:
        """Of each attempt that nobody has answered: its task topic's name, and since when it waits; None: a worker is
        known to be at it.
        """
        if not self._parked:
            for step in self._run.steps.values():
                if step.state is State.OUT:
                    yield step.policy.topic, step.waits_since(now)

    def unread(self) -> list[tuple[str, msgspec.Raw]]:
        """Signals that came and that nobody waited for, in order by name: the next run's."""
        return self._run.mailbox.unread()

    # Rebuild

    def rebuild(self, segments: Iterable[list[h.AnyEvent]], heartbeats: Mapping[str, bytes] | None = None) -> None:
        """Run the code again over everything recorded."""
        events = [event for segment in segments for event in segment]
        self._events = len(events)
        run = self._run
        if len(events) > 1:
            run.journal.expect(events)
            run.repeats = True
            for event in events:
                self._replay(event)
                if self._halt is not None:
                    self._halted_at(events)
                    break
            run.repeats = False
        elif events:
            self._await_start(events[0])
        for step, details in (heartbeats or {}).items():
            if step in run.steps:
                run.steps[step].heartbeat = details
        if self._halt is not None:
            self._hold_back()  # and forget: it came of code that does not fit
        elif self._parked:
            self._ledger = Ledger()
            self._ledger.read(events)  # of what is recorded, not of what the code would have done since
            self._held = self._hold_back()
            self._held_status, self._status = self._status, None

    def _replay(self, event: h.AnyEvent) -> None:
        run = self._run
        run.now = event.at
        if type(event) in INPUTS:
            run.journal.next_input()
            self._deliver(event)
        else:
            run.journal.confirm(event, self._status is not None)
            self._halt = self._halt or run.journal.disagreement

    def _await_start(self, event: h.AnyEvent) -> None:
        if isinstance(event, h.Started):
            self._started = event

    def _halted_at(self, events: list[h.AnyEvent]) -> None:
        """The code stands still somewhere in the middle; what is open follows from the events alone."""
        self._ledger = ledger = Ledger()
        ledger.read(events)
        self._parked = ledger.parked
        self._status = ledger.status

    def _hold_back(self) -> Decision:
        """What the code did beyond history must not happen while the execution is parked."""
        run = self._run
        held = run.decided()
        held.events, run.journal.fresh = run.journal.fresh, []
        return held

    # Apply

    def apply(self, inputs: Sequence[EngineInput], now: int) -> Decision:
        """Everything that follows from these inputs, in this order, and from the time."""
        run = self._run
        run.now = now if now > run.moment else run.moment
        if self._started is not None and not (inputs and type(inputs[0]) is inbox.Terminate):
            self._begin_late()
        for given in inputs:
            self._take(given)
        wake_at = self._fire_due()
        if run.journal.fresh or self._halt is not None:
            self._check_limit()
        return self._decided(wake_at)

    def pending(self, now: int) -> list[Dispatch]:
        """Attempts out for a minute or more, unanswered, to be published again. Ask after each apply with a Tick."""
        return self._conduct.unanswered(now)

    def close(self) -> None:
        """Evict: the code is stopped where it waits, and nothing that it tries then has an effect."""
        loop = self._run.loop
        if loop.closed:
            return
        loop.closed = self._run.repeats = True
        loop.drop_ready()
        for coro in self._run.unstarted.values():
            coro.close()
        self._run.unstarted.clear()
        for task in loop.tasks:
            if not task.done():
                loop.evict(task, self._context)
        loop.tasks.clear()
        self._run.close()
        self._conduct.close()

    def _begin_late(self) -> None:
        started, self._started = self._started, None
        if started is not None:
            self._run.journal.next_input()
            self._deliver(started)

    def _take(self, given: EngineInput) -> None:
        if self._halt is not None and not self._parked and self._status is None:
            self._park(self._halt)
        if type(given) is inbox.Start:
            if given.run != self._run.execution.run:
                self._run.decision.duplicates += 1
        elif self._status is not None:
            self._take_late(given)
        elif type(given) is inbox.Terminate:
            self._end(h.Terminated(at=self._run.now, reason=given.reason))
        elif self._parked:
            self._take_parked(given)
        elif type(given) is inbox.Pause:
            self._park(paused(given.reason))
        else:
            self._conduct.take(given)

    def _take_late(self, given: EngineInput) -> None:
        if isinstance(given, inbox.LASTING if self._status is Status.RUNNING else inbox.Signal):
            self.late.append(given)
        else:
            self._run.decision.duplicates += 1

    def _fire_due(self) -> int | None:
        """All moments that have come; when the next one comes."""
        run = self._run
        while self._status is None and not self._parked and self._halt is None:
            if self._limits.failure(self._events + len(run.journal.fresh)) is not None:
                break
            at = run.agenda.next_at()
            if at is None or at > run.now:
                return at
            self._conduct.fire(*run.agenda.take())
        return None

    # Parked

    def _park(self, why: Failure) -> None:
        """Record that the execution waits for a person."""
        run = self._run
        self._open_ledger()
        run.journal.record(h.Parked(at=run.now, failure=why))
        self._parked = True

    def _take_parked(self, given: EngineInput) -> None:
        """Nothing that comes is lost: it is recorded, and what the code does about it happens on resume."""
        run = self._run
        if type(given) is inbox.Resume:
            self._resume()
            return
        ledger = self._open_ledger()
        step = getattr(given, "step", "")
        dead = step in ledger.dead
        event = ledger.event_of(given, run.execution.run, run.now)
        if event is None:
            run.decision.duplicates += 1
            return
        if isinstance(event, h.AttemptFailed) and self._halt is None:
            event = self._judged(event, given)
            ledger.read([event])
        run.journal.record(event)
        if self._halt is None:
            self._deliver_held(event)
        if dead and step not in ledger.dead:
            reason = event.failure.message if isinstance(event, h.TaskFailed) else ""
            run.decision.letters_closed.append(LetterClosed(step, isinstance(event, h.TaskFailed), reason))

    def _judged(self, event: h.AttemptFailed, given: EngineInput) -> h.AnyEvent:
        """What the step's policy makes of a failure, where the code can be asked."""
        step = self._run.steps.get(event.step)
        if step is None or not isinstance(given, ResultEvent):
            return event
        return self._conduct.judge(step, event.failure, event.worker, final=given.final, given=given)

    def _deliver_held(self, event: h.AnyEvent) -> None:
        """As a replay does: the code learns of it now, and what it does about it is held back."""
        run = self._run
        decision = run.decided()
        fresh, run.journal.fresh = run.journal.fresh, []
        self._status = self._held_status
        self._deliver(event)
        self._held_status, self._status = self._status, None
        held = self._hold_back()
        if self._held is None:
            self._held = held
        else:
            self._held.events.extend(held.events)
            add(held, to=self._held)
        run.decision, run.journal.fresh = decision, fresh

    def _open_ledger(self) -> Ledger:
        if self._ledger is None:
            self._ledger = Ledger()
            children = [child.event for child in self._run.children.values()]
            self._ledger.take_over(self._run.steps.values(), children)
        return self._ledger

    def _resume(self) -> None:
        run = self._run
        if self._halt is not None:
            self._park(self._halt)
            return
        run.journal.record(h.Resumed(at=run.now))
        if self._held is not None:
            run.journal.fresh.extend(self._held.events)
            add(self._held, to=run.decision)
            self._held = None
            self._status, self._held_status = self._held_status, None
        self._parked = False
        run.at(run.now)
        self._ledger = None
        for key in self._redriven:
            if key in run.steps:
                self._conduct.dispatch(run.steps[key])
        self._redriven.clear()

    def _check_limit(self) -> None:
        if self._status is None and self._halt is None:
            self._halt = self._limits.failure(self._events + len(self._run.journal.fresh))
        if self._halt is not None and self._status is None and not self._parked:
            self._park(self._halt)

    # Delivery

    def _deliver(self, event: h.AnyEvent) -> None:
        """Let the event take effect, then run the code until it rests."""
        run = self._run
        run.at(event.at)
        kind = type(event)
        if kind is h.Started:
            self._begin(event)  # type: ignore[arg-type]
        elif kind is h.CancelRequested:
            self._cancel(event.reason)  # type: ignore[union-attr]
        elif kind is h.Parked or kind is h.Resumed:
            self._parked = kind is h.Parked
            if not self._parked:
                self._redriven.clear()
        else:
            if self._parked and kind is h.TaskRedriven:
                self._redriven.append(event.step)  # type: ignore[union-attr]
            self._conduct.effect(event)
        self._rest()

    def _rest(self) -> None:
        root = self._root
        try:
            self._run.loop.run()
            if root is not None and root.done():
                self._settle(root)
        except Spinning:
            self._halt = SPINS
        if self._run.journal.disagreement is not None:
            self._halt = self._run.journal.disagreement

    def _begin(self, event: h.Started) -> None:
        definition, run = self._definition, self._run
        if definition is None:
            self._halt = _unknown(event.workflow)
            return
        try:
            args, kwargs = definition.signature.decode_args(event.input)
        except InvalidInput as error:
            self._unfit(failure_of(error))
            return
        self._context.run(current.set, Calls(run, definition))
        self._root = run.loop.root_task(definition.fn(*args, **kwargs), self._context)

    def _unfit(self, failure: Failure) -> None:
        """The input does not fit the workflow: it fails, unless it did fit when it began."""
        if self._events > 1:
            self._halt = failure
        else:
            self._end(h.Failed(at=self._run.now, failure=failure))

    def _cancel(self, reason: str) -> None:
        self._cancel_reason = reason
        if self._root is not None:
            self._root.cancel()

    # End

    def _settle(self, root: WorkflowTask) -> None:
        """Once the workflow's own task is done, the others are cancelled, but for compensations; when they are done
        too, the run ends.
        """
        if self._status is not None:
            return
        tasks = self._run.loop.tasks
        left = [task for task in tasks if not task.done()]
        if left and not self._stopping:
            self._stopping = True
            for task in left:
                if not task.spared:
                    task.cancel()
            self._run.loop.run()
            left = [task for task in left if not task.done()]
        if not left and self._definition is not None:
            self._end(outcome.of(root, self._definition, self._run.now, self._cancel_reason))

    def _end(self, event: h.End) -> None:
        run = self._run
        for key in list(run.unstarted)[:10]:
            run.notice(f"step {key!r} was called and never awaited: it did not run")
        if isinstance(event, h.Terminated):
            self._abandon()
        run.journal.issue_end(event)
        self._status = outcome.STATUS[type(event)]

    def _abandon(self) -> None:
        """Terminated: whoever still works for this run is told."""
        run = self._run
        if self._halt is not None or self._parked:
            ledger = self._open_ledger()
            run.decision.cancels.extend(sorted(ledger.out))
            run.decision.letters_closed += [LetterClosed(step, True, NOT_WAITED_FOR) for step in sorted(ledger.dead)]
            for event in ledger.children.values():
                run.release_child(event)
            return
        for step in run.steps.values():
            run.release(step)
        for child in run.children.values():
            run.release_child(child.event)

    # The decision

    def _decided(self, wake_at: int | None) -> Decision:
        run = self._run
        decision = run.decided()
        fresh = run.journal.fresh
        if fresh:
            decision.events, run.journal.fresh = fresh, []
            before, self._events = self._events, self._events + len(fresh)
            decision.notices += self._limits.notices(before, self._events)
        decision.status = self._current_status()
        decision.wake_at = None if self._parked else wake_at
        if self._status is not None:
            self.close()
        return decision

    def _current_status(self) -> Status:
        if self._status is not None:
            return self._status
        if self._parked:
            return Status.PARKED
        return Status.PARKED if self._only_parked_steps() else Status.RUNNING

    def _only_parked_steps(self) -> bool:
        """Some step waits for a person, and nothing else is under way."""
        run = self._run
        first = next(iter(run.steps.values()), None)
        if first is None or first.state is State.OUT or run.timers or run.children:
            return False
        return all(step.state is State.PARKED for step in run.steps.values())


SPINS = Failure(
    type="edow.Spinning",
    message="the workflow goes round in circles without waiting for anything "
    "(`while ...: await asyncio.sleep(0)`?): let it wait for a signal, a task or a time, then resume it",
    retryable=False,
)


def paused(reason: str) -> Failure:
    return Failure(type=PAUSED, message=reason, kind="paused", retryable=False)


def _unknown(name: str) -> Failure:
    return Failure(
        type="edow.UnknownWorkflow",
        message=f"no workflow {name!r} in this program: load the module that defines it, then resume the execution",
        retryable=False,
    )
