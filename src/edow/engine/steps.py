"""One step's life: attempts, retries, timeouts, parking. State and arithmetic only.

Promises that what happens after a failure follows from the step, the failure and the time alone. Knows nothing of who
delivers results or who waits for them.
"""

from __future__ import annotations

import asyncio
import zlib
from enum import IntEnum

import msgspec

from edow.engine.decision import Dispatch, Letter
from edow.model.failure import Failure
from edow.model.policy import StepPolicy
from edow.workflow.failures import DECLINED

SECOND = 1_000_000
FIRST_LOOK = 60 * SECOND
LAST_LOOK = 600 * SECOND


class State(IntEnum):
    """Of a step that is open."""

    OUT = 0  # an attempt is published
    WAITING = 1  # for the time of the next attempt
    PARKED = 2  # for a person


class Step(msgspec.Struct, eq=False):
    """A task call that has no outcome yet."""

    key: str
    task: str
    policy: StepPolicy
    future: asyncio.Future[object]
    args: msgspec.Raw
    partition: str | None
    asked_at: int  # scheduled or redriven: schedule-to-close counts from here
    attempt: int = 1
    before: int = 0  # attempts made before the dead letter was redriven
    state: State = State.OUT
    started: int = 0  # the attempt that a worker has begun, as far as that is recorded
    dispatched_at: int = 0
    heard_at: int = 0  # when a worker last said that it is at it
    look_at: int = 0
    retry_at: int = 0
    heartbeat: bytes | None = None
    failure: Failure | None = None  # of its last attempt, while it waits

    def out(self, now: int) -> None:
        """An attempt is published."""
        self.state = State.OUT
        self.dispatched_at = now
        self.look_at = now + FIRST_LOOK

    def dispatch(self) -> Dispatch:
        return Dispatch(
            self.key,
            self.task,
            self.attempt,
            self.args,
            self.partition,
            self.policy,
            self.asked_at,
            self.heartbeat,
            self.dispatched_at,
        )

    def letter(self, failure: Failure, *, parked: bool) -> Letter:
        return Letter(self.key, self.task, self.args, failure, self.attempt, parked)

    @property
    def start_by(self) -> int | None:
        """When schedule-to-start of the attempt that is out ends."""
        limit = self.policy.timeouts.schedule_to_start
        return None if limit is None else self.dispatched_at + round(limit * SECOND)

    @property
    def close_by(self) -> int | None:
        """When schedule-to-close ends."""
        limit = self.policy.timeouts.schedule_to_close
        return None if limit is None else self.asked_at + round(limit * SECOND)

    def retry_time(self, failure: Failure, identity: str, now: int) -> int | None:
        """When to try again; None when the attempts have ended. `identity` is that of the step in the world."""
        retry = self.policy.retry
        if not failure.retryable or self.attempt - self.before >= retry.attempts:
            return None
        if is_answer(failure, self.policy) or failure.kind == "schedule_to_close":
            return None
        delay = min(retry.initial * retry.factor ** min(self.attempt - self.before - 1, 64), retry.maximum)
        if retry.jitter:
            delay *= 0.5 + zlib.crc32(f"{identity}/{self.attempt}".encode()) / (2 << 32)
        at = now + round(delay * SECOND)
        close_by = self.close_by
        return None if close_by is not None and at >= close_by else at

    def silent(self, now: int) -> bool:
        """An attempt is out, and nothing was heard of it for a while."""
        return self.state is State.OUT and max(self.dispatched_at, self.heard_at) + FIRST_LOOK <= now

    def waits_since(self, now: int) -> int | None:
        """When the attempt was published, or last heard of, that no worker is known to be at; None: there is none."""
        heard = self.heard_at >= self.dispatched_at and not self.silent(now)
        return None if self.state is not State.OUT or heard else max(self.dispatched_at, self.heard_at)

    def next_look(self, now: int) -> int:
        """When it has been out for 1, 2, 4, 8, 16 minutes, then every ten more; follows from what is recorded."""
        gap = FIRST_LOOK
        at = self.dispatched_at + gap
        while at <= now:
            at += gap
            gap = min(2 * gap, LAST_LOOK)
        self.look_at = at
        return at


def is_answer(failure: Failure, policy: StepPolicy) -> bool:
    """The task's own answer (`give_up_on`) rather than an accident: no retry, no dead letter."""
    return failure.kind == DECLINED or (failure.kind == "error" and failure.type in policy.retry.give_up_on)


def timed_out(kind: str, seconds: float | None) -> Failure:
    """For the two timeouts that the engine itself watches."""
    name = kind.replace("_", "-")
    return Failure(type="TimeoutError", message=f"{name} timeout of {seconds:g} s", kind=kind)
