"""Records: written one by one, each checked against the version that its writer has seen; and letters with them."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from edow.errors import RecordChanged
from edow.sqlite import Packed
from edow.store.contract import LETTER, LetterState, Put, Record

Sql = Mapping[str, str]


class Scalars(NamedTuple):
    kind: str
    key: str
    version: int
    at: int
    expires_at: int | None


def packed_records(source: str) -> Packed[Scalars]:
    return Packed(Scalars, ", ".join(Scalars._fields), ("body",), source)


def record(row: Scalars, blobs: Sequence[bytes | None]) -> Record:
    return Record(row.kind, row.key, blobs[0] or b"", row.version, row.at, row.expires_at)


def write(connection: sqlite3.Connection, sql: Sql, puts: Sequence[Put], now: int) -> None:
    """Raises RecordChanged."""
    for put in puts:
        found = connection.execute(sql["record_version"], (put.kind, put.key)).fetchone()
        version = found[0] if found else 0
        if put.if_version is not None and put.if_version != version:
            raise RecordChanged(put.kind, put.key)
        if put.body is None:
            connection.execute(sql["record_delete"], (put.kind, put.key))
        else:
            values = {"version": max(version + 1, now), "at": now, "expires_at": put.expires_at, "body": put.body}
            connection.execute(sql["record_set"], {"kind": put.kind, "key": put.key, **values})


def settle(connection: sqlite3.Connection, sql: Sql, letters: Sequence[LetterState]) -> None:
    """Raises RecordChanged."""
    for each in letters:
        if connection.execute(sql["letters_settle"], (each.state, each.reason, each.id)).rowcount == 0:
            raise RecordChanged(LETTER, each.id)
