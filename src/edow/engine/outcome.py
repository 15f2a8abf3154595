"""How a run ends: from what the workflow's own asyncio task came to, the event that says so.

Pure; a result without a JSON form is a failure that names it.
"""

from __future__ import annotations

from edow.engine.loop import WorkflowTask
from edow.errors import InvalidInput
from edow.model import history as h
from edow.model.execution import Status
from edow.workflow.definition import Workflow
from edow.workflow.failures import failure_of
from edow.workflow.runtime import ContinueAsNew, unwrapped

STATUS: dict[type, Status] = {
    h.Completed: Status.COMPLETED,
    h.Failed: Status.FAILED,
    h.Cancelled: Status.CANCELLED,
    h.Terminated: Status.TERMINATED,
    h.ContinuedAsNew: Status.RUNNING,  # of the execution: its next run begins
}


def of(root: WorkflowTask, definition: Workflow[..., object], now: int, reason: str) -> h.End:
    """`root` is done."""
    if root.cancelled():
        return h.Cancelled(at=now, reason=reason)
    error = root.exception()
    if error is None:
        return _completed(root.result(), definition, now)
    last = unwrapped(error)
    if isinstance(last, ContinueAsNew):
        return h.ContinuedAsNew(at=now, input=last.input)
    return h.Failed(at=now, failure=failure_of(error))


def _completed(result: object, definition: Workflow[..., object], now: int) -> h.End:
    try:
        return h.Completed(at=now, result=definition.signature.encode_result(result))
    except InvalidInput as error:
        return h.Failed(at=now, failure=failure_of(error))
