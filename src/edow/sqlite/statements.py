"""Inserts of any number of rows in one step.

The sqlite3 module lets go of the GIL around every step and may wait milliseconds to have it back while another thread
computes. So what is inserted in bulk is ONE statement of many rows, never one statement a row.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

LARGEST = 1024  # rows in one statement
PARAMETERS = 32_000  # SQLite's own limit is 32,766


def placeholders(count: int) -> str:
    """`?,?,?`"""
    return ",".join("?" * count)


class Bulk:
    """A statement with `{rows}` where a table of `columns` columns (column1, column2, ...) is to be read from.

    Rows are given flat. Their number is rounded up to a power of two with rows of NULLs, so that few statement texts
    exist and SQLite's cache of prepared statements works; the statement must skip rows whose column1 is NULL.
    """

    def __init__(self, statement: str, columns: int) -> None:
        self._statement = statement
        self._columns = columns
        self._largest = min(LARGEST, 1 << (PARAMETERS // columns).bit_length() - 1)
        self._texts: dict[int, str] = {}

    def run(self, connection: sqlite3.Connection, values: Sequence[object]) -> int:
        """How many rows were written."""
        columns, largest = self._columns, self._largest
        if len(values) <= columns * largest:
            return self._step(connection, list(values)) if values else 0
        size = columns * largest
        return sum(self._step(connection, list(values[at : at + size])) for at in range(0, len(values), size))

    def _step(self, connection: sqlite3.Connection, values: list[object]) -> int:
        rows = 1 << (len(values) // self._columns - 1).bit_length()
        values.extend([None] * (rows * self._columns - len(values)))
        return connection.execute(self._text(rows), values).rowcount

    def _text(self, rows: int) -> str:
        text = self._texts.get(rows)
        if text is None:
            row = f"({placeholders(self._columns)})"
            text = self._texts[rows] = self._statement.replace("{rows}", f"(VALUES {','.join([row] * rows)})")
        return text
