"""From decisions to one commit: rows, segments, task events. Runs on the engine thread; does no I/O.

A draft collects what all executions of a batch decided. Nothing in it is true until the store has committed it.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any, Literal, NamedTuple

import msgspec

from edow.engine.decision import Decision, Dispatch, EngineInput, Letter
from edow.engine.machine import Machine
from edow.model import history, inbox, topics, wire
from edow.model.attempted import Attempted
from edow.model.execution import ENDED, Execution, Parent, Status, shard_of
from edow.model.failure import Failure, fingerprint
from edow.model.message import Message
from edow.model.portions import portions
from edow.model.times import rfc3339
from edow.orchestrator.outgoing import Suspect, calling_off
from edow.orchestrator.traces import Traced
from edow.store.contract import Append, DeadLetter, Heartbeat, LetterState, NewExecution, Update
from edow.telemetry.traceparent import is_sampled

SEGMENT_EVENTS = 500  # a row of history holds at most this many events
SEGMENT_BYTES = 4 * 1024 * 1024  # and many large ones are spread over several
CANCEL_BYTES = 100_000  # of keys in one message; the smallest limit of a broker is 256 KiB
REPLACED = "the execution was replaced by a new run"
MARKS = frozenset({history.Parked, history.Resumed})
HORIZON_US = 30_000_000  # wake-ups nearer than this are kept in memory
FIRST_LOOK_US = 10_000_000  # a child whose start got lost is looked at after this long

_json = msgspec.json.encode


class Hot:
    """An execution in memory: its machine, its row as last decided, where its history goes on, and how large that is:
    about the memory that all of it takes.
    """

    __slots__ = ("ended", "length", "machine", "row", "size")

    def __init__(self, machine: Machine, row: Execution, length: int, size: int = 0) -> None:
        self.machine = machine
        self.row = row
        self.length = length
        self.size = size
        self.ended = False


class Farewell(NamedTuple):
    """What has to be done about a run that was replaced: nobody waits for its tasks and children any more."""

    row: Execution
    last: Decision


def blind(row: Execution, problem: BaseException, events: int) -> Hot:
    """We have failed to decide about this execution: it waits for a person rather than being tried for ever, and what
    comes for it is kept in its history.
    """
    why = _distrust(row, problem)
    row.status = Status.RUNNING  # that it is parked has to be stored, whatever was decided before we failed
    return Hot(Machine.blind(row, why, events), row, events)


def _distrust(row: Execution, problem: BaseException) -> Failure:
    failure = Failure(type="edow.errors.Bug", message=repr(problem), retryable=False)
    row.failure = msgspec.Raw(_json(failure))
    return failure


class Draft:
    """What a batch of decisions wants stored and published."""

    def __init__(self, now: int, shards: int, horizon_us: int = HORIZON_US) -> None:
        self.now = now
        self.shards = shards
        self.horizon = now + horizon_us
        self.appends: list[Append] = []
        self.updates: list[Update] = []
        self.children: list[NewExecution] = []
        self.commands: list[tuple[str, int, bytes]] = []
        self.messages: list[Message] = []
        self.topics: set[str] = set()  # of the messages
        self.dead_letters: list[DeadLetter] = []
        self.letters_closed: list[LetterState] = []
        self.heartbeats: list[Heartbeat] = []
        self.wakes: list[tuple[int, str]] = []  # before the horizon
        self.cancels: list[str] = []  # keys of steps that nobody waits for
        self.ended: list[str] = []
        self.touched: list[str] = []
        self.suspects: list[Suspect] = []
        self.notices: list[tuple[str, str]] = []
        self.traced: list[Traced] = []
        self.started: list[str] = []  # workflows of executions that have begun
        self.attempts: list[tuple[str, list[Attempted]]] = []  # by workflow
        self.duplicates = 0
        self._time = rfc3339(now)
        self._lists: tuple[list[Any], ...] = (
            self.appends,
            self.updates,
            self.children,
            self.commands,
            self.messages,
            self.dead_letters,
            self.letters_closed,
            self.heartbeats,
            self.wakes,
            self.ended,
            self.notices,
            self.traced,
            self.attempts,
            self.cancels,
        )

    def finish(self) -> None:
        """As few broadcasts as every broker takes for all cancellations of the batch."""
        for keys in portions(self.cancels, lambda key: len(_json(key)) + 1, len(self.cancels), CANCEL_BYTES):
            self.messages.append(calling_off(keys, self._time))
            self.topics.add(topics.CONTROL)

    def absorb(self, hot: Hot, decision: Decision) -> None:
        """Add what one execution decided, and move its in-memory row to where the commit will put it."""
        row = hot.row
        self.touched.append(row.id)
        self.duplicates += decision.duplicates
        if decision.attempts:
            self.attempts.append((row.workflow, decision.attempts))
        if decision.events:
            hot.size += self._append(row, hot.length, decision.events)
            hot.length += len(decision.events)
        for dispatch in decision.dispatches:
            message = self.task_message(row, dispatch)
            self.messages.append(message)
            self.topics.add(message.topic)
        if decision.cancels:
            self.cancels.extend(f"{row.id}/{row.run}/{step}" for step in decision.cancels)
        if decision.children or decision.child_cancels or decision.child_terminates or decision.signals:
            self._others(row, decision)
        if decision.letters or decision.letters_closed:
            self._letters(row, decision)
        for step, details in decision.heartbeats.items():
            self.heartbeats.append(Heartbeat(row.id, row.run, step, details))
        for notice in decision.notices:
            self.notices.append((row.id, notice))
        if row.trace and is_sampled(row.trace):
            self._trace(row, decision)
        self._row(hot, decision)

    def _trace(self, row: Execution, decision: Decision) -> None:
        over = bool(decision.events) and isinstance(decision.events[-1], history.End)
        if over or decision.dispatches:
            self.traced.append(Traced(copy(row), decision.dispatches, over))

    def park(self, row: Execution, problem: BaseException) -> None:
        """It waits for a person, and its history cannot even be gone on with."""
        _distrust(row, problem)
        row.status = Status.PARKED
        row.wake_at = None
        self.updates.append(Update(row.run, copy(row)))

    def abandon(self, farewells: Sequence[Farewell]) -> None:
        """Tell the workers, children and parents of runs that were replaced, and close the dead letters that they have
        left.
        """
        for row, last in farewells:
            self.cancels.extend(f"{row.id}/{row.run}/{step}" for step in last.cancels)
            self._others(row, last)
            self._letters(row, last)
            if last.events and isinstance(last.events[-1], history.Terminated):
                self._tell_parent(row, Failure(type="", message=REPLACED, kind="terminated", retryable=False))

    def call_off(self, item: EngineInput, execution: str) -> None:
        """If a worker is at it: the execution or the run that it works for is over, so tell it to stop."""
        if isinstance(item, wire.ResultEvent) and item.outcome in wire.AT_IT:
            self.cancels.append(f"{execution}/{item.run}/{item.step}")

    def unheard(self, item: EngineInput, execution: str, exists: bool) -> None:
        """A signal to an execution that cannot hear it is told to a person; its sender went on long ago."""
        if isinstance(item, inbox.Signal):
            why = "it takes no signals any more" if exists else "there is no execution of that id"
            self.notices.append((execution, item.unheard(why)))

    def again(self, row: Execution, command: inbox.AnyCommand) -> None:
        """Not in this batch: it comes once more."""
        self.commands.append((row.id, row.shard, inbox.encode(command)))

    def suspect(self, row: Execution, dispatch: Dispatch) -> None:
        """This attempt was published long ago and is unanswered."""
        id = f"{row.id}/{row.run}/{dispatch.step}"
        self.suspects.append(Suspect(id, self.task_message(row, dispatch), dispatch.dispatched_at))

    def mark(self) -> tuple[int, ...]:
        """To come back to with `revert`."""
        return tuple(map(len, self._lists))

    def revert(self, mark: tuple[int, ...]) -> None:
        """As if what was absorbed since had never been decided."""
        for each, length in zip(self._lists, mark, strict=True):
            del each[length:]

    def task_message(self, row: Execution, dispatch: Dispatch) -> Message:
        """The task event of one attempt."""
        policy = dispatch.policy
        timeouts = policy.timeouts
        key = f"{row.id}/{row.run}/{dispatch.step}"
        event = wire.TaskEvent(
            id=f"{key}/{dispatch.attempt}",
            source=wire.ORCHESTRATOR,
            type=wire.TASK_TYPE,
            specversion=wire.SPEC_VERSION,
            subject=dispatch.task,
            time=self._time,
            workflow=row.workflow,
            executionid=row.id,
            run=row.run,
            step=dispatch.step,
            attempt=dispatch.attempt,
            idempotencykey=key,
            replytopic=topics.result_topic(row.shard),
            correlationid=row.correlation,
            traceparent=row.trace,
            partitionkey=dispatch.key,
            startby=None if timeouts.schedule_to_start is None else self._after(timeouts.schedule_to_start),
            deadline=None if timeouts.schedule_to_close is None else _deadline(dispatch, timeouts.schedule_to_close),
            timeoutms=None if timeouts.start_to_close is None else _milliseconds(timeouts.start_to_close),
            heartbeatms=None if timeouts.heartbeat is None else _milliseconds(timeouts.heartbeat),
            heartbeatdetails=None if dispatch.heartbeat is None else dispatch.heartbeat.decode(errors="replace"),
            retry=None if dispatch.key is None else _json(policy.retry).decode(),
            data=dispatch.args,
        )
        return Message(topics.task_topic(policy.topic), wire.encode(event), dispatch.key)

    def _after(self, seconds: float) -> str:
        return rfc3339(self.now + int(seconds * 1_000_000))

    def _append(self, row: Execution, start: int, events: list[history.AnyEvent]) -> int:
        """How many bytes they are."""
        if len(events) <= SEGMENT_EVENTS:
            segment = history.encoder.encode(events)
            if len(segment) <= SEGMENT_BYTES or len(events) == 1:
                self.appends.append(Append(row.id, row.run, start, len(events), segment))
                return len(segment)
        middle = len(events) // 2
        return self._append(row, start, events[:middle]) + self._append(row, start + middle, events[middle:])

    def _others(self, row: Execution, decision: Decision) -> None:
        for child in decision.children:
            self.children.append(self._child(row, child))
        for execution in decision.child_cancels:
            self._command(execution, inbox.Cancel(reason=f"its parent {row.id} no longer waits for it"))
        for execution in decision.child_terminates:
            self._command(execution, inbox.Terminate(reason=f"its parent {row.id} has ended"))
        for signal in decision.signals:
            self._command(signal.execution, inbox.Signal(name=signal.name, payload=signal.payload, sender=row.id))

    def _command(self, execution: str, command: inbox.AnyCommand) -> None:
        self.commands.append((execution, shard_of(execution, self.shards), inbox.encode(command)))

    def _child(self, row: Execution, child: history.ChildStarted) -> NewExecution:
        parent = Parent(row.id, row.run, child.step, child.on_close)
        execution = Execution(
            id=child.execution,
            workflow=child.workflow,
            shard=shard_of(child.execution, self.shards),
            input=child.input,
            correlation=row.correlation,
            trace=row.trace,
            parent=parent,
            started_at=self.now,
            wake_at=self.now + FIRST_LOOK_US,
            events=1,
        )
        started = history.Started(at=self.now, workflow=child.workflow, input=child.input, parent=parent)
        taken = inbox.ChildEnded(run=row.run, step=child.step, failure=_id_taken(child))
        return NewExecution(execution, history.encoder.encode([started]), inbox.encode(taken))

    def _letters(self, row: Execution, decision: Decision) -> None:
        for letter in decision.letters:
            self.dead_letters.append(self._letter(row, letter))
        for closed in decision.letters_closed:
            state: Literal["redriven", "discarded"] = "discarded" if closed.discarded else "redriven"
            self.letters_closed.append(LetterState(f"{row.id}/{row.run}/{closed.step}", state, closed.reason))

    def _letter(self, row: Execution, letter: Letter) -> DeadLetter:
        return DeadLetter(
            id=f"{row.id}/{row.run}/{letter.step}",
            execution=row.id,
            run=row.run,
            step=letter.step,
            task=letter.task,
            shard=row.shard,
            state="parked" if letter.parked else "raised",
            args=letter.args,
            failure=msgspec.Raw(_json(letter.failure)),
            attempts=letter.attempts,
            workflow=row.workflow,
            correlation=row.correlation,
            trace=row.trace,
            at=self.now,
            fingerprint=fingerprint(letter.task, letter.failure.type, letter.failure.message),
        )

    def _row(self, hot: Hot, decision: Decision) -> None:
        """Write the row only if something in it must change; most steps change nothing but the history."""
        row, wake = hot.row, decision.wake_at
        wakes = _wake_differs(row.wake_at, wake, self.now)
        changed = decision.status is not row.status or decision.attributes_changed or decision.progress_changed
        last = decision.events[-1] if decision.events else None
        parked = decision.status is Status.PARKED and any(type(each) in MARKS for each in decision.events)
        if isinstance(last, history.ContinuedAsNew):
            if decision.attributes_changed or decision.progress_changed:
                _show(row, decision.events)
            self._continue(hot, last)
            return
        if wake is not None and wake < self.horizon and decision.status not in ENDED:
            self.wakes.append((wake, row.id))
        again = _tries_again(hot, decision)
        if not (changed or wakes or parked or _retries_differ(row, again)):  # parked again has another reason
            return
        row.status = decision.status
        row.wake_at = wake
        row.events = hot.length
        if decision.attributes_changed or decision.progress_changed:
            _show(row, decision.events)
        row.failure = _failure(hot, decision, last) if again is None else again
        if decision.status in ENDED:
            self._end(hot, last)
        self.updates.append(Update(row.run, copy(row)))

    def _end(self, hot: Hot, last: history.AnyEvent | None) -> None:
        row = hot.row
        hot.ended = True
        row.ended_at = self.now
        row.wake_at = None
        if isinstance(last, history.Completed):
            row.result = last.result
        self.ended.append(row.id)
        for each in hot.machine.late:
            self.unheard(each, row.id, exists=True)
        if row.parent is not None:
            self._tell_parent(row, None if row.failure is None else msgspec.json.decode(row.failure, type=Failure))

    def _tell_parent(self, row: Execution, failure: Failure | None) -> None:
        if (parent := row.parent) is not None:
            ended = inbox.ChildEnded(run=parent.run, step=parent.step, result=row.result, failure=failure)
            self._command(parent.execution, ended)

    def _continue(self, hot: Hot, event: history.ContinuedAsNew) -> None:
        """The next run begins like any start: its first segment is stored now, a Start command will wake it."""
        row = hot.row
        hot.ended = True
        old = row.run
        row.run += 1
        row.input = event.input
        row.status = Status.RUNNING
        row.wake_at = self.now + FIRST_LOOK_US
        started = history.Started(
            at=self.now, workflow=row.workflow, input=event.input, parent=row.parent, notify=row.notify
        )
        begin: list[history.AnyEvent] = [started]
        for name, payload in hot.machine.unread():  # signals that came and that this run did not wait for
            begin.append(history.SignalReceived(at=self.now, name=name, payload=payload))
        late = hot.machine.late  # so did these, in the same batch, and behind the end
        begin.extend(
            history.SignalReceived(at=self.now, name=each.name, payload=each.payload)
            for each in late
            if isinstance(each, inbox.Signal)
        )
        row.events = len(begin)
        self._append(row, 0, begin)
        self.updates.append(Update(old, copy(row)))
        self.again(row, inbox.Start(run=row.run, continued=True))
        for each in late:
            if not isinstance(each, inbox.Signal):
                self.again(row, each)
        self.ended.append(row.id)


def _wake_differs(stored: int | None, wanted: int | None, now: int) -> bool:
    """A stored wake-up may be early (the machine is then looked at for nothing) but never late, and must move on once
    past.
    """
    if wanted is None:
        return stored is not None and stored <= now
    return stored is None or wanted < stored or stored <= now


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))


def _deadline(dispatch: Dispatch, seconds: float) -> str:
    return rfc3339(dispatch.scheduled_at + int(seconds * 1_000_000))


def _id_taken(child: history.ChildStarted) -> Failure:
    return Failure(
        type="edow.errors.AlreadyExists",
        message=f"child execution {child.execution!r} of {child.workflow!r}: the id is taken by another execution; "
        "give the child another id",
        retryable=False,
    )


def _show(row: Execution, events: list[history.AnyEvent]) -> None:
    """Attributes are merged, progress is replaced."""
    for event in events:
        if isinstance(event, history.AttributesSet):
            before = {} if row.attributes is None else msgspec.json.decode(row.attributes)
            after = {name: value for name, value in (before | event.values).items() if value is not None}
            row.attributes = msgspec.Raw(_json(after))
        elif isinstance(event, history.ProgressSet):
            row.progress = event.value


def _tries_again(hot: Hot, decision: Decision) -> msgspec.Raw | None:
    """Of an execution that runs: what the attempt failed with whose next one waits. The stack is in the history."""
    if decision.status is not Status.RUNNING:
        return None
    if hot.row.failure is None and not any(type(event) is history.AttemptFailed for event in decision.events):
        return None  # as with most steps
    failure = hot.machine.tries_again()
    return None if failure is None else msgspec.Raw(_json(msgspec.structs.replace(failure, stack="", args=None)))


def _retries_differ(row: Execution, again: msgspec.Raw | None) -> bool:
    """Whether the row of an execution that runs tells another retry, or tells of one that is over."""
    return row.status is Status.RUNNING and row.failure != again


def _failure(hot: Hot, decision: Decision, last: history.AnyEvent | None) -> msgspec.Raw | None:
    """Why the execution failed, was ended, or is parked; None while it runs or when it completed."""
    if decision.status in (Status.RUNNING, Status.COMPLETED):
        return None
    failure: Failure | None = None
    marks = [event for event in decision.events if isinstance(event, history.Parked | history.Resumed)]
    if isinstance(last, history.Failed):
        failure = last.failure
    elif isinstance(last, history.Cancelled | history.Terminated):
        failure = Failure(type="", message=last.reason, kind=decision.status.value, retryable=False)
    elif marks:  # what came in the same batch is recorded behind it
        mark = marks[-1]
        failure = mark.failure if isinstance(mark, history.Parked) else hot.machine.waits_for()
    elif decision.letters:
        failure = msgspec.structs.replace(decision.letters[-1].failure, step=decision.letters[-1].step)
    return hot.row.failure if failure is None else msgspec.Raw(_json(failure))
