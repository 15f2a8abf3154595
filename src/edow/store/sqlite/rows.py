"""Executions as rows: what goes into the statements and what comes out of the packed reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from edow.model.execution import Execution, Parent, Status
from edow.sqlite import Packed
from edow.store.contract import DeadLetter, Update

encode_json = msgspec.json.Encoder().encode
_decode_parent = msgspec.json.Decoder(Parent).decode


def to_json(value: object) -> str:
    """For `json_each`: SQLite wants text."""
    return encode_json(value).decode()


def inserted(row: Execution, run: int, number: int) -> list[object]:
    """Values of `executions_insert`; number 0 lets SQLite choose."""
    return [
        number,
        row.id,
        row.workflow,
        row.shard,
        run,
        row.status.value,
        row.started_at,
        row.wake_at,
        row.ended_at,
        row.events,
        row.correlation,
        row.trace,
        row.result,
        row.failure,
        encode_json(row.parent) if row.parent is not None else None,
        row.progress,
        _text(row.attributes),
    ]


def advances(row: Execution) -> bool:
    """Whether `executions_advance` says all there is to say."""
    return row.status is Status.RUNNING and row.result is None and row.failure is None and row.ended_at is None


def advanced(update: Update) -> list[object]:
    """Values of `executions_advance`."""
    row = update.execution
    return [row.id, update.run, row.run, row.wake_at, row.events, row.progress, _text(row.attributes)]


def turned(update: Update) -> list[object]:
    """Values of `executions_turn`."""
    row = update.execution
    return [*advanced(update), row.result, row.failure, row.status.value, row.ended_at]


def _text(value: msgspec.Raw | None) -> str | None:
    return bytes(value).decode() if value is not None else None


class Scalars(NamedTuple):
    """The columns of an execution that are no payloads, in the order of `SCALARS`."""

    number: int
    id: str
    workflow: str
    shard: int
    run: int
    status: Status
    started_at: int
    wake_at: int | None
    ended_at: int | None
    events: int
    correlation: str
    trace: str


SCALARS = "number, id, workflow, shard, run, status, started_at, wake_at, ended_at, events, correlation, trace"
BLOBS = ("result", "failure", "parent", "progress", "attributes", "input")


def packed_executions(source: str) -> Packed[Scalars]:
    """A packed read of executions with their inputs."""
    return Packed(Scalars, SCALARS, BLOBS, source)


def execution(scalars: Scalars, blobs: Sequence[bytes | None]) -> Execution:
    """The row as everybody knows it."""
    result, failure, parent, progress, attributes, given = blobs
    return Execution(
        id=scalars.id,
        workflow=scalars.workflow,
        shard=scalars.shard,
        run=scalars.run,
        status=scalars.status,
        input=msgspec.Raw(given if given is not None else b"{}"),
        result=_raw(result),
        failure=_raw(failure),
        correlation=scalars.correlation,
        trace=scalars.trace,
        parent=_decode_parent(parent) if parent is not None else None,
        attributes=_raw(attributes),
        progress=_raw(progress),
        started_at=scalars.started_at,
        ended_at=scalars.ended_at,
        wake_at=scalars.wake_at,
        events=scalars.events,
    )


def _raw(value: bytes | None) -> msgspec.Raw | None:
    return msgspec.Raw(value) if value is not None else None


class LetterScalars(NamedTuple):
    """The columns of a dead letter that are no payloads."""

    id: str
    execution: str
    run: int
    step: str
    task: str
    shard: int
    state: str
    attempts: int
    workflow: str
    correlation: str
    trace: str
    at: int
    reason: str
    fingerprint: str
    lot: str


LETTER_SCALARS = ", ".join(LetterScalars._fields)


def packed_letters(source: str) -> Packed[LetterScalars]:
    """A packed read of dead letters."""
    return Packed(LetterScalars, LETTER_SCALARS, ("args", "failure"), source)


def letter(scalars: LetterScalars, blobs: Sequence[bytes | None]) -> DeadLetter:
    """The dead letter as everybody knows it."""
    args, failure = (msgspec.Raw(blob if blob is not None else b"null") for blob in blobs)
    return DeadLetter(args=args, failure=failure, **scalars._asdict())


def letter_values(letter: DeadLetter) -> list[object]:
    """Values of `letters_insert`."""
    return [
        letter.id,
        letter.execution,
        letter.run,
        letter.step,
        letter.task,
        letter.shard,
        letter.state,
        letter.args,
        letter.failure,
        letter.attempts,
        letter.workflow,
        letter.correlation,
        letter.trace,
        letter.at,
        letter.reason,
        letter.fingerprint,
    ]
