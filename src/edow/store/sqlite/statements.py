"""The store's bulk statements, each written with as few steps as possible. See `queries.sql`."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from edow.model.execution import Status
from edow.sql import load_queries
from edow.sqlite import Bulk
from edow.store.acceptance import Known
from edow.store.sqlite.rows import to_json


class Stand(msgspec.Struct, array_like=True, frozen=True):
    """Enough of a row to tell whether an update was applied."""

    id: str
    run: int
    status: Status
    events: int
    wake_at: int | None


_known = msgspec.json.Decoder(list[Known]).decode
_stands = msgspec.json.Decoder(list[Stand]).decode
_shards = msgspec.json.Decoder(list[int]).decode


class Statements:
    """Prepared once for each store."""

    def __init__(self) -> None:
        self.sql = sql = load_queries(__package__)
        self.executions = Bulk(sql["executions_insert"], 17)
        self.segments = Bulk(sql["segments_insert"], 5)
        self.inbox = Bulk(sql["inbox_insert"], 4)
        self.outbox = Bulk(sql["outbox_insert"], 4)
        self.letters = Bulk(sql["letters_insert"], 16)
        self.heartbeats = Bulk(sql["heartbeats_set"], 4)
        self.advance = Bulk(sql["executions_advance"], 7)
        self.turn = Bulk(sql["executions_turn"], 11)

    def known(self, connection: sqlite3.Connection, ids: Sequence[str]) -> dict[str, Known]:
        """Those of the executions that exist."""
        (text,) = connection.execute(self.sql["known"], (to_json(ids),)).fetchone()
        return {row.id: row for row in _known(text)}

    def stands(self, connection: sqlite3.Connection, ids: Sequence[str]) -> set[Stand]:
        """What their rows say."""
        (text,) = connection.execute(self.sql["stands"], (to_json(ids),)).fetchone()
        return set(_stands(text))

    def leases_lost(self, connection: sqlite3.Connection, leases: dict[int, int]) -> tuple[int, ...]:
        """The shards that are held under another epoch by now."""
        (text,) = connection.execute(self.sql["leases_lost"], (to_json(leases),)).fetchone()
        return tuple(_shards(text))

    def on_all(self, connection: sqlite3.Connection, name: str, values: Sequence[object]) -> int:
        """A statement whose only parameter is a JSON array; not run at all for an empty one."""
        return connection.execute(self.sql[name], (to_json(values),)).rowcount if values else 0
