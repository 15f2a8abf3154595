"""What goes into the engine and what comes out: plain values, nothing done yet."""

from __future__ import annotations

import msgspec

from edow.model.attempted import Attempted
from edow.model.execution import Status
from edow.model.failure import Failure
from edow.model.history import AnyEvent, ChildStarted, SignalSent
from edow.model.inbox import AnyCommand
from edow.model.policy import StepPolicy
from edow.model.wire import ResultEvent


class Tick(msgspec.Struct, frozen=True):
    """Nothing reached the execution but time: fire what is due."""


EngineInput = ResultEvent | AnyCommand | Tick


class Dispatch(msgspec.Struct, frozen=True):
    """Publish this attempt of a task."""

    step: str
    task: str
    attempt: int
    args: msgspec.Raw
    key: str | None
    policy: StepPolicy
    scheduled_at: int  # the step, not the attempt, or its redrive: schedule-to-close counts from here
    heartbeat: bytes | None = None  # JSON: what an earlier attempt last reported
    dispatched_at: int = 0  # when the attempt was published


class Letter(msgspec.Struct, frozen=True):
    """The step's attempts have ended; `parked` tells whether the step waits for somebody to act."""

    step: str
    task: str
    args: msgspec.Raw
    failure: Failure
    attempts: int
    parked: bool


class LetterClosed(msgspec.Struct, frozen=True):
    """The step's dead letter has been acted on."""

    step: str
    discarded: bool
    reason: str = ""


class Decision(msgspec.Struct):
    """Everything one call of `Machine.apply` decided. `events` go to history in this order; the rest is derived from
    them.
    """

    events: list[AnyEvent] = []
    dispatches: list[Dispatch] = []
    cancels: list[str] = []  # steps whose running task should be told to stop
    children: list[ChildStarted] = []
    child_cancels: list[str] = []  # executions of children to cancel (their step was cancelled)
    signals: list[SignalSent] = []
    letters: list[Letter] = []
    letters_closed: list[LetterClosed] = []
    heartbeats: dict[str, bytes | None] = {}  # step -> details (None: forget)
    notices: list[str] = []  # for a person: history at 50 % of its limit, a workflow that computed too long
    status: Status = Status.RUNNING
    wake_at: int | None = None  # when to look again though nothing arrives; None: only an input can move it
    attributes_changed: bool = False
    progress_changed: bool = False
    child_terminates: list[str] = []  # likewise, of children that were started with on_close="terminate"
    duplicates: int = 0  # inputs that had been answered before and were dropped
    attempts: list[Attempted] = []  # that have ended, for whoever measures
