"""The SQLite store: the contract's verbs, each handed to the file's writer or reader thread as one function."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from edow.errors import InvalidInput
from edow.model.execution import Execution
from edow.model.message import Message
from edow.sqlite import Packed, Schema, SqliteFile, Watch
from edow.store.acceptance import insist
from edow.store.contract import (
    PURGE_EVENTS,
    READ_BYTES,
    Answer,
    Channel,
    Commit,
    Counts,
    DeadLetter,
    DeadLetterFilter,
    ExecutionFilter,
    InboxRow,
    Lease,
    LetterGroup,
    LetterState,
    OutboxRow,
    Page,
    Put,
    Record,
    RecordFilter,
    Request,
    Share,
    Stored,
    told,
)
from edow.store.paging import behind_letter, encode_cursor, key_range
from edow.store.sqlite import leases, purge, records
from edow.store.sqlite.accept import Acceptance
from edow.store.sqlite.commit import Application, Participant
from edow.store.sqlite.listing import few_begin_so, page_source
from edow.store.sqlite.rows import execution, letter, packed_executions, packed_letters, to_json
from edow.store.sqlite.statements import Statements
from edow.store.tally import Tally

FEW = 16  # rows that are written or read at once: see SqliteFile
OVERDUE_US = 10_000_000  # how long past its time an execution counts as stuck
MOST_SHARDS = 1024


class _Inbox(NamedTuple):
    seq: int
    execution: str
    shard: int


class _Outbox(NamedTuple):
    seq: int
    topic: str
    key: str | None


class _Due(NamedTuple):
    id: str
    wake_at: int


class _Step(NamedTuple):
    execution: str
    step: str


def _now() -> int:
    return time.time_ns() // 1000


class SqliteStore:
    """See `edow.store.contract.Store`. `shards` counts only when the database is created."""

    def __init__(self, file: SqliteFile, shards: int = 4, *, clock: Callable[[], int] = _now) -> None:
        if not 0 < shards <= MOST_SHARDS:
            raise InvalidInput(f"shards {shards} is not between 1 and {MOST_SHARDS}")
        self.file = file
        self._shards = shards
        self._clock = clock
        self._is_open = False
        self._participant: Participant | None = None
        self._tally = Tally()
        self._statements = statements = Statements()
        sql = self._sql = statements.sql
        self._rows = packed_executions(sql["executions_of"])
        self._letters = packed_letters(sql["letters_source"])
        self._newest = packed_letters(sql["letters_numbered"])
        self._segments = Packed(tuple[str], "execution", ("body",), sql["segments_of"])
        self._heartbeats = Packed(_Step, "execution, step", ("details",), sql["heartbeats_of"])
        self._history = Packed(tuple[int], "seq", ("body",), sql["history_source"])
        self._inbox = Packed(_Inbox, "seq, execution, shard", ("command",), sql["inbox_source"])
        self._large_inbox = Packed(_Inbox, "seq, execution, shard", ("command",), sql["inbox_large_source"])
        self._outbox = Packed(_Outbox, "seq, topic, key", ("body",), sql["outbox_source"])
        self._records = {
            name: records.packed_records(sql[name]) for name in ("records_get", "records_up", "records_down")
        }
        self._due = Packed(_Due, "id, wake_at", (), sql["due_source"])

    @property
    def name(self) -> str:
        return "sqlite"

    @property
    def shards(self) -> int:
        return self._shards

    async def open(self) -> None:
        if self._is_open:
            return
        await self.file.open()
        try:
            await self.file.migrate(Schema("store", __package__))
            self._shards = await self.file.write(self._settle_shards)
        except BaseException:
            await self.file.close()
            raise
        self._is_open = True

    async def close(self) -> None:
        if self._is_open:
            self._is_open = False
            await self.file.close()

    def enlist(self, transport: Participant) -> None:
        self._participant = transport

    # clients

    async def accept(self, requests: Sequence[Request], now: int) -> list[Answer]:
        if not requests:
            return []
        acceptance = Acceptance(self._statements, requests, now)
        answers, _ = await self.file.write(
            acceptance.write,
            disk="answer",  # an orchestrator may begin with it meanwhile: its own commit takes this one to the disk
            small=len(requests) <= FEW,
            after=lambda result: self.file.notify(result[1]),
        )
        return answers

    async def executions_get(self, ids: Sequence[str]) -> list[Execution | None]:
        found = await self.file.read(
            lambda connection: self._rows.rows_of_any_size(connection, {"ids": to_json(ids)}), brief=len(ids) <= FEW
        )
        by_id = {scalars.id: execution(scalars, blobs) for scalars, blobs in found}
        return [by_id.get(each) for each in ids]

    async def executions_list(self, where: ExecutionFilter) -> Page:
        def read(connection: sqlite3.Connection) -> list[Any]:
            by_id = bool(where.id_prefix) and few_begin_so(connection, where.id_prefix or "")
            source, parameters = page_source(where, by_id)
            return packed_executions(source).rows_of_any_size(connection, parameters)

        found = await self.file.read(read)
        shown = found[: where.limit]
        cursor = encode_cursor(shown[-1][0].started_at, shown[-1][0].number) if len(found) > len(shown) else None
        return Page([execution(*row) for row in shown], cursor)

    async def history_get(self, execution: str, run: int) -> list[bytes]:
        key = {"execution": execution, "run": run}
        rows = await self.file.read(lambda connection: self._history.rows_of_any_size(connection, key))
        return [body or b"" for _, (body,) in rows]

    async def dead_letters_list(self, where: DeadLetterFilter) -> list[DeadLetter]:
        after_at, after_id = behind_letter(where.cursor)
        parameters: dict[str, object] = {
            "ids": to_json(list(where.ids)) if where.ids is not None else None,
            "execution": where.execution,
            "task": where.task,
            "source": where.source,
            "state": where.state,
            "error": where.error,
            "fingerprint": where.fingerprint,
            "before": where.before,
            "after_at": after_at,
            "after_id": after_id,
            "aside": where.aside if where.ids is None else None,
            "limit": where.limit,
            "whole": where.whole,
        }
        rows = await self.file.read(lambda connection: self._letters.rows_of_any_size(connection, parameters))
        return [letter(*row) for row in rows]

    async def dead_letters_close(
        self, ids: Sequence[str], state: str, reason: str, puts: Sequence[Put] = (), now: int = 0
    ) -> int:
        parameters: dict[str, object] = {"ids": to_json(ids), "state": state, "reason": reason}
        return await self._write_beside("letters_close", parameters, puts, now)

    async def dead_letters_purge(self, failed_before: int, limit: int) -> int:
        return await self.file.write(
            lambda connection: connection.execute(self._sql["letters_purge"], (failed_before, limit)).rowcount,
            disk="later",
        )

    async def dead_letters_groups(self, aside: bool, limit: int) -> list[LetterGroup]:
        def read(connection: sqlite3.Connection) -> list[LetterGroup]:
            groups = connection.execute(self._sql["letters_groups"], (aside, limit)).fetchall()
            newest = self._newest.rows_of_any_size(connection, (to_json([group[-1] for group in groups]),))
            letters = {each.fingerprint: each for each in (letter(*row) for row in newest)}
            return [LetterGroup(name, size, first, last, letters[name]) for name, size, first, last, _ in groups]

        return await self.file.read(read)

    async def dead_letters_set_aside(
        self, ids: Sequence[str], reason: str, puts: Sequence[Put] = (), now: int = 0
    ) -> int:
        parameters: dict[str, object] = {"ids": to_json(ids), "reason": reason}
        return await self._write_beside("letters_set_aside", parameters, puts, now)

    async def _write_beside(self, name: str, parameters: dict[str, object], puts: Sequence[Put], now: int) -> int:
        """How many rows the statement has changed."""

        def write(connection: sqlite3.Connection) -> int:
            records.write(connection, self._sql, puts, now)
            return connection.execute(self._sql[name], parameters).rowcount

        return await self.file.write(write, after=lambda _: self.file.notify(told(puts)))

    async def counts(self, now: int) -> Counts:
        by_status = await self._tally.get(
            lambda: self.file.read(lambda connection: dict(connection.execute(self._sql["count_by_status"]).fetchall()))
        )

        def read(connection: sqlite3.Connection) -> Counts:
            letters, inbox, oldest, outbox, overdue, healed = connection.execute(
                self._sql["count_rest"], (now - OVERDUE_US,)
            ).fetchone()
            return Counts(by_status, letters, inbox, oldest, outbox, overdue, healed, self.file.size())

        return await self.file.read(read)

    async def records_put(
        self,
        puts: Sequence[Put],
        now: int,
        requests: Sequence[Request] = (),
        letters: Sequence[LetterState] = (),
        *,
        all_or_nothing: bool = False,
    ) -> list[Answer]:
        acceptance = Acceptance(self._statements, requests, now)

        def write(connection: sqlite3.Connection) -> tuple[list[Answer], set[str]]:
            records.write(connection, self._sql, puts, now)
            records.settle(connection, self._sql, letters)
            answers, channels = acceptance.write(connection)
            if all_or_nothing:
                insist(answers)
            return answers, channels | told(puts)

        answers, _ = await self.file.write(write, after=lambda result: self.file.notify(result[1]))
        return answers

    async def records_get(self, kind: str, keys: Sequence[str]) -> list[Record | None]:
        if not keys:
            return []
        found = await self._read_records("records_get", (kind, to_json(list(keys))))
        by_key = {each.key: each for each in found}
        return [by_key.get(key) for key in keys]

    async def records_list(self, where: RecordFilter) -> list[Record]:
        name = "records_down" if where.descending else "records_up"
        return await self._read_records(name, (where.kind, *key_range(where)))

    async def records_purge(self, now: int, limit: int) -> int:
        return await self.file.write(
            lambda connection: connection.execute(self._sql["records_purge"], (now, limit)).rowcount, disk="later"
        )

    # orchestrators

    async def leases_hold(self, owner: str, wanted: int, now: int, until: int) -> list[Lease]:
        request = leases.Request(owner, wanted, now, until)
        return await self.file.write(lambda connection: leases.hold(connection, self._sql, request), disk="later")

    async def leases_share(self, owner: str, now: int, until: int) -> Share:
        return await self.file.write(
            lambda connection: leases.share(connection, self._sql, (owner, self._shards), now, until), disk="later"
        )

    async def leases_release(self, owner: str) -> None:
        await self.file.write(lambda connection: leases.release(connection, self._sql, owner), disk="later")

    async def commit(self, commit: Commit) -> list[int]:
        application = Application(self._statements, commit, self._shards, self._clock)
        participant = self._participant

        def after(_: list[int]) -> None:
            self.file.notify(application.channels())
            if application.after is not None:
                application.after()

        small = len(commit.appends) + len(commit.messages) <= FEW
        return await self.file.write(
            lambda connection: application.write(connection, participant), small=small, after=after
        )

    async def inbox_read(
        self, shards: Collection[int], taken: Collection[int], limit: int, most_bytes: int = READ_BYTES
    ) -> list[InboxRow]:
        parameters = {
            "shards": to_json(list(shards)),
            "taken": to_json(list(taken)),
            "limit": limit,
            "bytes": most_bytes,
        }

        def read(connection: sqlite3.Connection) -> list[InboxRow]:
            try:
                found = self._inbox.rows(connection, parameters)
            except sqlite3.DataError:
                found = self._large_inbox.rows_of_any_size(connection, parameters)
            return [InboxRow(row.seq, row.execution, row.shard, command or b"") for row, (command,) in found]

        return _fitting(await self.file.read(read, brief=True), most_bytes)

    async def outbox_read(self, shards: Collection[int], limit: int, most_bytes: int = READ_BYTES) -> list[OutboxRow]:
        parameters = {"shards": to_json(list(shards)), "limit": limit, "bytes": most_bytes}
        rows = await self.file.read(lambda connection: self._outbox.rows_of_any_size(connection, parameters))
        return [OutboxRow(row.seq, Message(row.topic, body or b"", row.key)) for row, (body,) in rows]

    async def due_read(self, shards: Collection[int], until: int, limit: int) -> list[tuple[str, int]]:
        parameters = {"shards": to_json(list(shards)), "until": until, "limit": limit}
        rows = await self.file.read(lambda connection: self._due.scalars(connection, parameters))
        return [(row.id, row.wake_at) for row in rows]

    async def load(self, ids: Sequence[str]) -> list[Stored]:
        if not ids:
            return []
        parameters = {"ids": to_json(ids)}

        def read(connection: sqlite3.Connection) -> dict[str, Stored]:
            found = self._rows.rows_of_any_size(connection, parameters)
            stored = {row.id: Stored(execution(row, blobs), [], {}) for row, blobs in found}
            for (name,), (body,) in self._segments.rows_of_any_size(connection, parameters):
                stored[name].segments.append(body or b"")
            for key, (details,) in self._heartbeats.rows_of_any_size(connection, parameters):
                stored[key.execution].heartbeats[key.step] = details or b""
            return stored

        return list((await self.file.read(read, brief=len(ids) <= FEW)).values())

    async def stalled(self, shards: Collection[int], now: int, limit: int) -> list[str]:
        return [execution for execution, _ in await self.due_read(shards, now - OVERDUE_US, limit)]

    async def count_healed(self, count: int) -> None:
        await self.file.write(lambda connection: _run(connection, self._sql["healed_add"], count), disk="later")

    async def purge(self, ended_before: int, limit: int, most_events: int = PURGE_EVENTS) -> int:
        which = ended_before, limit, most_events
        return await self.file.write(lambda connection: purge.purge(connection, self._sql, which), disk="later")

    def watch(self, channel: Channel) -> Watch:
        return self.file.watch(channel)

    async def _read_records(self, name: str, parameters: Sequence[object]) -> list[Record]:
        packed = self._records[name]
        rows = await self.file.read(lambda connection: packed.rows_of_any_size(connection, parameters))
        return [records.record(*row) for row in rows]

    def _settle_shards(self, connection: sqlite3.Connection) -> int:
        connection.execute(self._sql["shards_fix"], (self._shards,))
        (shards,) = connection.execute(self._sql["shards_read"]).fetchone()
        connection.execute(self._sql["leases_make"], (to_json(list(range(shards))),))
        return int(shards)


def _fitting(rows: list[InboxRow], most_bytes: int) -> list[InboxRow]:
    used = 0
    for count, row in enumerate(rows):
        if used >= most_bytes:
            return rows[:count]
        used += len(row.command)
    return rows


def _run(connection: sqlite3.Connection, sql: str, value: object) -> None:
    connection.execute(sql, (value,))
