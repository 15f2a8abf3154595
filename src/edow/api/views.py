"""How executions look in JSON: times in RFC 3339, payloads as they were written."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from edow.client.outcome import failure_of, is_paused, is_retrying
from edow.model.execution import Execution, Parent
from edow.model.failure import Failure
from edow.model.history import AnyEvent

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SHORT = 500  # characters of a failure in a list
StatusName = Literal["running", "parked", "completed", "failed", "cancelled", "terminated"]
StandingName = Literal["running", "retrying", "parked", "paused", "completed", "failed", "cancelled", "terminated"]
"""What executions are searched by: a status, or a part of those in one."""


def moment(at: int) -> datetime:
    """Of microseconds since the epoch, exactly."""
    return EPOCH + timedelta(microseconds=at)


def optional_moment(at: int | None) -> datetime | None:
    return None if at is None else moment(at)


def microseconds_of(when: datetime) -> int:
    """A time without an offset is taken as UTC."""
    aware = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    return (aware - EPOCH) // timedelta(microseconds=1)


class Reason(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Why an operator does it. It is kept in the audit log, and in the history of an execution."""

    reason: str = ""


class ExecutionSummary(msgspec.Struct, kw_only=True):
    """One execution in a list, without its payloads. `paused`: it is parked because somebody has paused it; `retrying`:
    an attempt has failed, and the next one waits.
    """

    id: str
    workflow: str
    run: int
    status: StatusName
    paused: bool
    retrying: bool
    started_at: datetime
    ended_at: datetime | None
    correlation: str
    parent: str | None
    attributes: dict[str, object]
    failure: str | None  # why it failed, is parked, or is tried again


class ExecutionView(msgspec.Struct, kw_only=True):
    """One execution as it is now. `failure`: why it failed, is parked, or is tried again; `paused`: somebody has paused
    it; `retrying`: an attempt has failed, and the next one waits.
    """

    id: str
    workflow: str
    run: int
    status: StatusName
    paused: bool
    retrying: bool
    shard: int
    started_at: datetime
    ended_at: datetime | None
    wake_at: datetime | None
    correlation: str
    traceparent: str
    parent: Parent | None
    failure: Failure | None
    input: msgspec.Raw | UnsetType = UNSET
    result: msgspec.Raw | UnsetType = UNSET
    attributes: msgspec.Raw | UnsetType = UNSET
    progress: msgspec.Raw | UnsetType = UNSET


def execution_view(row: Execution) -> ExecutionView:
    return ExecutionView(
        id=row.id,
        workflow=row.workflow,
        run=row.run,
        status=row.status.value,
        paused=is_paused(row),
        retrying=is_retrying(row),
        shard=row.shard,
        started_at=moment(row.started_at),
        ended_at=optional_moment(row.ended_at),
        wake_at=optional_moment(row.wake_at),
        correlation=row.correlation,
        traceparent=row.trace,
        parent=row.parent,
        failure=failure_of(row),
        input=row.input,
        result=_raw(row.result),
        attributes=_raw(row.attributes),
        progress=_raw(row.progress),
    )


def execution_summary(row: Execution) -> ExecutionSummary:
    failure = failure_of(row)
    return ExecutionSummary(
        id=row.id,
        workflow=row.workflow,
        run=row.run,
        status=row.status.value,
        paused=is_paused(row),
        retrying=is_retrying(row),
        started_at=moment(row.started_at),
        ended_at=optional_moment(row.ended_at),
        correlation=row.correlation,
        parent=None if row.parent is None else row.parent.execution,
        attributes={} if row.attributes is None else msgspec.json.decode(row.attributes),
        failure=None if failure is None else f"{failure.type}: {failure.message}"[:SHORT],
    )


def _raw(value: msgspec.Raw | None) -> msgspec.Raw | UnsetType:
    return UNSET if value is None else value


class EventView(msgspec.Struct, kw_only=True):
    """`number`: its place in the history, from 0; `details` depend on the type."""

    number: int
    type: str
    at: datetime
    step: str | None
    details: dict[str, msgspec.Raw]


MOMENTS = ("due", "retry_at", "started_at")
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.json.encode


def event_views(events: Sequence[AnyEvent], first: int) -> list[EventView]:
    return [_event_view(event, number) for number, event in enumerate(events, first)]


def _event_view(event: AnyEvent, number: int) -> EventView:
    details = _fields.decode(_encode(event))
    kind = msgspec.json.decode(details.pop("type"), type=str)
    del details["at"]
    step = details.pop("step", None)
    for name in MOMENTS:
        if (raw := details.get(name)) is not None:
            details[name] = msgspec.Raw(_encode(moment(msgspec.json.decode(raw, type=int))))
    if (duration := details.pop("duration", None)) is not None:
        details["duration_seconds"] = msgspec.Raw(_encode(msgspec.json.decode(duration, type=int) / 1_000_000))
    return EventView(
        number=number,
        type=kind,
        at=moment(event.at),
        step=None if step is None else msgspec.json.decode(step, type=str),
        details=details,
    )
