"""Many rows read in one step: their scalars as one JSON text, their byte strings as one blob.

Fetching rows one by one costs a step each, and a step may cost a wait for the GIL. Bytes of any kind survive.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

import msgspec

Row = TypeVar("Row")

Parameters = Sequence[object] | Mapping[str, object]


class Packed(Generic[Row]):
    """`source` is a SELECT that yields `scalars` and `blobs`; `row` is the tuple type of the scalars.

    Each result is (scalars as a `row`, blobs as a list of bytes or None). The source's order is kept. The text of
    `sql` is public for the sake of EXPLAIN.
    """

    def __init__(self, row: type[Row], scalars: str, blobs: Sequence[str], source: str) -> None:
        lengths = "".join(f", length(CAST({blob} AS BLOB))" for blob in blobs)
        joined = " || ".join(f"coalesce({blob}, x'')" for blob in blobs)
        body = f"CAST(group_concat({joined}, '') AS BLOB)" if blobs else "NULL"
        self.sql = (
            f"SELECT json_group_array(json_array(json_array({scalars}), json_array({lengths[2:]}))), {body}"
            f" FROM ({source})"
        )
        self._plain = f"SELECT {', '.join([scalars, *(f'CAST({blob} AS BLOB)' for blob in blobs)])} FROM ({source})"
        self._row = row
        self._blobs = len(blobs)
        self._decode = msgspec.json.Decoder(list[tuple[row, list[int | None]]]).decode  # type: ignore[valid-type]

    def rows(self, connection: sqlite3.Connection, parameters: Parameters = ()) -> list[tuple[Row, list[bytes | None]]]:
        """All rows at once. Raises sqlite3.DataError when they are too many bytes for one value."""
        text, blob = connection.execute(self.sql, parameters).fetchone()
        decoded = self._decode(text)
        return _cut(decoded, blob or b"")

    def rows_of_any_size(
        self, connection: sqlite3.Connection, parameters: Parameters = ()
    ) -> list[tuple[Row, list[bytes | None]]]:
        """The same, row by row when they are too many bytes together."""
        try:
            return self.rows(connection, parameters)
        except sqlite3.DataError:
            return [self._single(values) for values in connection.execute(self._plain, parameters)]

    def _single(self, values: Sequence[object]) -> tuple[Row, list[bytes | None]]:
        at = len(values) - self._blobs
        return msgspec.convert(values[:at], self._row), msgspec.convert(values[at:], list[bytes | None])

    def scalars(self, connection: sqlite3.Connection, parameters: Parameters = ()) -> list[Row]:
        """The same, of a query without blobs."""
        return [row for row, _ in self._decode(connection.execute(self.sql, parameters).fetchone()[0])]


def _cut(rows: list[tuple[Row, list[int | None]]], blob: bytes) -> list[tuple[Row, list[bytes | None]]]:
    at = 0
    result: list[tuple[Row, list[bytes | None]]] = []
    for row, lengths in rows:
        pieces: list[bytes | None] = []
        for length in lengths:
            if length is None:
                pieces.append(None)
            else:
                pieces.append(blob[at : at + length])
                at += length
        result.append((row, pieces))
    return result
