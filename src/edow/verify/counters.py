"""The database that the tasks count in. Each addition is applied through `edow.once`."""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import edow

DATABASE = "EDOW_VERIFY_DATABASE"

SCHEMA = """
CREATE TABLE counters (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID
"""
ADD = "INSERT INTO counters VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = value + excluded.value"


def create(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute(SCHEMA)
        database.commit()


def add_once(key: str, amount: int) -> None:
    """For the task that calls: however often it runs, the counter grows once."""
    with closing(sqlite3.connect(os.environ[DATABASE], timeout=30)) as database, edow.once(database) as first:
        if first:
            database.execute(ADD, (key, amount))


def read(path: Path) -> Counter[str]:
    with closing(sqlite3.connect(path, timeout=30)) as database:
        return Counter(dict(database.execute("SELECT key, value FROM counters")))
