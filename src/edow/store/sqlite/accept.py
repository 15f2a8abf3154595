"""Accepting requests: thousands of starts and commands in a handful of statements, each answered for itself.

One look tells which executions exist; the rest is decided in memory, in order, so that requests of one batch see each
other; then everything is written in bulk.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from edow.store.acceptance import Draft
from edow.store.contract import Answer, Request, StartRequest
from edow.store.sqlite.rows import inserted
from edow.store.sqlite.statements import Statements


class Acceptance:
    """One batch: call `write` on the writer thread. May be written again if the transaction failed."""

    def __init__(self, statements: Statements, requests: Sequence[Request], now: int) -> None:
        self._statements = statements
        self._requests = requests
        self._now = now

    def write(self, connection: sqlite3.Connection) -> tuple[list[Answer], set[str]]:
        """The answers, and the channels to notify."""
        ids = [each.execution.id if isinstance(each, StartRequest) else each.execution for each in self._requests]
        known = self._statements.known(connection, ids)
        draft = Draft(known, self._now)
        answers = [draft.answer(request) for request in self._requests]
        _write(draft, connection, self._statements)
        return answers, draft.channels()


def _write(draft: Draft, connection: sqlite3.Connection, statements: Statements) -> None:
    replaced = draft.replaced
    if replaced:
        statements.on_all(connection, "executions_delete", list(replaced.values()))
        statements.on_all(connection, "letters_supersede", list(replaced))
    rows: list[object] = []
    for row, run in draft.rows.values():
        rows += inserted(row, run, replaced.get(row.id, 0))
    statements.executions.run(connection, rows)
    statements.segments.run(connection, draft.segments)
    statements.inbox.run(connection, draft.inbox)
