"""What travels over a transport: CloudEvents 1.0 in structured JSON mode.

A worker in any language needs nothing but these three events. What CloudEvents requires is always there; any other
attribute that has its default value is left out. Extension attributes follow the CloudEvents naming rule (lower-case
letters and digits). See https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md
"""

from __future__ import annotations

from typing import Literal

import msgspec

SPEC_VERSION = "1.0"
ORCHESTRATOR = "/edow/orchestrator"  # the source of its events
TASK_TYPE = "io.edow.task.v1"
RESULT_TYPE = "io.edow.result.v1"
CANCEL_TYPE = "io.edow.cancel.v1"
ROLL_CALL_TYPE = "io.edow.rollcall.v1"
PRESENCE_TYPE = "io.edow.presence.v1"
LONGEST_US = (1 << 31) - 1  # 35 minutes: the integers of CloudEvents have 32 bits


class TaskEvent(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Please run attempt `attempt` of task `subject`; `data` holds its parameters by name."""

    id: str  # unique per publication decision: execution/run/step/attempt
    source: str
    type: str
    specversion: str
    subject: str  # task name
    time: str  # RFC 3339
    workflow: str
    executionid: str
    run: int
    step: str
    attempt: int
    idempotencykey: str  # the same for every delivery and attempt of the step
    replytopic: str
    correlationid: str = ""
    traceparent: str = ""
    partitionkey: str | None = None
    startby: str | None = None  # RFC 3339: schedule-to-start ends here
    deadline: str | None = None  # RFC 3339: schedule-to-close ends here
    timeoutms: int | None = None  # start-to-close of this attempt
    heartbeatms: int | None = None
    heartbeatdetails: str | None = None  # JSON text: what the previous attempt last reported
    retry: str | None = None  # JSON text of a RetryPolicy, when the worker must retry in place to keep the key's order
    data: msgspec.Raw = msgspec.Raw(b"{}")


Outcome = Literal["completed", "failed", "cancelled", "started", "heartbeat"]
AT_IT: frozenset[Outcome] = frozenset({"started", "heartbeat"})  # not an end: a worker says that it runs the attempt


class ResultEvent(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What became of an attempt. `data`: the result (completed), a Failure (failed), the details (heartbeat)."""

    id: str
    source: str  # /edow/worker/NAME
    type: str
    specversion: str
    subject: str  # task name
    time: str
    executionid: str
    run: int
    step: str
    attempt: int
    outcome: Outcome
    idempotencykey: str = ""
    correlationid: str = ""
    traceparent: str = ""
    startedat: str = ""  # RFC 3339, the worker's clock
    durationus: int = 0  # at most LONGEST_US; an attempt that took longer took `time` - `startedat`
    final: bool = False  # failed: the worker retried in place and gives up, or a retry cannot help
    data: msgspec.Raw = msgspec.Raw(b"null")


class Busy(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An attempt that a worker runs now. `startedat`: RFC 3339, the worker's clock."""

    executionid: str
    run: int
    step: str
    task: str
    attempt: int
    kind: str = ""  # async | thread | process
    startedat: str = ""


class Presence(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a worker says of itself. `busy`: the attempts that it has run for longest, not always all of them."""

    startedat: str = ""
    topics: list[str] = []
    running: int = 0
    waiting: int = 0  # tasks held and not begun
    unpublished: int = 0  # results that the broker has not taken yet
    ended: int = 0  # attempts since it began
    stuck: int = 0  # threads and task loops left behind
    busy: list[Busy] = []
    leaving: bool = False  # said unasked, by a worker that has finished and stops


class PresenceEvent(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Broadcast, in answer to a roll call: a worker is there, and what it does. Who has ever answered says when it
    leaves: a worker that is silent is taken for lost.
    """

    id: str
    source: str  # /edow/worker/NAME
    type: str
    specversion: str
    time: str
    data: Presence


class CancelEvent(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Broadcast: whoever runs these steps should stop. Of type ROLL_CALL_TYPE: whoever is there should say so."""

    id: str
    source: str
    type: str
    specversion: str
    time: str
    data: list[str]  # idempotency keys (execution/run/step)


class _Envelope(msgspec.Struct):
    """What any CloudEvent says of itself."""

    specversion: str = ""
    type: str = ""
    id: str = ""


encode = msgspec.json.Encoder().encode
decode_task = msgspec.json.Decoder(TaskEvent).decode
decode_result = msgspec.json.Decoder(ResultEvent).decode
decode_cancel = msgspec.json.Decoder(CancelEvent).decode
decode_presence = msgspec.json.Decoder(PresenceEvent).decode
_decode_envelope = msgspec.json.Decoder(_Envelope).decode


def foreign(body: bytes, expected: str) -> str | None:
    """Why an event is not for this release, if it says so itself: another type or version, whatever else it holds."""
    try:
        event = _decode_envelope(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    if not event.type or (event.type, event.specversion) == (expected, SPEC_VERSION):
        return None
    return (
        f"CloudEvent {event.id!r} has type {event.type!r} and specversion {event.specversion!r}; "
        f"this release understands {expected!r} and {SPEC_VERSION!r}"
    )
