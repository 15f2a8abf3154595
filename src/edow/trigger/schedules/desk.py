"""What people do with schedules: make, look, change, pause, resume, trigger, backfill, delete.

Each change is one transaction on the schedule's record, tried again when a runner was quicker; whoever gives the
version that they have seen is told instead if it is no longer the one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, Protocol, TypeVar

from edow.errors import AlreadyExists, InvalidInput, NotFound, RecordChanged, WrongState
from edow.store.contract import Answer, Put, Record, RecordFilter, Request, Store
from edow.trigger.schedules import book as books
from edow.trigger.schedules.book import Backfill
from edow.trigger.schedules.case import Case, Executions, read_executions
from edow.trigger.schedules.definition import OVERLAPS, Overlap, Plan, Schedule, moment_of, schedule_name
from edow.trigger.schedules.turn import Turn, new_book
from edow.trigger.schedules.views import ScheduleView, executions_shown, view
from edow.workflow.definition import Workflow

T = TypeVar("T")
Value = str | int | float | bool | None

TRIES = 50  # of a change that runners are quicker than
NEXT = 5  # ticks shown
MOST_NEXT = 1000
MAX_LIMIT = 1000  # of a page
MAX_NOTE = 1000  # characters
MAX_BACKFILLS = 10  # at the same time
MOST_BACKFILLED = 100_000  # ticks
TIMES = ("cron", "every", "anchor", "timezone", "start", "end")


class Act(Protocol):
    """Does what a person asks for, all of it in one transaction. Raises RecordChanged with nothing done."""

    async def __call__(
        self,
        action: str,
        target: str,
        parameters: Mapping[str, Value],
        requests: Sequence[Request] = (),
        puts: Sequence[Put] = (),
    ) -> list[Answer]: ...


class Schedules:
    """`edow.Client.schedules()`."""

    def __init__(self, store: Store, clock: Callable[[], int], act: Act) -> None:
        self._store = store
        self._clock = clock
        self._act = act

    # looking

    async def get(self, name: str, next: int = NEXT) -> ScheduleView:
        """A schedule as it is now, with its `next` ticks and what became of the last. Raises NotFound."""
        if not 0 <= next <= MOST_NEXT:
            raise InvalidInput(f"next {next} is not between 0 and {MOST_NEXT}")
        case = await self._case(name)
        rows = await read_executions(self._store, executions_shown(case.book))
        return view(case, rows, next)

    async def list(self, prefix: str = "", cursor: str | None = None, limit: int = 100) -> list[ScheduleView]:
        """Schedules by name, from behind `cursor`, the last name of the page before."""
        if not 1 <= limit <= MAX_LIMIT:
            raise InvalidInput(f"limit {limit} is not between 1 and {MAX_LIMIT}")
        for text in (prefix, cursor or ""):
            if not text.isprintable():
                raise InvalidInput(f"{text!r:.80} is no part of a name; names are printable")
        records = await self._store.records_list(RecordFilter(books.KIND, prefix, cursor, limit=limit))
        cases = [Case(each) for each in records]
        rows = await read_executions(self._store, (id for case in cases for id in executions_shown(case.book)))
        return [view(case, rows, 1) for case in cases]

    # changing

    async def create(
        self,
        name: str,
        schedule: Schedule,
        *,
        paused: bool = False,
        note: str = "",
        workflow: Workflow[..., Any] | None = None,
    ) -> ScheduleView:
        """Make a schedule; its first tick is the first from now on. `workflow`: the code to check the input against;
        without it, a workflow or an input that nobody knows shows when the first execution parks or fails.

        Raises InvalidInput, AlreadyExists, SignatureMismatch.
        """
        schedule_name(name)
        now = self._clock()
        schedule = _checked(schedule, name, now, workflow)
        book = new_book(schedule, now)
        book.paused, book.note = paused, _note(note)
        plan = Plan(name, schedule)
        if next(plan.ticks(now - 1), None) is None:
            raise InvalidInput(f"schedule {name!r} would never fire: all of its ticks are past; look at end and cron")
        Turn(plan, book, now, ()).set_due()
        try:
            await self._act("schedule.create", name, _told(schedule), puts=books.writes(name, None, book))
        except RecordChanged:
            raise AlreadyExists(f"schedule {name!r} exists already; update it, or choose another name") from None
        return await self.get(name)

    async def update(
        self,
        name: str,
        change: Schedule | Callable[[Schedule], Schedule],
        *,
        if_version: int | None = None,
        workflow: Workflow[..., Any] | None = None,
    ) -> ScheduleView:
        """Replace the definition, or change what it is now. What runs and what waits stays; other times count from now
        on and end backfills, and another limit of runs counts anew. Raises NotFound, InvalidInput, and RecordChanged
        for another version.
        """

        def edit(case: Case, now: int, rows: Executions) -> tuple[Turn, None]:
            old, book = case.book.schedule, case.book
            schedule = _checked(change(old) if callable(change) else change, name, now, workflow)
            if any(getattr(old, each) != getattr(schedule, each) for each in TIMES):
                book.cursor, book.backfills = max(book.cursor, now - 1), []
            if schedule.runs != old.runs:
                book.runs = 0
            book.schedule, book.updated_at = schedule, now
            return Turn(Plan(name, schedule), book, now, rows.ended), None

        await self._change("schedule.update", name, {}, edit, if_version)
        return await self.get(name)

    async def pause(self, name: str, note: str = "") -> ScheduleView:
        """No ticks until it is resumed; what runs goes on. Ticks of that time are not made up for."""

        def edit(case: Case, now: int, rows: Executions) -> tuple[Turn, None]:
            case.book.paused, case.book.note, case.book.updated_at = True, _note(note), now
            return Turn(case.plan, case.book, now, rows.ended), None

        await self._change("schedule.pause", name, {"note": note} if note else {}, edit)
        return await self.get(name)

    async def resume(self, name: str) -> ScheduleView:
        """Go on with the first tick from now on. Raises WrongState if it is not paused."""

        def edit(case: Case, now: int, rows: Executions) -> tuple[Turn, None]:
            book = case.book
            if not book.paused:
                raise WrongState(f"schedule {name!r} is not paused; there is nothing to resume")
            book.paused, book.note, book.updated_at = False, "", now
            book.cursor = max(book.cursor, now - 1)
            return Turn(case.plan, book, now, rows.ended), None

        await self._change("schedule.resume", name, {}, edit)
        return await self.get(name)

    async def trigger(self, name: str, overlap: Overlap | None = None) -> books.Outcome:
        """A run now, also of a paused schedule; `overlap` instead of its own policy. Tells what became of it."""
        _check_overlap(overlap)

        def edit(case: Case, now: int, rows: Executions) -> tuple[Turn, books.Outcome]:
            turn = case.turn(now, rows)
            return turn, turn.trigger(overlap)

        return await self._change("schedule.trigger", name, {"overlap": overlap} if overlap else {}, edit)

    async def backfill(
        self, name: str, begin: datetime, end: datetime, *, overlap: Overlap = "buffer_all", limit: int = 1000
    ) -> int:
        """Start the ticks between two moments of the past (both included) for which there is no execution; how many
        ticks these are. Those with an execution are left alone, so that doing it twice does nothing.

        Raises InvalidInput when there are none, or more than `limit`, and for a time before the schedule's start or
        after its end.
        """
        _check_overlap(overlap)
        first, last = moment_of("from", begin), moment_of("to", end)
        if not 1 <= limit <= MOST_BACKFILLED:
            raise InvalidInput(f"limit {limit} is not between 1 and {MOST_BACKFILLED:,}")

        def edit(case: Case, now: int, rows: Executions) -> tuple[Turn, int]:
            if not first <= last <= now:
                raise InvalidInput(f"from {begin} to {end} is no range of the past; give the earlier moment first")
            _check_within(case.plan, first, last)
            count = _count(case.plan, first, last, limit)
            if len(case.book.backfills) >= MAX_BACKFILLS:
                raise WrongState(f"schedule {name!r} has {MAX_BACKFILLS} backfills under way; wait until one is done")
            case.book.backfills.append(Backfill(first - 1, last, overlap))
            return Turn(case.plan, case.book, now, rows.ended), count

        told: dict[str, Value] = {"from": begin.isoformat(), "to": end.isoformat(), "overlap": overlap}
        return await self._change("schedule.backfill", name, told, edit)

    async def cancel_backfills(self, name: str) -> int:
        """Start no more ticks of the backfills under way, and none that wait because of one; how many backfills these
        were. What runs goes on. Raises NotFound, and WrongState if there is none.
        """

        def edit(case: Case, now: int, rows: Executions) -> tuple[Turn, int]:
            book = case.book
            count = len(book.backfills)
            waiting = [each for each in book.buffer if each.cause == "backfill"]
            if not count and not waiting:
                raise WrongState(f"schedule {name!r} has no backfill under way; there is nothing to cancel")
            book.backfills = []
            book.buffer = [each for each in book.buffer if each.cause != "backfill"]
            return Turn(case.plan, book, now, rows.ended), count

        return await self._change("schedule.cancel_backfills", name, {}, edit)

    async def delete(self, name: str, *, if_version: int | None = None) -> None:
        """The schedule, what waits of it included. What runs goes on."""
        for attempt in range(1, TRIES + 1):
            record = await self._record(name)
            _check_version(record, if_version)
            try:
                await self._act("schedule.delete", name, {}, puts=books.deletes(name, record))
            except RecordChanged:
                if if_version is not None or attempt == TRIES:
                    raise
            else:
                return

    # how

    async def _change(
        self,
        action: str,
        name: str,
        parameters: Mapping[str, Value],
        edit: Callable[[Case, int, Executions], tuple[Turn, T]],
        if_version: int | None = None,
    ) -> T:
        for attempt in range(1, TRIES + 1):
            case = await self._case(name)
            _check_version(case.record, if_version)
            rows = await read_executions(self._store, case.book.running)
            now = self._clock()
            turn, answer = edit(case, now, rows)
            turn.set_due()
            requests = case.requests(turn, (self._store.shards, now))
            try:
                await self._act(action, name, parameters, requests, case.writes(turn))
            except RecordChanged:
                if if_version is not None or attempt == TRIES:
                    raise
            else:
                return answer
        raise AssertionError(attempt)

    async def _case(self, name: str) -> Case:
        return Case(await self._record(name))

    async def _record(self, name: str) -> Record:
        [record] = await self._store.records_get(books.KIND, [schedule_name(name)])
        if record is None:
            raise await self._missing(name)
        return record

    async def _missing(self, name: str) -> NotFound:
        near = await self._store.records_list(RecordFilter(books.KIND, name[: len(name) * 3 // 4], limit=3))
        hint = (
            f"did you mean {' or '.join(repr(each.key) for each in near)}?" if near else "`edow schedule list` has all"
        )
        return NotFound(f"there is no schedule {name!r} in this store; {hint}")


def _checked(schedule: Schedule, name: str, now: int, workflow: Workflow[..., Any] | None) -> Schedule:
    made = schedule.checked()
    if workflow is not None:
        if workflow.name != made.workflow:
            raise InvalidInput(
                f"the schedule is for workflow {made.workflow!r}, and the code given is {workflow.name!r}"
            )
        workflow.signature.check(Plan(name, made).input(now))
    return made


def _check_within(plan: Plan, first: int, last: int) -> None:
    """Where the schedule has no ticks, there are none to make up for."""
    start, end = plan.schedule.start, plan.schedule.end
    if start is not None and first < moment_of("start", start):
        raise InvalidInput(
            f"schedule {plan.name!r} starts at {start.isoformat()}; backfill from then on, or update its start"
        )
    if end is not None and last > moment_of("end", end):
        raise InvalidInput(f"schedule {plan.name!r} ends at {end.isoformat()}; backfill until then, or update its end")


def _count(plan: Plan, first: int, last: int, limit: int) -> int:
    count = 0
    for tick in islice(plan.times(first - 1), limit + 1):
        if tick > last:
            break
        count += 1
    if count > limit:
        raise InvalidInput(f"there are more than {limit} ticks in that time; give less of it, or a higher limit")
    if not count:
        raise InvalidInput("there is no tick in that time; look at the schedule's cron or interval")
    return count


def _told(schedule: Schedule) -> dict[str, Value]:
    """For the audit log: what and when, and nothing of the input."""
    when: tuple[str, Value] = ("cron", schedule.cron) if schedule.cron is not None else ("every", schedule.every)
    return {"workflow": schedule.workflow, "timezone": schedule.timezone, when[0]: when[1]}


def _check_overlap(overlap: Overlap | None) -> None:
    if overlap is not None and overlap not in OVERLAPS:
        raise InvalidInput(f"overlap {overlap!r} is unknown; use {', '.join(OVERLAPS)}")


def _check_version(record: Record, if_version: int | None) -> None:
    if if_version is not None and if_version != record.version:
        raise RecordChanged(record.kind, record.key)


def _note(text: str) -> str:
    if len(text) > MAX_NOTE:
        raise InvalidInput(f"the note has {len(text)} characters; the limit is {MAX_NOTE}")
    return text
