"""How schedules look to people and programs: times in RFC 3339, durations in seconds. Only facts; no store."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from typing import Literal

import msgspec

from edow.model.execution import Execution
from edow.trigger.schedules.book import Became, Book, Cause, Counts
from edow.trigger.schedules.case import Case, Executions
from edow.trigger.schedules.definition import Overlap, Schedule, utc

State = Literal["active", "paused", "finished"]


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A tick that was decided lately. `status`: of its execution, if that is still there."""

    scheduled_at: datetime
    at: datetime
    cause: Cause
    became: Became
    execution: str | None = None
    status: str | None = None


class BackfillView(msgspec.Struct, frozen=True, kw_only=True):
    after: datetime
    until: datetime
    overlap: Overlap


class ScheduleView(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule as it is now. `next`: its next ticks, without their jitter; `recent`: the newest first."""

    name: str
    state: State
    note: str
    version: int
    schedule: Schedule
    created_at: datetime
    updated_at: datetime
    next: list[datetime]
    running: list[str]
    buffered: list[datetime]
    backfills: list[BackfillView]
    runs_left: int | None
    counts: Counts
    recent: list[Run]


def view(case: Case, rows: Executions, count: int) -> ScheduleView:
    """`count`: how many of the next ticks."""
    book = case.book
    return ScheduleView(
        name=case.name,
        state=state_of(book),
        note=book.note,
        version=case.record.version,
        schedule=book.schedule,
        created_at=utc(book.created_at),
        updated_at=utc(book.updated_at),
        next=[utc(tick) for tick in _next(case, count)],
        running=[each for each in book.running if each not in rows.ended],
        buffered=[utc(each.tick) for each in book.buffer],
        backfills=[
            BackfillView(after=utc(each.cursor), until=utc(each.until), overlap=each.overlap) for each in book.backfills
        ],
        runs_left=_runs_left(book),
        counts=book.counts,
        recent=[
            Run(
                scheduled_at=utc(each.tick),
                at=utc(each.at),
                cause=each.cause,
                became=each.became,
                execution=each.execution or None,
                status=_status(rows.rows.get(each.execution)),
            )
            for each in reversed(book.recent)
        ],
    )


def executions_shown(book: Book) -> list[str]:
    """Those whose status is told."""
    return [*book.running, *(each.execution for each in book.recent if each.execution)]


def state_of(book: Book) -> State:
    if book.paused:
        return "paused"
    return "finished" if book.due is None and not book.buffer else "active"


def _next(case: Case, count: int) -> list[int]:
    left = _runs_left(case.book)
    if case.book.paused:
        return []
    return list(islice(case.plan.ticks(case.book.cursor), count if left is None else min(count, left)))


def _runs_left(book: Book) -> int | None:
    limit = book.schedule.runs
    return None if limit is None else max(0, limit - book.runs - sum(each.cause == "tick" for each in book.buffer))


def _status(row: Execution | None) -> str | None:
    return None if row is None else row.status.value
