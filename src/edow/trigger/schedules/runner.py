"""The loop that acts on schedules: in every orchestrator's process, as many as there are.

Each tick is decided by whoever writes the schedule's record first, in one transaction with the start of its execution;
the others find the record changed and have nothing to do. Only what is due is read: a look at an idle system reads one
page of the index, however many schedules there are.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Callable, Mapping

from edow.background import LONG_SECONDS, SHORT_SECONDS, Background, rested
from edow.errors import CallerError, RecordChanged, Unavailable
from edow.kpi.meter import Meter
from edow.store.contract import Put, Record, RecordFilter, Store
from edow.trigger.schedules import book as books
from edow.trigger.schedules.case import Case, Executions, read_executions
from edow.trigger.schedules.cron import MICROSECONDS

log = logging.getLogger("edow.schedules")

PAGE = 200  # schedules looked at together
AT_ONCE = 20  # written at the same time: they share transactions
WAIT_SECONDS = 0.1  # at least, between two looks at what waits for executions to end
PAUSES = (0.2, 5.0)  # after trouble: first and longest
NEVER = sys.maxsize
ASIDE = 60 * MICROSECONDS  # until a schedule that cannot be acted on is tried again


class Runner:
    """Start and stop are idempotent; `run_once` acts on what is due, for those who drive it themselves."""

    def __init__(self, store: Store, clock: Callable[[], int], meter: Meter | None = None) -> None:
        """`meter` counts how late ticks are."""
        self.started = 0  # executions, by this runner
        self._meter = meter or Meter()
        self._store = store
        self._clock = clock
        self._aside: dict[str, int] = {}
        self._waiting = False  # something waits for executions to end
        self._background = Background(("edow-schedules", self._run))

    async def start(self) -> None:
        """Begin; what is due is acted on at once."""
        self._background.start()

    async def stop(self) -> None:
        """Whatever is interrupted was stored whole or not at all."""
        await self._background.stop()

    async def run_once(self, now: int | None = None) -> float:
        """Act on all that is due; the seconds until something will be, at most LONG_SECONDS. Raises Unavailable."""
        now = self._clock() if now is None else now
        following = min(await self._act_on_due(now), await self._act_on_ended(now))
        return min(LONG_SECONDS, max(0.0, (following - now) / MICROSECONDS))

    async def _run(self) -> None:
        ended, changed = self._store.watch("ended"), self._store.watch("records")
        pause, longest = PAUSES
        try:
            while True:
                try:
                    rest = await self.run_once()
                    pause = PAUSES[0]
                except Exception as problem:  # whatever it is, schedules go on
                    trace = None if isinstance(problem, Unavailable) else problem
                    said = "schedules were not all looked at: %s; trying again in %.2g s"
                    log.warning(said, problem, pause, exc_info=trace)
                    rest, pause = pause, min(2 * pause, longest)
                if self._waiting:  # for executions, by the records' own time for records
                    await rested(min(rest, SHORT_SECONDS), ended, WAIT_SECONDS)
                else:
                    await rested(rest, changed)
        finally:
            ended.close()
            changed.close()

    async def _act_on_due(self, now: int) -> int:
        """When the next one is due."""
        following = NEVER
        async for page in self._pages(books.AT):
            entries = [(*books.due_of(each.key), each) for each in page]
            due = {name: each for at, name, each in entries if at <= now}
            later = [at for at, _, _ in entries if at > now]
            following = min([following, await self._act(due, now), *later])
            if later:
                break
        return following

    async def _act_on_ended(self, now: int) -> int:
        """On schedules of which something waits for executions, once they have ended; when the next one is due."""
        following = NEVER
        self._waiting = False
        async for page in self._pages(books.WAIT):
            self._waiting = True
            blockers = {each.key: books.decode_blockers(each.body) for each in page}
            rows = await read_executions(self._store, (id for ids in blockers.values() for id in ids))
            free = [each for each in page if rows.ended.issuperset(blockers[each.key])]
            names = {each.key.removeprefix(books.WAIT): each for each in free}
            following = min(following, await self._act(names, now))
        return following

    async def _pages(self, prefix: str) -> AsyncIterator[list[Record]]:
        after: str | None = None
        while page := await self._store.records_list(RecordFilter(books.INDEX, prefix, after, limit=PAGE)):
            yield page
            if len(page) < PAGE:
                return
            after = page[-1].key

    async def _act(self, entries: Mapping[str, Record], now: int) -> int:
        """On the schedules of these entries of the index, by name; when the first of them is due again."""
        self._aside = {name: until for name, until in self._aside.items() if until > now}
        names = [name for name in entries if name not in self._aside]
        if not names:
            return NEVER
        records = await self._store.records_get(books.KIND, names)
        cases = [case for name, record in zip(names, records, strict=True) if (case := self._read(name, record, now))]
        rows = await read_executions(self._store, (id for case in cases for id in case.asks))
        gate = asyncio.Semaphore(AT_ONCE)

        async def guarded(case: Case) -> int:
            async with gate:
                return await self._take(case, rows, now)

        current = {case.name: case for case in cases if not case.is_stale(entries[case.name].key)}
        for name in entries.keys() - current.keys() - self._aside.keys():
            await self._forget(entries[name])
        turns = await asyncio.gather(*map(guarded, current.values()), return_exceptions=True)
        for problem in turns:  # the store's own: whatever is wrong with a schedule is dealt with
            if isinstance(problem, BaseException):
                raise problem
        return min((due for due in turns if isinstance(due, int)), default=NEVER)

    def _read(self, name: str, record: Record | None, now: int) -> Case | None:
        try:
            return None if record is None else Case(record)
        except CallerError as problem:
            self._set_aside(name, problem, now)
            return None

    async def _take(self, case: Case, rows: Executions, now: int) -> int:
        """One schedule's turn; when it is due again."""
        missed = case.book.counts.missed
        turn = case.turn(now, rows)
        try:
            turn.take()
            requests = case.requests(turn, (self._store.shards, now))
            await self._store.records_put(case.writes(turn), now, requests)
        except RecordChanged:
            return now  # somebody else has acted on it, or a person has changed it: look again
        except Unavailable:
            raise
        except Exception as problem:  # the others go on
            self._set_aside(case.name, problem, now)
            return NEVER
        self.started += len(turn.starts)
        count = turn.book.counts.missed - missed
        if turn.due or count:
            started_at = self._clock()
            self._meter.ticks(case.name, [started_at - due for due in turn.due], count)
        if count:
            log.warning("schedule %s: %d ticks were longer ago than it catches up", case.name, count)
        return NEVER if turn.book.due is None else turn.book.due

    async def _forget(self, entry: Record) -> None:
        """An entry of the index that is nobody's."""
        try:
            await self._store.records_put([Put(entry.kind, entry.key, None, if_version=entry.version)], entry.at)
        except RecordChanged:
            pass  # it is somebody's again

    def _set_aside(self, name: str, problem: Exception, now: int) -> None:
        self._aside[name] = now + ASIDE
        trace = None if isinstance(problem, CallerError) else problem
        log.error("schedule %s cannot be acted on: %s; trying again in a minute", name, problem, exc_info=trace)
