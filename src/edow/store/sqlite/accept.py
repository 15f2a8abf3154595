"""Accepting requests: thousands of starts and commands in a handful of statements, each answered for itself.

One look tells which executions exist; the rest is decided in memory, in order, so that requests of one batch see each
other; then everything is written in bulk.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from edow.model.execution import ENDED, Execution
from edow.store.contract import Answer, Request, StartRequest
from edow.store.sqlite.rows import inserted, start_command
from edow.store.sqlite.statements import Known, Statements


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
        draft = _Draft(known, self._now)
        answers = [draft.answer(request) for request in self._requests]
        draft.write(connection, self._statements)
        return answers, draft.channels()


class _Draft:
    """What will be written. `rows` holds the newest run of each execution that was started."""

    def __init__(self, known: dict[str, Known], now: int) -> None:
        self._known = known
        self._now = now
        self._rows: dict[str, tuple[Execution, int]] = {}
        self._replaced: dict[str, int] = {}  # id -> number of the row to go
        self._segments: list[object] = []
        self._inbox: list[object] = []

    def answer(self, request: Request) -> Answer:
        if isinstance(request, StartRequest):
            return self._start(request)
        known = self._known.get(request.execution)
        if known is None:
            return Answer("missing")
        if known.status in ENDED:
            return Answer("ended", known.run, known.status)
        self._inbox += (known.shard, known.id, request.command, self._now)
        return Answer("accepted", known.run, known.status)

    def _start(self, request: StartRequest) -> Answer:
        row = request.execution
        known = self._known.get(row.id)
        if known is None:
            return self._begin(request, row.run, 0)
        if request.if_exists == "replace":
            if known.number:
                self._replaced[row.id] = known.number
            return self._begin(request, known.run + 1, known.number)
        return Answer("attached" if request.if_exists == "attach" else "exists", known.run, known.status)

    def _begin(self, request: StartRequest, run: int, number: int) -> Answer:
        row = request.execution
        self._known[row.id] = Known(row.id, run, row.status, row.shard, number)
        self._rows[row.id] = (row, run)
        self._segments += (row.id, run, 0, row.events, request.segment, row.id, run, -1, 0, row.input)
        self._inbox += (row.shard, row.id, start_command(run), self._now)
        return Answer("accepted", run, row.status)

    def write(self, connection: sqlite3.Connection, statements: Statements) -> None:
        replaced = self._replaced
        if replaced:
            statements.on_all(connection, "executions_delete", list(replaced.values()))
            statements.on_all(connection, "letters_supersede", list(replaced))
        rows: list[object] = []
        for row, run in self._rows.values():
            rows += inserted(row, run, replaced.get(row.id, 0))
        statements.executions.run(connection, rows)
        statements.segments.run(connection, self._segments)
        statements.inbox.run(connection, self._inbox)

    def channels(self) -> set[str]:
        return {channel for channel, said in (("inbox", self._inbox), ("ended", self._replaced)) if said}
