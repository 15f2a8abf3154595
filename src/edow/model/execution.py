"""An execution's states, the legal transitions between them, and its row as every store keeps it."""

from __future__ import annotations

import zlib
from enum import StrEnum

import msgspec

from edow.model.raw import OptionalRaw


class Status(StrEnum):
    """Where an execution is in its life."""

    RUNNING = "running"  # accepted; being advanced, or waiting for a task, timer, signal or child
    PARKED = "parked"  # waits for a person: a dead letter to redrive or discard, code that fits its history, a resume
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TERMINATED = "terminated"


class Standing(StrEnum):
    """What executions are listed by: their status, or what is special about those in it."""

    RUNNING = "running"
    RETRYING = "retrying"  # running: an attempt has failed, and the next one waits for its time
    PARKED = "parked"
    PAUSED = "paused"  # parked: by somebody, and not because something is wrong
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TERMINATED = "terminated"


ENDED = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.TERMINATED})

TRANSITIONS: dict[Status, frozenset[Status]] = {
    Status.RUNNING: ENDED | {Status.PARKED},
    Status.PARKED: ENDED | {Status.RUNNING},
    Status.COMPLETED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
    Status.TERMINATED: frozenset(),
}


def shard_of(execution: str, shards: int) -> int:
    """The shard an execution id belongs to; stable across processes, machines and releases."""
    return zlib.crc32(execution.encode()) % shards


class Parent(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who started a child execution, and what becomes of the child when the parent ends."""

    execution: str
    run: int
    step: str
    on_close: str = "cancel"  # cancel | terminate | abandon


class Execution(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One row: what is known of an execution without reading its history."""

    id: str
    workflow: str
    shard: int
    run: int = 1  # grows with continue-as-new and with replace
    status: Status = Status.RUNNING
    input: msgspec.Raw = msgspec.Raw(b"{}")  # parameters of this run by name, as a JSON object
    result: OptionalRaw = None
    failure: OptionalRaw = None  # a Failure: why it failed, is parked, or is running but waits to try a step again
    correlation: str = ""
    trace: str = ""  # W3C traceparent of whoever started it
    parent: Parent | None = None
    attributes: OptionalRaw = None  # searchable, flat JSON object set by the workflow
    progress: OptionalRaw = None  # whatever the workflow last reported
    started_at: int = 0
    ended_at: int | None = None
    wake_at: int | None = None  # not later than the next moment at which the engine must look at it
    events: int = 0  # length of this run's history
    notify: str = ""  # endpoint that is told of the end, besides those that ask for it; only the history has it
