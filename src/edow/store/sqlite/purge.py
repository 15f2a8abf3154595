"""Retention: ended executions leave, with everything that belonged to them."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping


def purge(connection: sqlite3.Connection, sql: Mapping[str, str], which: tuple[int, int, int]) -> int:
    """How many were deleted of those that ended before then: up to a number, and as many events as that."""
    (ids,) = connection.execute(sql["purge_pick"], which).fetchone()
    for name in ("purge_segments", "purge_heartbeats", "purge_letters"):
        connection.execute(sql[name], (ids,))
    return connection.execute(sql["purge_executions"], (ids,)).rowcount
