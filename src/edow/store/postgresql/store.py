"""The PostgreSQL store: the contract's verbs, each of them one statement."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Sequence

from edow.address import Address
from edow.errors import LeaseLost, StoreUnavailable
from edow.model.execution import Execution
from edow.model.message import Message
from edow.postgresql import Database, Group, Schema, Watch
from edow.postgresql.problems import APPLIED_BEFORE, LEASES_LOST, TOPICS_CHANGED, closed, code_of
from edow.sql import load_queries
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
)
from edow.store.paging import behind_letter, encode_cursor, key_range
from edow.store.postgresql.accept import Batch, Beside, accept, put_records, telling, write_beside
from edow.store.postgresql.commit import Application, Participant
from edow.store.postgresql.keys import BEGINNING, key_of, printable
from edow.store.postgresql.listing import FEW, page_query
from edow.store.postgresql.rows import execution, letter
from edow.store.tally import Tally

OVERDUE_US = 10_000_000  # how long past its time an execution counts as stuck
PURGE_SEGMENTS = 200  # of a history that is deleted in pieces
MOST_REQUESTS = 2_000  # of several callers in one transaction
DOUBTS = 16  # commits whose answer was lost and that may be tried again


def connect(address: Address, clock: Callable[[], int]) -> PostgresStore:
    """The store that a URL names, not open yet. Raises InvalidInput."""
    return PostgresStore(Database(address, clock))


class PostgresStore:
    """See `edow.store.contract.Store`."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._shards = database.settings.shards
        self._is_open = False
        self._participant: Participant | None = None
        self._tally = Tally()
        self._sql = load_queries(__package__)
        self._accepting: Group[Batch, list[Answer]] = Group(
            lambda batches: accept(database, batches), lambda batch: len(batch.requests), MOST_REQUESTS
        )
        self._doubts: dict[int, tuple[Commit, int]] = {}

    @property
    def name(self) -> str:
        return "postgresql"

    @property
    def shards(self) -> int:
        return self._shards

    async def open(self) -> None:
        if self._is_open:
            return
        await self.database.open()
        try:
            await self.database.migrate(Schema("store", __package__))
            await self._settle_shards()
            await self.database.listen(("inbox", "ended", "records"))
        except BaseException:
            await self.database.close()
            raise
        self._accepting.open()
        self._is_open = True

    async def close(self) -> None:
        if self._is_open:
            self._is_open = False
            await self._accepting.close()
            await self.database.close()

    def enlist(self, transport: Participant) -> None:
        self._participant = transport

    # clients

    async def accept(self, requests: Sequence[Request], now: int) -> list[Answer]:
        self._check_open()
        return await self._accepting.submit(Batch(requests, now)) if requests else []

    async def executions_get(self, ids: Sequence[str]) -> list[Execution | None]:
        self._check_open()
        rows = await self.database.fetch("SELECT * FROM edow.get($1)", [key_of(id) for id in ids])
        by_id = {each.id: each for each in map(execution, rows)}
        return [by_id.get(id) for id in ids]

    async def executions_list(self, where: ExecutionFilter) -> Page:
        self._check_open()
        query, arguments = page_query(self._sql, where, await self._few_begin_so(where.id_prefix))
        rows = await self.database.fetch(query, *arguments)
        shown = rows[: where.limit]
        cursor = encode_cursor(shown[-1]["started_at"], shown[-1]["number"]) if len(rows) > len(shown) else None
        return Page([execution(row) for row in shown], cursor)

    async def history_get(self, execution: str, run: int) -> list[bytes]:
        self._check_open()
        rows = await self.database.fetch("SELECT * FROM edow.history($1, $2)", key_of(execution), run)
        return [row[0] for row in rows]

    async def dead_letters_list(self, where: DeadLetterFilter) -> list[DeadLetter]:
        self._check_open()
        after_at, after_id = behind_letter(where.cursor)
        rows = await self.database.fetch(
            self._sql["letters_list"],
            [key_of(id) for id in where.ids] if where.ids is not None else None,
            key_of(where.execution) if where.execution is not None else None,
            where.task,
            where.state,
            printable(where.error) if where.error is not None else None,
            where.limit,
            where.fingerprint,
            where.before,
            where.aside if where.ids is None else None,
            after_at,
            key_of(after_id) if after_id is not None else None,
            where.source,
            where.whole,
        )
        return [letter(row) for row in rows]

    async def dead_letters_close(
        self, ids: Sequence[str], state: str, reason: str, puts: Sequence[Put] = (), now: int = 0
    ) -> int:
        self._check_open()
        arguments = [key_of(id) for id in ids], printable(reason), state
        return await write_beside(self.database, (self._sql["letters_close"], arguments), puts, now)

    async def dead_letters_purge(self, failed_before: int, limit: int) -> int:
        self._check_open()
        return len(await self.database.write(self._sql["letters_purge"], failed_before, limit))

    async def dead_letters_groups(self, aside: bool, limit: int) -> list[LetterGroup]:
        self._check_open()
        rows = await self.database.fetch(self._sql["letters_groups"], aside, limit)
        return [LetterGroup(row["fingerprint"], row[17], row[18], row[19], letter(row)) for row in rows]

    async def dead_letters_set_aside(
        self, ids: Sequence[str], reason: str, puts: Sequence[Put] = (), now: int = 0
    ) -> int:
        self._check_open()
        arguments = [key_of(id) for id in ids], printable(reason)
        return await write_beside(self.database, (self._sql["letters_set_aside"], arguments), puts, now)

    async def counts(self, now: int) -> Counts:
        self._check_open()
        by_status = await self._tally.get(self._count_by_status)
        (rest,) = await self.database.fetch(self._sql["count_rest"], now - OVERDUE_US, self.database.schema)
        return Counts(by_status, *rest)

    async def records_put(
        self,
        puts: Sequence[Put],
        now: int,
        requests: Sequence[Request] = (),
        letters: Sequence[LetterState] = (),
        *,
        all_or_nothing: bool = False,
    ) -> list[Answer]:
        self._check_open()
        return await put_records(self.database, Beside(puts, letters, all_or_nothing), now, requests)

    async def records_get(self, kind: str, keys: Sequence[str]) -> list[Record | None]:
        self._check_open()
        if not keys:
            return []
        rows = await self.database.fetch(self._sql["records_get"], kind, list(keys))
        by_key = {row["key"]: Record(*row) for row in rows}
        return [by_key.get(key) for key in keys]

    async def records_list(self, where: RecordFilter) -> list[Record]:
        self._check_open()
        name = "records_down" if where.descending else "records_up"
        return [Record(*row) for row in await self.database.fetch(self._sql[name], where.kind, *key_range(where))]

    async def records_purge(self, now: int, limit: int) -> int:
        self._check_open()
        return len(await self.database.write(self._sql["records_purge"], now, limit))

    # orchestrators

    async def leases_hold(self, owner: str, wanted: int, now: int, until: int) -> list[Lease]:
        self._check_open()
        rows = await self.database.hurry("SELECT * FROM edow.hold($1, $2, $3, $4)", owner, wanted, now, until)
        return [Lease(row[0], row[1], row[2], row[3]) for row in rows]

    async def leases_share(self, owner: str, now: int, until: int) -> Share:
        self._check_open()
        rows = await self.database.hurry(self._sql["leases_share"], owner, now, until, self._shards)
        return Share(rows[0][0], [Lease(row[1], row[2], row[3], row[4]) for row in rows if row[1] is not None])

    async def leases_release(self, owner: str) -> None:
        self._check_open()
        await self.database.hurry("SELECT edow.release($1)", owner)

    async def commit(self, commit: Commit) -> list[int]:
        self._check_open()
        stamp = self._stamp(commit)
        try:
            return await self._commit(commit, stamp)
        except StoreUnavailable:
            while len(self._doubts) >= DOUBTS:
                del self._doubts[next(iter(self._doubts))]
            self._doubts[id(commit)] = (commit, stamp)
            raise

    async def inbox_read(
        self, shards: Collection[int], taken: Collection[int], limit: int, most_bytes: int = READ_BYTES
    ) -> list[InboxRow]:
        self._check_open()
        rows = await self.database.fetch(self._sql["inbox_read"], list(shards), list(taken), limit, most_bytes)
        return [InboxRow(row[0], row[1], row[2], row[3]) for row in rows]

    async def outbox_read(self, shards: Collection[int], limit: int, most_bytes: int = READ_BYTES) -> list[OutboxRow]:
        self._check_open()
        rows = await self.database.fetch(self._sql["outbox_read"], list(shards), limit, most_bytes)
        return [
            OutboxRow(row[0], Message(row[1], row[3], row[2].decode() if row[2] is not None else None)) for row in rows
        ]

    async def due_read(self, shards: Collection[int], until: int, limit: int) -> list[tuple[str, int]]:
        self._check_open()
        rows = await self.database.fetch("SELECT * FROM edow.read_due($1, $2, $3)", list(shards), until, limit)
        return [(row[0], row[1]) for row in rows]

    async def load(self, ids: Sequence[str]) -> list[Stored]:
        self._check_open()
        if not ids:
            return []
        rows = await self.database.fetch("SELECT * FROM edow.load($1)", [key_of(id) for id in ids])
        return [Stored(execution(row), row[19], dict(zip(row[20], row[21], strict=True))) for row in rows]

    async def stalled(self, shards: Collection[int], now: int, limit: int) -> list[str]:
        return [execution for execution, _ in await self.due_read(shards, now - OVERDUE_US, limit)]

    async def count_healed(self, count: int) -> None:
        self._check_open()
        await self.database.write(self._sql["healed_add"], count)

    async def purge(self, ended_before: int, limit: int, most_events: int = PURGE_EVENTS) -> int:
        self._check_open()
        if limit == 1:  # who wants no more has seen that more were too much: then so may be one with all its runs
            while await self.database.write(self._sql["purge_history"], ended_before, PURGE_SEGMENTS):
                pass
        ((count,),) = await self.database.write(self._sql["purge"], ended_before, limit, most_events)
        return int(count)

    def watch(self, channel: Channel) -> Watch:
        self._check_open()
        return self.database.watch(channel)

    # how

    def _stamp(self, commit: Commit) -> int:
        """A commit that is tried again, because whether it was applied is in doubt, has the stamp it had before."""
        known = self._doubts.pop(id(commit), None)
        return known[1] if known is not None else secrets.randbits(62) + 1

    async def _commit(self, commit: Commit, stamp: int) -> list[int]:
        participant, again = self._participant, False
        while True:
            if participant is not None:
                await participant.prepare(commit.messages, again=again)
            application = Application(commit, self._shards, self.database.clock(), stamp)
            application.write(participant)
            if not application.calls:
                return []
            try:
                with telling(commit.records):
                    answer = await self.database.call(application.calls)
            except Exception as problem:
                again = code_of(problem) == TOPICS_CHANGED
                if again:
                    continue
                if code_of(problem) == APPLIED_BEFORE:
                    return await self._applied(application, stamp)
                if code_of(problem) == LEASES_LOST:
                    raise LeaseLost(_shards_of(problem)) from problem
                raise
            return self._after(application, tuple(answer))

    def _after(self, application: Application, answer: Sequence[object]) -> list[int]:
        self.database.notify(application.channels())
        if application.after is not None:
            application.after(answer)
        return application.numbers(answer)

    async def _applied(self, application: Application, stamp: int) -> list[int]:
        """It was applied the time before, when its answer did not come through."""
        self._after(application, ())
        rows = await self.database.fetch(self._sql["sent_by"], application.shard, stamp)
        return [row[0] for row in rows]

    async def _settle_shards(self) -> None:
        await self.database.write(self._sql["shards_fix"], self._shards)
        ((shards,),) = await self.database.fetch(self._sql["shards_read"])
        await self.database.write(self._sql["leases_make"], shards)
        self._shards = int(shards)

    async def _few_begin_so(self, prefix: str | None) -> bool:
        if not prefix:
            return False
        ((found,),) = await self.database.fetch(self._sql["count_by_id"], prefix[:BEGINNING], FEW + 1)
        return int(found) <= FEW

    async def _count_by_status(self) -> dict[str, int]:
        return {row[0]: row[1] for row in await self.database.fetch(self._sql["count_by_status"])}

    def _check_open(self) -> None:
        if not self._is_open:
            raise closed(self.database.place)


def _shards_of(problem: BaseException) -> tuple[int, ...]:
    return tuple(int(shard) for shard in str(getattr(problem, "detail", "")).split(",") if shard)
