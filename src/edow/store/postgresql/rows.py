"""Rows as columns: what goes into the functions is one array for each column, what comes out is records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import asyncpg
import msgspec

from edow.model.execution import Execution, Parent, Status
from edow.store.contract import DeadLetter, Update
from edow.store.postgresql.keys import key_of, printable

encode_json = msgspec.json.Encoder().encode
_decode_parent = msgspec.json.Decoder(Parent).decode

Columns = list[list[object]]


class _Error(msgspec.Struct):
    """What a dead letter's failure is searched by."""

    type: object = ""
    message: object = ""


def born(rows: Sequence[Execution], runs: Sequence[int]) -> Columns:
    """Workflow to attributes, as `start` and `replace` take them."""
    return [
        [row.workflow for row in rows],
        [row.shard for row in rows],
        [*runs],
        [row.status.value for row in rows],
        [row.started_at for row in rows],
        [row.wake_at for row in rows],
        [row.ended_at for row in rows],
        [row.events for row in rows],
        [row.correlation for row in rows],
        [row.trace for row in rows],
        [row.result for row in rows],
        [row.failure for row in rows],
        [encode_json(row.parent) if row.parent is not None else None for row in rows],
        [row.progress for row in rows],
        [_text(row.attributes) for row in rows],
    ]


def changed(updates: Sequence[Update]) -> Columns:
    """Ids to inputs, as `advance` takes them."""
    rows = [update.execution for update in updates]
    return [
        [key_of(row.id) for row in rows],
        [update.run for update in updates],
        [row.run for row in rows],
        [row.status.value for row in rows],
        [row.wake_at for row in rows],
        [row.ended_at for row in rows],
        [row.events for row in rows],
        [row.result for row in rows],
        [row.failure for row in rows],
        [row.progress for row in rows],
        [_text(row.attributes) for row in rows],
        [update.execution.input if update.execution.run != update.run else None for update in updates],
    ]


def _text(value: msgspec.Raw | None) -> str | None:
    return bytes(value).decode() if value is not None else None


def execution(row: asyncpg.Record) -> Execution:
    """A row of `whole_executions` as everybody knows it."""
    parent, attributes, given = row[15], row[17], row[18]
    return Execution(
        id=row[12] if row[12] is not None else row[7],
        workflow=row[8],
        shard=row[4],
        run=row[5],
        status=Status(row[9]),
        input=msgspec.Raw(given if given is not None else b"{}"),
        result=_raw(row[13]),
        failure=_raw(row[14]),
        correlation=row[10],
        trace=row[11],
        parent=_decode_parent(parent) if parent is not None else None,
        attributes=msgspec.Raw(attributes.encode()) if attributes is not None else None,
        progress=_raw(row[16]),
        started_at=row[1],
        ended_at=row[3],
        wake_at=row[2],
        events=row[6],
    )


def _raw(value: bytes | None) -> msgspec.Raw | None:
    return msgspec.Raw(value) if value is not None else None


def newest(given: Iterable[DeadLetter]) -> list[DeadLetter]:
    """Of each id the last one."""
    return list({letter.id: letter for letter in given}.values())


def letters(newest: Sequence[DeadLetter]) -> Columns:
    """As `bury` takes them."""
    return [
        [key_of(each.id) for each in newest],
        [each.id for each in newest],
        [key_of(each.execution) for each in newest],
        [each.execution for each in newest],
        [each.run for each in newest],
        [each.step for each in newest],
        [each.task for each in newest],
        [each.shard for each in newest],
        [each.state for each in newest],
        [each.args for each in newest],
        [each.failure for each in newest],
        [_error(each.failure) for each in newest],
        [each.attempts for each in newest],
        [each.workflow for each in newest],
        [each.correlation for each in newest],
        [each.trace for each in newest],
        [each.at for each in newest],
        [printable(each.reason) for each in newest],
    ]


def _error(failure: msgspec.Raw) -> str:
    try:
        said = msgspec.json.decode(failure, type=_Error)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    return printable(f"{said.type}\n{said.message}")


def letter(row: asyncpg.Record) -> DeadLetter:
    """A row of `letters_list`."""
    return DeadLetter(
        id=row[0],
        execution=row[1],
        run=row[2],
        step=row[3],
        task=row[4],
        shard=row[5],
        state=row[6],
        args=msgspec.Raw(row[7]),
        failure=msgspec.Raw(row[8]),
        attempts=row[9],
        workflow=row[10],
        correlation=row[11],
        trace=row[12],
        at=row[13],
        reason=row[14],
        fingerprint=row[15],
        lot=row[16],
    )
