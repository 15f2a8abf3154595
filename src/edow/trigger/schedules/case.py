"""A schedule as it was read from the store, with what a turn has to know, and what the turn has to store."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from edow.errors import InvalidInput
from edow.model import inbox
from edow.model.execution import ENDED, Execution
from edow.store.contract import CommandRequest, Put, Record, Request, Store
from edow.store.starting import start_of
from edow.telemetry.exporter import starting
from edow.trigger.schedules import book as books
from edow.trigger.schedules.definition import Plan, execution_of, instant
from edow.trigger.schedules.turn import Turn, backfill_ids

MOST_IDS = 1000  # executions asked for in one read


class Case:
    """Read once, decided once, written once."""

    def __init__(self, record: Record) -> None:
        """Raises InvalidInput for what this release cannot read."""
        self.name = record.key
        self.record = record
        try:
            self.book = books.decode(record.body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as problem:
            raise InvalidInput(
                f"schedule {record.key!r} cannot be read: {problem}; delete and make it anew"
            ) from problem
        self.plan = Plan(self.name, self.book.schedule)

    @property
    def asks(self) -> list[str]:
        """The executions that it depends on."""
        return [*self.book.running, *backfill_ids(self.plan, self.book)]

    def is_stale(self, key: str) -> bool:
        """Whether an entry of the index says what is no longer so."""
        if key.startswith(books.WAIT):
            return not self.book.blockers
        return self.book.due != books.due_of(key)[0]

    def turn(self, now: int, rows: Executions) -> Turn:
        return Turn(self.plan, self.book, now, rows.ended, rows.there)

    def writes(self, turn: Turn) -> list[Put]:
        return books.writes(self.name, self.record, turn.book)

    def requests(self, turn: Turn, place: tuple[int, int]) -> list[Request]:
        """`place`: how many shards there are, and what time it is."""
        starts: list[Request] = [start_of(self._row(tick), place) for tick in turn.starts]
        reason = f"schedule {self.name}: the next run takes its place"
        cancel = inbox.encode(inbox.Cancel(reason=reason))
        return [*starts, *(CommandRequest(each, cancel) for each in turn.cancels)]

    def _row(self, tick: int) -> Execution:
        found = {"schedule": self.name, "scheduled_at": instant(tick)}
        workflow = self.plan.schedule.workflow
        with starting(workflow, "") as trace:
            return Execution(
                id=execution_of(self.name, tick),
                workflow=workflow,
                shard=0,
                input=self.plan.input(tick),
                trace=trace,
                attributes=msgspec.Raw(msgspec.json.encode(found)),
            )


class Executions:
    """Which of some executions are there, and which have ended. One that has been purged has ended long ago."""

    def __init__(self, rows: Iterable[tuple[str, Execution | None]]) -> None:
        found = dict(rows)
        self.rows = {id: row for id, row in found.items() if row is not None}
        self.there = frozenset(self.rows)
        self.ended = frozenset(id for id, row in found.items() if row is None or row.status in ENDED)


async def read_executions(store: Store, ids: Iterable[str]) -> Executions:
    wanted = list(dict.fromkeys(ids))
    rows: list[Execution | None] = []
    for start in range(0, len(wanted), MOST_IDS):
        rows += await store.executions_get(wanted[start : start + MOST_IDS])
    return Executions(zip(wanted, rows, strict=True))
