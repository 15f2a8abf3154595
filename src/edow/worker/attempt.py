"""A message in the worker's hands, and the attempts made for it. Plain state, shared by the I/O loop and the runners.

The I/O loop alone decides what becomes of an attempt (`stopped`, `settled`); a runner only notes what the function did.
Each field has one writing thread, so no locks are needed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Literal, Protocol

import msgspec

from edow.model.failure import Failure
from edow.model.policy import RetryPolicy
from edow.model.times import moment
from edow.model.wire import TaskEvent
from edow.telemetry.traceparent import attempt_span, is_sampled, within
from edow.transport.contract import Delivery, Subscriber
from edow.workflow.context import TaskContext
from edow.workflow.failures import failure_of
from edow.workflow.signature import Arguments
from edow.workflow.task import Task

AnyTask = Task[..., object]
Stopped = Literal["", "start_to_close", "schedule_to_close", "heartbeat", "cancelled", "shutdown"]


class Lane(Protocol):
    """Where a delivery came from, and so where it is acknowledged."""

    @property
    def subscriber(self) -> Subscriber: ...


class Told(Protocol):
    """What a result event tells of an attempt besides its outcome."""

    @property
    def event(self) -> TaskEvent: ...
    @property
    def number(self) -> int: ...
    @property
    def started_at(self) -> int: ...
    @property
    def duration(self) -> int: ...


class Held:
    """A task event being worked on, with every delivery of it that is still ours."""

    __slots__ = ("attempt", "backoff", "deadline", "deliveries", "event", "lane", "renewed_at", "retry", "task")

    def __init__(self, event: TaskEvent, delivery: Delivery, lane: Lane, task: AnyTask) -> None:
        self.event = event
        self.deliveries = [delivery]
        self.lane = lane
        self.task = task
        self.attempt: Attempt | None = None  # None while it waits for its next attempt
        self.backoff: asyncio.TimerHandle | None = None
        self.retry: RetryPolicy | None = None  # given: failed attempts are repeated here, to keep the key's order
        self.deadline: int | None = None  # microseconds: schedule-to-close ends
        self.renewed_at = 0.0  # loop time


class Attempt:
    """One call of the task's function."""

    __slots__ = (
        "__weakref__",
        "beat_at",
        "beat_queued",
        "begun_at",
        "context",
        "details",
        "duration",
        "event",
        "failure",
        "finished",
        "handle",
        "held",
        "home",
        "number",
        "on_beat",
        "published_at",
        "result",
        "settled",
        "started_at",
        "stopped",
        "task",
        "told_at",
    )

    def __init__(self, event: TaskEvent, task: AnyTask, number: int, held: Held | None = None) -> None:
        self.event = event
        self.task = task
        self.number = number
        self.held = held  # None in a child process, which holds no messages
        # written by the runner
        self.context: TaskContext | None = None
        self.home: object = None  # which of the runner's loops, threads or processes it was given to
        self.handle: object = None  # what that one needs to stop it
        self.begun_at = 0.0  # monotonic; written before `started_at`
        self.started_at = 0  # microseconds; 0: the function was not called yet
        self.duration = 0
        self.result: msgspec.Raw | None = None
        self.failure: Failure | None = None
        self.finished = False  # the function has returned; nothing more will be noted
        # written by the task, through its context
        self.details: bytes | None = None
        self.beat_at = 0.0
        # written by the I/O loop
        self.stopped: Stopped = ""  # told to end, and why
        self.settled = False  # what became of it is decided; whatever still comes is too late
        self.told_at = 0.0  # when the orchestrator last heard that it runs
        self.beat_queued = False
        self.published_at = 0.0
        self.on_beat: Callable[[Attempt], None] | None = None

    def is_set(self) -> bool:
        """The attempt is its context's `cancelled` flag: nobody waits for it any more."""
        return self.settled or self.stopped != ""

    def beat(self, details: bytes) -> None:
        """The task says that it is alive. From any thread; however often, one wake-up per published heartbeat."""
        self.details = details
        self.beat_at = time.monotonic()
        if self.on_beat is not None and not self.beat_queued:
            self.beat_queued = True
            self.on_beat(self)


def traceparent_of(attempt: Told) -> str:
    """Of what happens inside of it."""
    event = attempt.event
    if not is_sampled(event.traceparent):
        return event.traceparent
    return within(event.traceparent, attempt_span(event.idempotencykey, attempt.number))


def make_context(attempt: Attempt, worker: str, delivery_count: int = 1) -> TaskContext:
    """What the task can know about its attempt."""
    event = attempt.event
    return TaskContext(
        execution=event.executionid,
        run=event.run,
        step=event.step,
        task=event.subject,
        attempt=attempt.number,
        idempotency_key=event.idempotencykey,
        cancelled=attempt,
        send_heartbeat=attempt.beat,
        workflow=event.workflow,
        correlation=event.correlationid,
        traceparent=traceparent_of(attempt),
        worker=worker,
        deadline=None if event.deadline is None else moment(event.deadline),
        delivery_count=delivery_count,
        last_heartbeat=attempt.details,
    )


def begin(attempt: Attempt) -> None:
    """The function is called now."""
    attempt.begun_at = time.monotonic()
    attempt.started_at = time.time_ns() // 1_000


def end(attempt: Attempt) -> None:
    """It has returned, or failed."""
    attempt.duration = round((time.monotonic() - attempt.begun_at) * 1_000_000)


def bind(attempt: Attempt) -> Arguments | None:
    """The arguments of the call, or None after noting that they do not fit: no retry can help."""
    try:
        return attempt.task.signature.decode_args(attempt.event.data)
    except Exception as error:
        attempt.failure = failure_of(error)  # the caller's mistake, so it is not retryable
        return None


def conclude(attempt: Attempt, value: object) -> None:
    """Note what the function returned. A value without JSON form is a failure that no retry can help."""
    try:
        attempt.result = attempt.task.signature.encode_result(value)
    except Exception as error:
        attempt.failure = failure_of(error)
