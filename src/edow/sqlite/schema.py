"""Schemas and their migrations: numbered files, applied in order, never backwards.

Store and transport may share a file or have one each, so each is a *component* with a version of its own. A file of
another application is refused, and so is one that a newer release has migrated.
"""

from __future__ import annotations

import sqlite3

from edow.errors import StoreUnusable
from edow.sql import load_migrations

APPLICATION_ID = 0x45444F57  # "EDOW" in the file's header
OLDEST_SQLITE = (3, 33, 0)  # UPDATE ... FROM


class Schema:
    """One component's migrations: the files `migrations/NNNN_*.sql` of `package`."""

    def __init__(self, component: str, package: str) -> None:
        self.component = component
        self.migrations = load_migrations(package)

    @property
    def version(self) -> int:
        """What this release brings a database to."""
        return max(self.migrations)

    def apply(self, connection: sqlite3.Connection, path: str) -> None:
        """Bring the component up to `version`, inside the open transaction."""
        connection.execute("CREATE TABLE IF NOT EXISTS edow_schema (component TEXT PRIMARY KEY, version INTEGER)")
        row = connection.execute("SELECT version FROM edow_schema WHERE component = ?", (self.component,)).fetchone()
        current = row[0] if row else 0
        if current > self.version:
            raise StoreUnusable(
                f"{path} has {self.component} schema {current}, this release knows {self.version} and older: "
                "use the newer release of edow, or another file"
            )
        for number in sorted(self.migrations):
            if number > current:
                run_script(connection, self.migrations[number])
        connection.execute("INSERT OR REPLACE INTO edow_schema VALUES (?, ?)", (self.component, self.version))


def check_identity(connection: sqlite3.Connection, path: str) -> bool:
    """Whether the file is ours already; False: it is empty. Raises StoreUnusable otherwise. Reads only."""
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise StoreUnusable(
            f"SQLite {sqlite3.sqlite_version} is too old for {path}: use a Python with SQLite 3.33 or later"
        )
    (identity,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if identity != APPLICATION_ID and (identity or tables):
        raise StoreUnusable(f"{path} is the database of another application: name another file")
    return bool(identity == APPLICATION_ID)


def run_script(connection: sqlite3.Connection, script: str) -> None:
    """Every statement of the script; unlike `executescript` it does not end the open transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""
