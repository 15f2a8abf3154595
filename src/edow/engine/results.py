"""Inputs as the events that they become in history.

Pure; whatever a worker in another language sends, a `Failure` comes out of it.
"""

from __future__ import annotations

import msgspec

from edow.model import history as h
from edow.model import inbox
from edow.model.failure import Failure
from edow.model.times import microseconds_or
from edow.model.wire import LONGEST_US, ResultEvent

_decode_failure = msgspec.json.Decoder(Failure).decode

UNKNOWN = Failure(type="edow.NoOutcome", message="it ended without result and without failure")


def worker_of(given: ResultEvent) -> str:
    return given.source.removeprefix("/edow/worker/")


def failure_in(given: ResultEvent) -> Failure:
    if given.outcome == "cancelled":
        return Failure(type="CancelledError", message="the worker stopped the attempt", kind="cancelled")
    try:
        return _decode_failure(given.data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # ValueError: bytes that are no UTF-8
        text = bytes(given.data)[:200].decode(errors="replace")
        return Failure(
            type="edow.BadResult",
            message=f"the worker reported a failure that cannot be read ({error}): {text}",
            kind="poison",
        )


def completed(given: ResultEvent, now: int) -> h.TaskCompleted:
    started_at, duration = times_of(given)
    return h.TaskCompleted(
        at=now,
        step=given.step,
        attempt=given.attempt,
        result=given.data,
        worker=worker_of(given),
        started_at=started_at,
        duration=duration,
    )


def times_of(given: ResultEvent | None) -> tuple[int, int]:
    """When the attempt was begun, by the worker's clock, and for how long it ran; zeros if no worker says so."""
    return (0, 0) if given is None else (microseconds_or(given.startedat, 0), _duration(given))


def _duration(given: ResultEvent) -> int:
    """Microseconds."""
    if given.durationus < LONGEST_US:
        return given.durationus
    return microseconds_or(given.time, 0) - microseconds_or(given.startedat, 0)


def child_ended(given: inbox.ChildEnded, now: int) -> h.ChildCompleted | h.ChildFailed:
    if given.result is not None:
        return h.ChildCompleted(at=now, step=given.step, result=given.result)
    return h.ChildFailed(at=now, step=given.step, failure=given.failure or UNKNOWN)


def discarded(step: str, attempt: int, reason: str, now: int) -> h.TaskFailed:
    failure = Failure(
        type="edow.errors.TaskDiscarded",
        message=reason or "its dead letter was discarded",
        kind="discarded",
        retryable=False,
        step=step,
    )
    return h.TaskFailed(at=now, step=step, attempt=attempt, failure=failure)
