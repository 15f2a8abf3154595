"""An earlier run of an execution as a row, for `edow show --run`. The store keeps the current run's row alone.

Everything that people see of a run follows from its history; nothing else is read.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from edow.model import history as h
from edow.model.execution import Execution, Status
from edow.model.failure import Failure

_raw = msgspec.json.Encoder().encode


def of_run(current: Execution, run: int, events: Sequence[h.AnyEvent]) -> Execution:
    """What the row of this execution was when the run ended. One that was replaced before its end was terminated."""
    row = Execution(
        id=current.id,
        workflow=current.workflow,
        shard=current.shard,
        run=run,
        correlation=current.correlation,
        trace=current.trace,
        events=len(events),
    )
    for event in events:
        _take(row, event)
    return row if row.ended_at is not None else _replaced(row, events)


def _take(row: Execution, event: h.AnyEvent) -> None:
    match event:
        case h.Started():
            row.workflow, row.input, row.parent = event.workflow, event.input, event.parent
            row.started_at = event.at
        case h.AttributesSet():
            before = {} if row.attributes is None else msgspec.json.decode(row.attributes)
            after = {name: value for name, value in (before | event.values).items() if value is not None}
            row.attributes = msgspec.Raw(_raw(after))
        case h.ProgressSet():
            row.progress = event.value
        case h.Completed():
            _end(row, event.at, Status.COMPLETED)
            row.result = event.result
        case h.ContinuedAsNew():
            _end(row, event.at, Status.COMPLETED)
        case h.Failed():
            _end(row, event.at, Status.FAILED, event.failure)
        case h.Cancelled():
            _end(row, event.at, Status.CANCELLED, Failure(type="", message=event.reason, kind="cancelled"))
        case h.Terminated():
            _end(row, event.at, Status.TERMINATED, Failure(type="", message=event.reason, kind="terminated"))


def _end(row: Execution, at: int, status: Status, failure: Failure | None = None) -> None:
    row.ended_at, row.status = at, status
    row.failure = None if failure is None else msgspec.Raw(_raw(failure))


def _replaced(row: Execution, events: Sequence[h.AnyEvent]) -> Execution:
    reason = f"replaced by run {row.run + 1}"
    _end(row, events[-1].at, Status.TERMINATED, Failure(type="", message=reason, kind="terminated"))
    return row
