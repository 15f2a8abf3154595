"""How executions look in JSON: times in RFC 3339, payloads as they were written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from edow.model.execution import Execution, Parent
from edow.model.failure import Failure

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
StatusName = Literal["running", "parked", "completed", "failed", "cancelled", "terminated"]


def moment(at: int) -> datetime:
    """Of microseconds since the epoch, exactly."""
    return EPOCH + timedelta(microseconds=at)


def optional_moment(at: int | None) -> datetime | None:
    return None if at is None else moment(at)


def microseconds_of(when: datetime) -> int:
    """A time without an offset is taken as UTC."""
    aware = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    return (aware - EPOCH) // timedelta(microseconds=1)


class ExecutionView(msgspec.Struct, kw_only=True, omit_defaults=False):
    """One execution as it is now. `failure`: why it failed, or why it is parked."""

    id: str
    workflow: str
    run: int
    status: StatusName
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
        shard=row.shard,
        started_at=moment(row.started_at),
        ended_at=optional_moment(row.ended_at),
        wake_at=optional_moment(row.wake_at),
        correlation=row.correlation,
        traceparent=row.trace,
        parent=row.parent,
        failure=None if row.failure is None else msgspec.json.decode(row.failure, type=Failure),
        input=row.input,
        result=_raw(row.result),
        attributes=_raw(row.attributes),
        progress=_raw(row.progress),
    )


def _raw(value: msgspec.Raw | None) -> msgspec.Raw | UnsetType:
    return UNSET if value is None else value
