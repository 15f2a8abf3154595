"""From bytes to a task event, or to the reason why it will not be run. Pure: nothing is published or acknowledged here.

Whatever cannot be attributed to an execution is `Poison` and becomes a dead message; what can is answered.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from edow.model import wire
from edow.model.failure import Failure
from edow.model.policy import RetryPolicy
from edow.model.times import microseconds
from edow.model.wire import TaskEvent
from edow.transport.contract import Delivery
from edow.worker.attempt import AnyTask, Held, Lane

REMEMBERED_UNKNOWN = 100_000

_decode_retry = msgspec.json.Decoder(RetryPolicy).decode


class Poison(msgspec.Struct, frozen=True):
    """Bytes that are no task event."""

    delivery: Delivery
    reason: str


class Refused(msgspec.Struct, frozen=True):
    """A task event that is answered with a failure and not run."""

    event: TaskEvent
    lane: Lane
    deliveries: list[Delivery]
    failure: Failure
    started_at: int = 0
    duration: int = 0

    @property
    def number(self) -> int:
        return self.event.attempt

    @property
    def final(self) -> bool:
        """Also when this worker would have retried it itself: nobody else will."""
        return not self.failure.retryable or self.event.retry is not None


class Postponed(msgspec.Struct, frozen=True):
    """A task event that another worker may be able to run."""

    delivery: Delivery
    task: str


Taken = Held | Refused | Postponed | Poison


class Patience:
    """How long ago this worker first met an event whose task it does not know.

    Counting deliveries would not do: some brokers cannot, and a hand-back at a stop counts like one for this reason.
    When there are too many events to remember, those met last are not, and so get more time rather than less.
    """

    def __init__(self, limit: int) -> None:
        """`limit` in microseconds."""
        self._limit = limit
        self._met: dict[str, int] = {}  # event id -> when, oldest first

    def lasts(self, event: str, now: int) -> bool:
        """Has another worker still time to take it?"""
        met = self._met.get(event, now)
        if now - met >= self._limit:
            self._met.pop(event, None)
            return False
        self._forget_gone(now)
        if len(self._met) < REMEMBERED_UNKNOWN:
            self._met.setdefault(event, now)
        return True

    def _forget_gone(self, now: int) -> None:
        """Whoever has not come back for so long was taken by another worker."""
        while self._met and now - (first := next(iter(self._met.items())))[1] > 2 * self._limit:
            del self._met[first[0]]


class Intake:
    """Judges deliveries. `tasks` are those this worker knows; `patience` is for those that it does not."""

    def __init__(self, tasks: Mapping[str, AnyTask], max_deliveries: int, patience: Patience) -> None:
        self._tasks = tasks
        self._max_deliveries = max_deliveries
        self._patience = patience

    def judge(self, delivery: Delivery, lane: Lane, now: int) -> Taken:
        try:
            event = wire.decode_task(delivery.body)
            if event.type == wire.TASK_TYPE and event.specversion == wire.SPEC_VERSION:
                return self._accept(event, delivery, lane, now)
            reason = ""
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            reason = f"not a task event: {error}"
        return Poison(delivery, wire.foreign(delivery.body, wire.TASK_TYPE) or reason)

    def _accept(self, event: TaskEvent, delivery: Delivery, lane: Lane, now: int) -> Taken:
        task = self._tasks.get(event.subject)
        if task is None:
            if self._patience.lasts(event.id, now):
                return Postponed(delivery, event.subject)
            return _refused(event, delivery, lane, _unknown(event, sorted(self._tasks)))
        held = Held(event, delivery, lane, task)
        if event.deadline is not None:
            held.deadline = microseconds(event.deadline)
        if event.retry is not None and event.partitionkey is not None:
            held.retry = _decode_retry(event.retry)
        if delivery.count > self._max_deliveries:
            return _refused(event, delivery, lane, _crash_loop(event, delivery.count))
        if event.startby is not None and microseconds(event.startby) < now:
            return _refused(event, delivery, lane, _too_late(event, "schedule_to_start", event.startby))
        if held.deadline is not None and held.deadline < now:
            return _refused(event, delivery, lane, _too_late(event, "schedule_to_close", event.deadline or ""))
        return held


def _refused(event: TaskEvent, delivery: Delivery, lane: Lane, failure: Failure) -> Refused:
    return Refused(event, lane, [delivery], failure)


def _crash_loop(event: TaskEvent, count: int) -> Failure:
    return Failure(
        type="edow.errors.TaskFailed",
        kind="poison",
        retryable=False,
        message=f"task {event.subject!r}: delivered {count} times and never answered; it was not run again because it "
        "seems to end the process that runs it. Look into the workers' logs, then redrive or discard it",
    )


def _too_late(event: TaskEvent, kind: str, limit: str) -> Failure:
    return Failure(
        type="edow.errors.TaskTimedOut",
        kind=kind,
        message=f"task {event.subject!r}: attempt {event.attempt} reached a worker after its {kind} limit {limit}",
    )


def _unknown(event: TaskEvent, known: list[str]) -> Failure:
    names = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
    return Failure(
        type="edow.errors.NotFound",
        kind="poison",
        retryable=False,
        message=f"task {event.subject!r} is not known to the workers of its topic, and none that knows it came in "
        f"time. This one knows {names or 'none'}. Start a worker with the module that defines it, then redrive",
    )
