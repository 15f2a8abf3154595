"""The database in which effects are counted. It is a file, apart from all the servers that are made to fail."""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import edow

LEDGER = "EDOW_FAILURES_LEDGER"

SCHEMA = "CREATE TABLE effects (key TEXT PRIMARY KEY, times INTEGER NOT NULL) WITHOUT ROWID"
ADD = "INSERT INTO effects VALUES (?, 1) ON CONFLICT (key) DO UPDATE SET times = times + 1"


def create(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute(SCHEMA)
        database.commit()


def add_once(key: str) -> None:
    """For the task that calls. A key belongs to one step of one execution, so that more than one is one too many."""
    with closing(sqlite3.connect(os.environ[LEDGER], timeout=30)) as database:
        database.execute("PRAGMA synchronous = OFF")  # processes die here, the machine does not
        with edow.once(database) as first:
            if first:
                database.execute(ADD, (key,))


def read(path: Path) -> Counter[str]:
    with closing(sqlite3.connect(path, timeout=30)) as database:
        return Counter(dict(database.execute("SELECT key, times FROM effects")))
