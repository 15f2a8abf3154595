"""What a worker adds to a trace: how long an attempt waited in its queue, and how long it ran."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edow.model.failure import Failure
from edow.model.times import microseconds
from edow.telemetry.spans import Span, Value
from edow.telemetry.traceparent import attempt_span, parse, send_span, span_id
from edow.worker.attempt import Told


class AttemptTraces:
    """`emit` gets the spans. Names and attributes follow OpenTelemetry's conventions for messaging."""

    def __init__(self, emit: Callable[[Sequence[Span]], None], system: str, worker: str, group: str) -> None:
        self._emit = emit
        self._common: dict[str, Value] = {
            "messaging.system": system,
            "messaging.client.id": worker,
            "messaging.consumer.group.name": group,
        }

    def ended(self, attempt: Told, failure: Failure | None, now: int) -> None:
        """Of an execution that is traced. An attempt that never began has only waited."""
        event, number = attempt.event, attempt.number
        context = parse(event.traceparent)
        if context is None:
            return
        parent = context._replace(span=send_span(event.idempotencykey, number))
        begun = attempt.started_at or now
        published = min(microseconds(event.time), begun)
        attributes: dict[str, Value] = {
            **self._common,
            "messaging.message.id": event.id,
            "messaging.message.conversation_id": event.correlationid,
            "edow.execution.id": event.executionid,
            "edow.step": event.step,
            "edow.task": event.subject,
            "edow.attempt": number,
        }
        queued = Span(
            name=f"receive {event.subject}",
            id=span_id("receive", event.idempotencykey, number),
            parent=parent,
            start=published,
            end=begun,
            kind="consumer",
            attributes={**attributes, "messaging.operation.name": "receive", "messaging.operation.type": "receive"},
        )
        ran = Span(
            name=f"process {event.subject}",
            id=attempt_span(event.idempotencykey, number),
            parent=parent,
            start=begun,
            end=begun + attempt.duration,
            kind="consumer",
            attributes={**attributes, "messaging.operation.name": "process", "messaging.operation.type": "process"},
            links=(attempt_span(event.idempotencykey, number - 1),) if number > 1 else (),
            error="" if failure is None else f"{failure.type}: {failure.message}"[:500],
        )
        self._emit([queued, ran])
