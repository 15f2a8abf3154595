"""What the end of an execution means to whoever waits for it: a value, or one of the `WorkflowFailed` errors.

Reads rows and history events, and nothing else.
"""

from __future__ import annotations

import msgspec

from edow.errors import Failed, WorkflowCancelled, WorkflowFailed, WorkflowTerminated
from edow.model import history
from edow.model.execution import Execution, Standing, Status
from edow.model.failure import PAUSED, Failure

_decode_failure = msgspec.json.Decoder(Failure).decode

NULL = msgspec.Raw(b"null")


class Continued(msgspec.Struct, frozen=True):
    """Not an outcome yet: the run went on as the next one."""


Outcome = msgspec.Raw | Failed | Continued


def failure_of(row: Execution) -> Failure | None:
    """Why it failed, why it is parked, or what the attempt failed with whose next one waits."""
    return None if row.failure is None else _decode_failure(row.failure)


def is_paused(row: Execution) -> bool:
    """Whether somebody has paused it, rather than that it is parked."""
    failure = failure_of(row) if row.status is Status.PARKED else None
    return failure is not None and failure.type == PAUSED


def is_retrying(row: Execution) -> bool:
    """Whether an attempt has failed, and the next one waits for its time."""
    return row.status is Status.RUNNING and row.failure is not None


def standing_of(row: Execution) -> Standing:
    """What it is listed by and shown as: the narrowest there is."""
    if is_retrying(row):
        return Standing.RETRYING
    return Standing.PAUSED if is_paused(row) else Standing(row.status)


def outcome_of_row(row: Execution) -> msgspec.Raw | Failed:
    """Of an execution that has ended."""
    if row.status is Status.COMPLETED:
        return NULL if row.result is None else row.result
    failure = failure_of(row)
    if row.status is Status.CANCELLED:
        return _stopped(WorkflowCancelled, row.id, "was cancelled", failure.message if failure else "")
    if row.status is Status.TERMINATED:
        return _stopped(WorkflowTerminated, row.id, "was terminated", failure.message if failure else "")
    return _failed(row.id, failure or Failure(type="", message="no reason was recorded"))


def outcome_of_run(execution: str, run: int, segments: list[bytes]) -> Outcome:
    """Of a run that a later one has followed: continued as new, ended and started again, or replaced before its end."""
    last = history.decoder.decode(segments[-1])[-1] if segments else None
    match last:
        case history.ContinuedAsNew():
            return Continued()
        case history.Completed(result=result):
            return result
        case history.Failed(failure=failure):
            return _failed(execution, failure)
        case history.Cancelled(reason=reason):
            return _stopped(WorkflowCancelled, execution, "was cancelled", reason)
        case _:
            return WorkflowTerminated(f"execution {execution!r} run {run} was replaced by run {run + 1}")


def _stopped(kind: type[WorkflowFailed], execution: str, what: str, reason: str) -> WorkflowFailed:
    return kind(f"execution {execution!r} {what}" + (f": {reason}" if reason else ""))


def _failed(execution: str, failure: Failure) -> WorkflowFailed:
    step = f" at step {failure.step!r}" if failure.step else ""
    return WorkflowFailed(
        f"execution {execution!r} failed{step}: {failure.type.rpartition('.')[2]}: {failure.message}",
        type=failure.type,
        stack=failure.stack,
        step=failure.step,
    )
