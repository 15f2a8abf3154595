"""The demo's own database, as an application would have one: the index, the payments, the stock, the shipments.

Promises that every effect writes its line into `audit` in the same transaction. That table has no unique key, so an
effect applied twice would show there, and one that was lost would be missing.
"""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import edow
from edow.errors import Unsupported

DATABASE = "EDOW_DEMO_DATABASE"  # where the database is, for the tasks: a deployment's setting, not a workflow's input

SCHEMA = """
CREATE TABLE audit (effect TEXT NOT NULL);

CREATE TABLE documents (path TEXT NOT NULL, tokens INTEGER NOT NULL, names TEXT NOT NULL);
CREATE TABLE imports (path TEXT NOT NULL, module TEXT NOT NULL);
CREATE VIRTUAL TABLE search USING fts5(path, names);

CREATE TABLE payments (order_id TEXT NOT NULL, cents INTEGER NOT NULL);
CREATE TABLE stock (item TEXT PRIMARY KEY, quantity INTEGER NOT NULL);
CREATE TABLE shipments (order_id TEXT NOT NULL, address TEXT NOT NULL);
"""


def create(path: Path, stock: dict[str, int]) -> None:
    """Make the database. Raises Unsupported where SQLite was built without full-text search."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        try:
            database.executescript(SCHEMA)
        except sqlite3.OperationalError as problem:
            raise Unsupported(f"this Python's SQLite cannot hold the demo's index: {problem}") from problem
        database.executemany("INSERT INTO stock VALUES (?, ?)", stock.items())
        database.commit()


def connect(path: str | Path | None = None) -> sqlite3.Connection:
    """`path` None: the one that the environment names, as in the tasks."""
    return sqlite3.connect(path or os.environ[DATABASE], timeout=30)


@contextmanager
def effect(name: str) -> Iterator[sqlite3.Connection | None]:
    """A transaction for the effect of the task that calls; None when it has been applied before."""
    with closing(connect()) as database, edow.once(database) as first:
        if first:
            database.execute("INSERT INTO audit VALUES (?)", (name,))
        yield database if first else None


class Effects:
    """What the driver reads."""

    def __init__(self, path: Path) -> None:
        self._database = connect(path)

    def close(self) -> None:
        self._database.close()

    def count(self, kind: str) -> int:
        """How many effects of a kind (the first word of their names) have been applied."""
        [(found,)] = self._database.execute("SELECT count(*) FROM audit WHERE effect GLOB ?", (f"{kind} *",))
        return int(found)

    def audit(self) -> Counter[str]:
        """How often each effect has been applied."""
        return Counter(name for (name,) in self._database.execute("SELECT effect FROM audit"))

    def since(self, row: int) -> tuple[list[str], int]:
        """The effects applied after that row, and the row to go on from."""
        found = self._database.execute(
            "SELECT rowid, effect FROM audit WHERE rowid > ? ORDER BY rowid", (row,)
        ).fetchall()
        return [name for _, name in found], found[-1][0] if found else row

    def takings(self) -> int:
        """Cents paid and not paid back."""
        [(found,)] = self._database.execute("SELECT coalesce(sum(cents), 0) FROM payments")
        return int(found)

    def stock(self) -> dict[str, int]:
        return dict(self._database.execute("SELECT item, quantity FROM stock"))
