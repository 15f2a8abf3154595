"""Durable workflows in plain Python, over any message broker and over none."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from edow.errors import (
    CallerError,
    Disagreement,
    EdowError,
    Failed,
    ForbiddenInWorkflow,
    InvalidInput,
    NotEncodable,
    NotFound,
    PayloadTooLarge,
    SignatureMismatch,
    TaskDiscarded,
    TaskFailed,
    TaskTimedOut,
    Unavailable,
    WorkflowCancelled,
    WorkflowFailed,
    WorkflowTerminated,
    WrongState,
)
from edow.workflow.context import TaskContext, context
from edow.workflow.definition import Workflow, workflow
from edow.workflow.functions import (
    attributes,
    continue_as_new,
    info,
    now,
    progress,
    random,
    side_effect,
    signal,
    sleep,
    uuid,
    wait_signal,
)
from edow.workflow.retry import Retry
from edow.workflow.runtime import Info
from edow.workflow.saga import Saga, saga
from edow.workflow.task import Task, task

if TYPE_CHECKING:
    from edow.client import Client, Handle
    from edow.client.outbox import start_in
    from edow.trigger.schedules import Schedule
    from edow.worker.ledger import once

__version__ = "0.1.0"

__all__ = [
    "CallerError",
    "Client",
    "Disagreement",
    "EdowError",
    "Failed",
    "ForbiddenInWorkflow",
    "Handle",
    "Info",
    "InvalidInput",
    "NotEncodable",
    "NotFound",
    "PayloadTooLarge",
    "Retry",
    "Saga",
    "Schedule",
    "SignatureMismatch",
    "Task",
    "TaskContext",
    "TaskDiscarded",
    "TaskFailed",
    "TaskTimedOut",
    "Unavailable",
    "Workflow",
    "WorkflowCancelled",
    "WorkflowFailed",
    "WorkflowTerminated",
    "WrongState",
    "attributes",
    "context",
    "continue_as_new",
    "info",
    "now",
    "once",
    "progress",
    "random",
    "saga",
    "side_effect",
    "signal",
    "sleep",
    "start_in",
    "task",
    "uuid",
    "wait_signal",
    "workflow",
]

LAZY: dict[str, str] = {
    "Client": "edow.client",
    "Handle": "edow.client",
    "Schedule": "edow.trigger.schedules",
    "once": "edow.worker.ledger",
    "start_in": "edow.client.outbox",
}
"""Public names whose modules are loaded at first use, so that `import edow` stays quick: name -> module."""


def __getattr__(name: str) -> object:
    if name not in LAZY:
        raise AttributeError(f"module 'edow' has no attribute {name!r}")
    return getattr(importlib.import_module(LAZY[name]), name)
