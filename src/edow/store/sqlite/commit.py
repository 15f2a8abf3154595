"""The commit cycle's one transaction: everything that a batch of decisions changed, in a handful of statements.

It is checked against the leases first. Updates that come too late (the execution was replaced meanwhile) are left
out together with what they would have appended.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import chain
from typing import Protocol

from edow.errors import LeaseLost
from edow.model.execution import ENDED, shard_of
from edow.model.message import Message
from edow.store.acceptance import start_command
from edow.store.contract import Commit, NewExecution, Update, told
from edow.store.sqlite import records
from edow.store.sqlite.rows import advanced, advances, inserted, letter_values, to_json, turned
from edow.store.sqlite.statements import Stand, Statements

Clock = Callable[[], int]


class Participant(Protocol):
    """A transport in the store's own file, so that messages and state commit as one."""

    def participate(
        self, connection: sqlite3.Connection, messages: Sequence[Message], acks: Sequence[object]
    ) -> Callable[[], None]:
        """Write `messages` and delete the deliveries `acks`, inside the open transaction. Returns what to call once it
        is on disk.
        """


class Application:
    """One commit: call `write` on the writer thread, and `after` once it is on disk. May be written again if the
    transaction failed.
    """

    def __init__(self, statements: Statements, commit: Commit, shards: int, clock: Clock) -> None:
        self.after: Callable[[], None] | None = None  # the participant's part of it
        self._statements = statements
        self._commit = commit
        self._shards = shards
        self._clock = clock

    def write(self, connection: sqlite3.Connection, participant: Participant | None) -> list[int]:
        """The outbox numbers of the messages. Raises LeaseLost before anything is written."""
        commit, statements = self._commit, self._statements
        if commit.leases and (lost := statements.leases_lost(connection, dict(commit.leases))):
            raise LeaseLost(lost)
        stale = self._update(connection)
        self._append(connection, stale)
        self._command(connection)
        statements.on_all(connection, "inbox_delete", commit.inbox_done)
        numbers = self._send(connection, participant)
        statements.on_all(connection, "outbox_delete", commit.outbox_done)
        if commit.dead_letters or commit.letters_closed:
            self._bury(connection)
        if commit.heartbeats:
            self._beat(connection)
        if commit.records:
            records.write(connection, statements.sql, commit.records, self._clock())
        return numbers

    def channels(self) -> set[str]:
        """What to notify once it is on disk."""
        commit = self._commit
        channels = {"inbox"} if commit.commands or commit.children else set()
        if any(update.execution.status in ENDED for update in commit.updates):
            channels.add("ended")
        return channels | told(commit.records)

    def _update(self, connection: sqlite3.Connection) -> Collection[str]:
        """Executions whose updates did not apply."""
        updates = self._commit.updates
        if not updates:
            return ()
        running = [update for update in updates if advances(update.execution)]
        turning = [update for update in updates if not advances(update.execution)]
        count = self._statements.advance.run(connection, _flat(advanced(update) for update in running))
        if count < len(running):  # some were parked, or it came too late
            turning = [*running, *turning]
            count = 0
        count += self._statements.turn.run(connection, _flat(turned(update) for update in turning))
        return () if count == len(updates) else self._stale(connection)

    def _stale(self, connection: sqlite3.Connection) -> set[str]:
        updates = self._commit.updates
        stands = self._statements.stands(connection, [update.execution.id for update in updates])
        return {update.execution.id for update in updates if _stand(update) not in stands}

    def _append(self, connection: sqlite3.Connection, stale: Collection[str]) -> None:
        commit = self._commit
        values = [
            value
            for append in commit.appends
            if append.execution not in stale
            for value in (append.execution, append.run, append.seq, append.count, append.segment)
        ]
        for update in commit.updates:
            row = update.execution
            if row.run != update.run and row.id not in stale:
                values += (row.id, row.run, -1, 0, row.input)
        self._statements.segments.run(connection, values)

    def _command(self, connection: sqlite3.Connection) -> None:
        commit = self._commit
        if not commit.commands and not commit.children:
            return
        now = self._clock()
        values: list[object] = [
            value for execution, shard, command in commit.commands for value in (shard, execution, command, now)
        ]
        if commit.children:
            values += self._bear(connection, commit.children, now)
        self._statements.inbox.run(connection, values)

    def _bear(self, connection: sqlite3.Connection, children: Sequence[NewExecution], now: int) -> list[object]:
        """Store children whose id is free; the commands that go out either way."""
        taken: set[str] = set(self._statements.known(connection, [child.execution.id for child in children]))
        rows: list[object] = []
        segments: list[object] = []
        inbox: list[object] = []
        for child in children:
            row = child.execution
            if row.id in taken:
                if row.parent is not None:
                    parent = row.parent.execution
                    inbox += (shard_of(parent, self._shards), parent, child.if_taken, now)
                continue
            taken.add(row.id)
            rows += inserted(row, row.run, 0)
            segments += (row.id, row.run, 0, row.events, child.segment, row.id, row.run, -1, 0, row.input)
            inbox += (row.shard, row.id, start_command(row.run), now)
        self._statements.executions.run(connection, rows)
        self._statements.segments.run(connection, segments)
        return inbox

    def _send(self, connection: sqlite3.Connection, participant: Participant | None) -> list[int]:
        messages = self._commit.messages
        if participant is not None:
            if messages or self._commit.acks:
                self.after = participant.participate(connection, messages, self._commit.acks)
            return []
        if not messages:
            return []
        shard = min(self._commit.leases, default=0)  # its next owner will look after all of them
        self._statements.outbox.run(
            connection, [value for each in messages for value in (shard, each.topic, each.key, each.body)]
        )
        (last,) = connection.execute("SELECT last_insert_rowid()").fetchone()
        return list(range(last - len(messages) + 1, last + 1))

    def _bury(self, connection: sqlite3.Connection) -> None:
        newest = {letter.id: letter for letter in self._commit.dead_letters}
        self._statements.letters.run(connection, _flat(letter_values(letter) for letter in newest.values()))
        connection.executemany(
            self._statements.sql["letters_state"],
            [(closed.state, closed.reason, closed.id) for closed in self._commit.letters_closed],
        )

    def _beat(self, connection: sqlite3.Connection) -> None:
        newest = {(beat.execution, beat.run, beat.step): beat.details for beat in self._commit.heartbeats}
        values = _flat([*key, details] for key, details in newest.items() if details is not None)
        self._statements.heartbeats.run(connection, values)
        gone = [key for key, details in newest.items() if details is None]
        if gone:
            connection.execute(self._statements.sql["heartbeats_delete"], (to_json(gone),))


def _stand(update: Update) -> Stand:
    row = update.execution
    return Stand(row.id, row.run, row.status, row.events, row.wake_at)


def _flat(rows: Iterable[list[object]]) -> list[object]:
    return list(chain.from_iterable(rows))
