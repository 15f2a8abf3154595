"""What a worker says about an attempt: result events, ready to be published. Decides nothing and publishes nothing."""

from __future__ import annotations

import base64
from collections.abc import Callable

import msgspec

from edow.model import topics, wire
from edow.model.failure import Failure
from edow.model.message import Message
from edow.model.times import rfc3339
from edow.model.wire import Outcome, ResultEvent, TaskEvent
from edow.telemetry.traceparent import is_sampled
from edow.transport.contract import Delivery
from edow.worker.attempt import Attempt, Told, traceparent_of
from edow.worker.traces import AttemptTraces

NULL = msgspec.Raw(b"null")
CANCELLED = Failure(type="cancelled", message="nobody waits for it any more", kind="cancelled")

_encode_failure = msgspec.json.Encoder().encode


class DeadMessage(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Poison that no execution can be told about. `body` is base64 of the bytes as they came."""

    topic: str
    reason: str
    body: str
    key: str | None = None
    worker: str = ""
    at: int = 0


class Reporter:
    """Builds messages. A result larger than the broker takes becomes a failure that says so."""

    def __init__(
        self, worker: str, clock: Callable[[], int], max_message_bytes: int, traces: AttemptTraces | None = None
    ) -> None:
        self._worker = worker
        self._traces = traces
        self._source = f"/edow/worker/{worker}"
        self._clock = clock
        self._limit = max_message_bytes
        self._beats = 0

    def completed(self, attempt: Attempt) -> Message:
        assert attempt.result is not None
        message = self._of(attempt, "completed", attempt.result)
        if len(message.body) > self._limit:
            return self.failed(attempt, _too_large(attempt, len(message.body), self._limit), final=True)
        self._trace(attempt, None)
        return message

    def failed(self, attempt: Told, failure: Failure, *, final: bool) -> Message:
        self._trace(attempt, failure)
        message = self._of(attempt, "failed", msgspec.Raw(_encode_failure(failure)), final)
        if len(message.body) <= self._limit:
            return message
        short = msgspec.structs.replace(failure, message=failure.message[:2_000], stack="", args=None)
        return self._of(attempt, "failed", msgspec.Raw(_encode_failure(short)), final)

    def cancelled(self, attempt: Attempt) -> Message:
        self._trace(attempt, CANCELLED)
        return self._of(attempt, "cancelled", NULL)

    def started(self, attempt: Attempt) -> Message:
        return self._of(attempt, "started", NULL)

    def heartbeat(self, attempt: Attempt) -> Message:
        """Details too large to send are left out: being alive matters more."""
        details = attempt.details
        if details is None or len(details) > self._limit // 2:
            return self._of(attempt, "heartbeat", NULL)
        return self._of(attempt, "heartbeat", msgspec.Raw(details))

    def present(self, presence: wire.Presence) -> Message:
        """To whoever has called the roll."""
        self._beats += 1
        event = wire.PresenceEvent(
            id=f"presence/{self._worker}/{self._beats}",
            source=self._source,
            type=wire.PRESENCE_TYPE,
            specversion=wire.SPEC_VERSION,
            time=rfc3339(self._clock()),
            data=presence,
        )
        return Message(topics.ROLL, wire.encode(event))

    def dead(self, delivery: Delivery, reason: str) -> Message:
        body = DeadMessage(
            topic=delivery.topic,
            reason=reason,
            body=base64.b64encode(delivery.body).decode(),
            key=delivery.key,
            worker=self._worker,
            at=self._clock(),
        )
        return Message(topics.DEAD, wire.encode(body))

    def _trace(self, attempt: Told, failure: Failure | None) -> None:
        if self._traces is not None and is_sampled(attempt.event.traceparent):
            self._traces.ended(attempt, failure, self._clock())

    def _of(self, attempt: Told, outcome: Outcome, data: msgspec.Raw, final: bool = False) -> Message:
        event: TaskEvent = attempt.event
        suffix: str = outcome
        if outcome in wire.AT_IT:  # said again and again, and never to be taken for the same event
            self._beats += 1
            suffix = f"{outcome}/{self._beats}"
        result = ResultEvent(
            id=f"{event.idempotencykey}/{attempt.number}/{suffix}",
            source=self._source,
            type=wire.RESULT_TYPE,
            specversion=wire.SPEC_VERSION,
            subject=event.subject,
            time=rfc3339(self._clock()),
            executionid=event.executionid,
            run=event.run,
            step=event.step,
            attempt=attempt.number,
            outcome=outcome,
            idempotencykey=event.idempotencykey,
            correlationid=event.correlationid,
            traceparent=traceparent_of(attempt),
            startedat=rfc3339(attempt.started_at) if attempt.started_at else "",
            durationus=min(attempt.duration, wire.LONGEST_US),
            final=final,
            data=data,
        )
        return Message(event.replytopic, wire.encode(result))


def _too_large(attempt: Attempt, size: int, limit: int) -> Failure:
    return Failure(
        type="edow.errors.PayloadTooLarge",
        retryable=False,
        message=f"task {attempt.event.subject!r}: its result is {size:,} bytes as a message and the transport takes "
        f"{limit:,}; return less, or store it and return where it is",
    )
