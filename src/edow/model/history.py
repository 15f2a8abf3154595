"""The history of an execution: what happened, in the order in which it happened.

An *input* event is something that reached the execution; the events after it, up to the next input, are what the
workflow did about it. Replaying the inputs in this order gives the same doings again: that is the whole of recovery.
A step's key (`step`) is unique within a run.
"""

from __future__ import annotations

from typing import Any

import msgspec

from edow.model.execution import Parent
from edow.model.failure import Failure
from edow.model.raw import OptionalRaw


class Event(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", kw_only=True):
    """`at`: when it was decided, in microseconds."""

    at: int


# ── inputs ────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Started(Event, frozen=True, tag="started"):
    workflow: str
    input: msgspec.Raw
    parent: Parent | None = None
    notify: str = ""  # an endpoint, by name


class AttemptEnded(Event, frozen=True, kw_only=True):
    """What a worker tells of an attempt, whatever came of it; nothing, if no worker has begun it."""

    step: str
    attempt: int
    worker: str = ""
    started_at: int = 0  # by the worker's clock
    duration: int = 0  # microseconds that the attempt ran


class TaskCompleted(AttemptEnded, frozen=True, kw_only=True, tag="task_completed"):
    result: msgspec.Raw


class AttemptFailed(AttemptEnded, frozen=True, kw_only=True, tag="attempt_failed"):
    """An attempt failed and another follows at `retry_at`."""

    failure: Failure
    retry_at: int


class TaskStarted(Event, frozen=True, tag="task_started"):
    """A worker has begun the attempt; recorded for steps with a schedule-to-start or heartbeat timeout."""

    step: str
    attempt: int
    worker: str = ""


class TaskRetried(Event, frozen=True, tag="task_retried"):
    """The retry's time has come: `attempt` was published."""

    step: str
    attempt: int


class TaskFailed(AttemptEnded, frozen=True, kw_only=True, tag="task_failed"):
    """The step's failure is delivered to the workflow."""

    failure: Failure


class TaskParked(AttemptEnded, frozen=True, kw_only=True, tag="task_parked"):
    """Attempts have ended; the step waits for its dead letter to be redriven or discarded."""

    failure: Failure


class TaskRedriven(Event, frozen=True, tag="task_redriven"):
    """A dead letter was redriven; attempts start again. `args` replaces the arguments when given."""

    step: str
    args: OptionalRaw = None


class TimerFired(Event, frozen=True, tag="timer_fired"):
    step: str


class SignalReceived(Event, frozen=True, tag="signal_received"):
    name: str
    payload: msgspec.Raw


class ChildCompleted(Event, frozen=True, tag="child_completed"):
    step: str
    result: msgspec.Raw


class ChildFailed(Event, frozen=True, tag="child_failed"):
    step: str
    failure: Failure


class CancelRequested(Event, frozen=True, tag="cancel_requested"):
    reason: str = ""


class Parked(Event, frozen=True, tag="parked"):
    """The whole execution waits for a person (code that disagrees with history, a hard limit, somebody paused it)."""

    failure: Failure


class Resumed(Event, frozen=True, tag="resumed"):
    pass


# ── what the workflow did ─────────────────────────────────────────────────────────────────────────────────────────────


class TaskScheduled(Event, frozen=True, tag="task_scheduled"):
    step: str
    task: str
    args: msgspec.Raw  # parameters by name, as a JSON object
    key: str | None = None  # partition key: affinity and order


class StepCancelled(Event, frozen=True, tag="step_cancelled"):
    """The workflow no longer waits for this task or child."""

    step: str


class TimerStarted(Event, frozen=True, tag="timer_started"):
    step: str
    due: int


class ChildStarted(Event, frozen=True, tag="child_started"):
    step: str
    workflow: str
    execution: str
    input: msgspec.Raw
    on_close: str = "cancel"


class SignalSent(Event, frozen=True, tag="signal_sent"):
    step: str
    execution: str
    name: str
    payload: msgspec.Raw


class SideEffect(Event, frozen=True, tag="side_effect"):
    """`failure`: what the function has raised instead of returning a value."""

    step: str
    value: msgspec.Raw
    failure: Failure | None = None


class AttributesSet(Event, frozen=True, tag="attributes_set"):
    values: dict[str, Any]


class ProgressSet(Event, frozen=True, tag="progress_set"):
    value: msgspec.Raw


# ── ends ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Completed(Event, frozen=True, tag="completed"):
    result: msgspec.Raw


class Failed(Event, frozen=True, tag="failed"):
    failure: Failure


class Cancelled(Event, frozen=True, tag="cancelled"):
    reason: str = ""


class Terminated(Event, frozen=True, tag="terminated"):
    reason: str = ""


class ContinuedAsNew(Event, frozen=True, tag="continued_as_new"):
    input: msgspec.Raw


Input = (
    Started
    | TaskCompleted
    | AttemptFailed
    | TaskStarted
    | TaskRetried
    | TaskFailed
    | TaskParked
    | TaskRedriven
    | TimerFired
    | SignalReceived
    | ChildCompleted
    | ChildFailed
    | CancelRequested
    | Parked
    | Resumed
)
Doing = (
    TaskScheduled | StepCancelled | TimerStarted | ChildStarted | SignalSent | SideEffect | AttributesSet | ProgressSet
)
End = Completed | Failed | Cancelled | Terminated | ContinuedAsNew
AnyEvent = Input | Doing | End

encoder = msgspec.json.Encoder()
decoder: msgspec.json.Decoder[list[AnyEvent]] = msgspec.json.Decoder(list[AnyEvent])
"""Decodes one segment: the JSON array of events that one decision appended."""
