"""The commit cycle's one transaction: everything that a batch of decisions changed, as one statement that calls a few
functions.

It is checked against the leases first. Updates that come too late (the execution was replaced meanwhile) are left out
together with what they would have appended.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from edow.model.execution import ENDED, shard_of
from edow.model.message import Message
from edow.postgresql import Calls, encoded
from edow.store.acceptance import start_command
from edow.store.contract import Commit, Heartbeat, NewExecution, told
from edow.store.postgresql.accept import named, puts_columns
from edow.store.postgresql.keys import key_of, printable
from edow.store.postgresql.rows import born, changed, letters, newest


class Participant(Protocol):
    """A transport in the store's own schema, so that messages and state commit as one."""

    async def prepare(self, messages: Sequence[Message], *, again: bool = False) -> None:
        """Make sure that the topics are known. `again`: what was known had changed."""

    def participate(
        self, calls: Calls, messages: Sequence[Message], acks: Sequence[object]
    ) -> Callable[[Sequence[object]], None]:
        """Add what publishes `messages` and deletes the deliveries `acks`. Returns what to call with the statement's
        answer once it is on disk.
        """


class Application:
    """One commit as a statement. `stamp` tells it from all others."""

    def __init__(self, commit: Commit, shards: int, now: int, stamp: int) -> None:
        self.calls = Calls()
        self.after: Callable[[Sequence[object]], None] | None = None  # the participant's part of it
        self._commit = commit
        self._shards = shards
        self._now = now
        self._stamp = stamp
        self._numbers: int | None = None

    @property
    def shard(self) -> int:
        """Whose next owner will look after the messages."""
        return min(self._commit.leases, default=0)

    def write(self, participant: Participant | None) -> None:
        """Compose it. What locks much is called last."""
        commit, calls = self._commit, self.calls
        if commit.leases:
            shards = sorted(commit.leases)
            calls.add("fence", shards, [commit.leases[shard] for shard in shards], self._stamp)
        if commit.updates or commit.appends:
            self._advance()
        if commit.children or commit.commands:
            self._command()
        if commit.inbox_done:
            calls.add("consumed", list(commit.inbox_done))
        if commit.outbox_done:
            calls.add("sent", list(commit.outbox_done))
        if commit.dead_letters:
            buried = newest(commit.dead_letters)
            calls.add("bury", *letters(buried))
            calls.add("tag", [key_of(each.id) for each in buried], [each.fingerprint for each in buried])
        if commit.letters_closed:
            closed = commit.letters_closed
            reasons = [printable(each.reason) for each in closed]
            calls.add("mark", [key_of(each.id) for each in closed], [each.state for each in closed], reasons)
        if commit.heartbeats:
            self._beat(commit.heartbeats)
        if commit.records:
            calls.add("put_records", self._now, *puts_columns(commit.records))
        self._send(participant)

    def numbers(self, answer: Sequence[object]) -> list[int]:
        """The outbox numbers of the messages."""
        found = answer[self._numbers] if self._numbers is not None and answer else None
        return found if isinstance(found, list) else []

    def channels(self) -> set[str]:
        """What to notify once it is on disk."""
        commit = self._commit
        channels = {"inbox"} if commit.commands or commit.children else set()
        if any(update.execution.status in ENDED for update in commit.updates):
            channels.add("ended")
        return channels | told(commit.records)

    def _advance(self) -> None:
        updates = sorted(self._commit.updates, key=lambda update: update.execution.id)
        appends = self._commit.appends
        self.calls.add(
            "advance",
            *changed(updates),
            [key_of(append.execution) for append in appends],
            [append.run for append in appends],
            [append.seq for append in appends],
            [append.count for append in appends],
            [append.segment for append in appends],
        )

    def _command(self) -> None:
        """Commands for other executions, and new children; the parents of those whose id is taken are told."""
        commands = [(shard, execution, command) for execution, shard, command in self._commit.commands]
        fresh: dict[str, NewExecution] = {}
        for child in self._commit.children:
            row = child.execution
            if fresh.setdefault(row.id, child) is not child and row.parent is not None:
                parent = row.parent.execution
                commands.append((shard_of(parent, self._shards), parent, child.if_taken))
        if commands:
            self.calls.add("command", self._now, *([command[at] for command in commands] for at in range(3)))
        if fresh:
            self._bear(list(fresh.values()))

    def _bear(self, children: Sequence[NewExecution]) -> None:
        rows = [child.execution for child in children]
        parents = [row.parent.execution if row.parent is not None else None for row in rows]
        self.calls.add(
            "start",
            False,
            self._now,
            *named(rows),
            *born(rows, [row.run for row in rows]),
            [row.input for row in rows],
            [child.segment for child in children],
            [start_command(row.run) for row in rows],
            parents,
            [shard_of(parent, self._shards) if parent is not None else None for parent in parents],
            [child.if_taken for child in children],
        )

    def _beat(self, heartbeats: Sequence[Heartbeat]) -> None:
        newest = list({(beat.execution, beat.run, beat.step): beat for beat in heartbeats}.values())
        newest.sort(key=lambda beat: (beat.execution, beat.run, beat.step))
        self.calls.add(
            "beat",
            [key_of(beat.execution) for beat in newest],
            [beat.run for beat in newest],
            [key_of(beat.step) for beat in newest],
            [beat.step for beat in newest],
            [beat.details for beat in newest],
        )

    def _send(self, participant: Participant | None) -> None:
        messages, acks = self._commit.messages, self._commit.acks
        if participant is not None:
            if messages or acks:
                self.after = participant.participate(self.calls, messages, acks)
        elif messages:
            self._numbers = self.calls.add(
                "send",
                self.shard,
                self._stamp,
                [message.topic for message in messages],
                [encoded(message.key) for message in messages],
                [message.body for message in messages],
            )
