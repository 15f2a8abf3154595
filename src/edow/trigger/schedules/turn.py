"""Deciding: what becomes of a schedule's ticks now. Pure; whoever calls stores the outcome whole or not at all.

A tick is decided once, in order, and never before its time; `Book.cursor` only moves forward. So it does not matter
who decides, how many try, or whose clock is behind: what is stored first is what happened.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from itertools import islice, takewhile

from edow.trigger.schedules.book import Backfill, Became, Book, Cause, Outcome, Waiting
from edow.trigger.schedules.definition import GRAIN, Overlap, Plan, Schedule, execution_of

BATCH = 100  # ticks decided at once; the rest follows at once
MAX_BUFFER = 1000
MAX_RUNNING = 1000  # remembered
MAX_RECENT = 10
MOST_MISSED = 1000  # counted, of one outage


class Turn:
    """One look at a schedule at `now`: change `book`, and collect what has to be stored with it."""

    def __init__(self, plan: Plan, book: Book, now: int, ended: Collection[str], taken: Collection[str] = ()) -> None:
        """`ended`: those of `book.running` that have; `taken`: ids of `backfill_ids` under which there are executions
        already.
        """
        self.book = book
        self.starts: list[int] = []  # ticks
        self.cancels: list[str] = []  # executions
        self.due: list[int] = []  # of the calendar's ticks among the starts: when they were
        self._plan = plan
        self._now = now
        self._taken = taken
        self._policy = plan.schedule.overlap
        book.running = [each for each in book.running if each not in ended]
        running = set(book.running)
        book.cancelled = [each for each in book.cancelled if each in running]

    def take(self) -> None:
        """Everything that is due: what waited, what is made up for, and new ticks, in this order."""
        self._release()
        self._backfill()
        if not self.book.paused:
            self._skip_missed()
            self._decide_ticks()
        self.set_due()

    def trigger(self, overlap: Overlap | None) -> Outcome:
        """A run now, whatever the calendar says. Its moment differs from every tick's and every other trigger's."""
        at = max(self._now, self.book.triggered_at + 1)
        if at % GRAIN == 0:
            at += 1
        self.book.triggered_at = at
        self._release()
        return self._offer(at, "trigger", overlap or self._policy)

    def set_due(self) -> None:
        """When to look at it next: at the next tick's time, or now if there is something to do."""
        book = self.book
        following = None if book.paused or self._left() <= 0 else next(self._plan.ticks(book.cursor), None)
        book.due = None if following is None else self._plan.fires(following)
        waiting = not book.running and any(each.cause != "tick" or not book.paused for each in book.buffer)
        if waiting or any(not self._must_wait(each) for each in book.backfills):
            book.due = self._now

    def _release(self) -> None:
        """What waits, as far as nothing runs; ticks of the calendar wait for the end of a pause besides."""
        book = self.book
        held: list[Waiting] = []
        ready: deque[Waiting] = deque()
        for each in book.buffer:
            (held if book.paused and each.cause == "tick" else ready).append(each)
        while ready and not book.running:
            each = ready.popleft()
            self._start(each.tick, each.cause, self._policy)
        book.buffer = sorted([*held, *ready], key=lambda each: each.tick)

    def _backfill(self) -> None:
        budget = BATCH
        for each in self.book.backfills:
            for tick in self._plan.times(each.cursor):
                if not budget or tick > each.until or self._must_wait(each):
                    break
                each.cursor = tick
                budget -= 1
                if execution_of(self._plan.name, tick) in self._taken:
                    self._note(tick, "existed", "backfill")
                else:
                    self._offer(tick, "backfill", each.overlap)
        self.book.backfills = [each for each in self.book.backfills if self._has_more(each)]

    def _must_wait(self, backfill: Backfill) -> bool:
        """One after another: they need no buffer, having their own place."""
        return backfill.overlap == "buffer_all" and bool(self.book.running)

    def _has_more(self, backfill: Backfill) -> bool:
        following = next(self._plan.times(backfill.cursor), None)
        return following is not None and following <= backfill.until

    def _skip_missed(self) -> None:
        """Over what nobody was there for within the window, however long that was."""
        book, plan = self.book, self._plan
        before = self._now - plan.catch_up - plan.jitter
        if book.cursor >= before - 1 or self._left() <= 0:
            return
        missed = list(islice(takewhile(lambda tick: tick < before, plan.ticks(book.cursor)), MOST_MISSED))
        if missed:
            book.counts.missed += len(missed) - 1
            self._note(missed[0], "missed", "tick")
        book.cursor = before - 1

    def _decide_ticks(self) -> None:
        book, plan = self.book, self._plan
        for tick in islice(plan.ticks(book.cursor), BATCH):
            fires = plan.fires(tick)
            if fires > self._now or self._left() <= 0:
                break
            book.cursor = tick
            if fires < self._now - plan.catch_up:
                self._note(tick, "missed", "tick")
            else:
                self._offer(tick, "tick", self._policy)

    def _left(self) -> int:
        """Ticks that may still be started."""
        limit = self._plan.schedule.runs
        waiting = sum(each.cause == "tick" for each in self.book.buffer)
        return BATCH if limit is None else limit - self.book.runs - waiting

    def _offer(self, tick: int, cause: Cause, overlap: Overlap) -> Outcome:
        book = self.book
        if not book.running or overlap == "allow_all":
            return self._start(tick, cause, overlap)
        if overlap == "skip" or (overlap == "buffer_one" and book.buffer):
            return self._note(tick, "skipped", cause)
        if overlap == "cancel_other":
            asked = set(book.cancelled)
            self.cancels += [each for each in book.running if each not in asked]
            book.cancelled = list(book.running)
            for each in book.buffer:
                self._note(each.tick, "skipped", each.cause)
            book.buffer = []
        if len(book.buffer) >= MAX_BUFFER:
            return self._note(tick, "dropped", cause)
        book.buffer.append(Waiting(tick, cause))
        return self._note(tick, "buffered", cause)

    def _start(self, tick: int, cause: Cause, overlap: Overlap) -> Outcome:
        book = self.book
        execution = execution_of(self._plan.name, tick)
        self.starts.append(tick)
        if cause == "tick":
            book.runs += 1
            self.due.append(self._plan.fires(tick))
        if overlap != "allow_all" or self._policy != "allow_all":  # which never asks
            book.running = [*book.running, execution][-MAX_RUNNING:]
        return self._note(tick, "started", cause)

    def _note(self, tick: int, became: Became, cause: Cause) -> Outcome:
        counts = self.book.counts
        if became in ("started", "skipped", "missed", "dropped"):
            setattr(counts, became, getattr(counts, became) + 1)
        execution = execution_of(self._plan.name, tick) if became in ("started", "existed") else ""
        outcome = Outcome(tick, self._now, became, execution, cause)
        if became != "buffered":  # more will become of it
            self.book.recent = [*self.book.recent, outcome][-MAX_RECENT:]
        return outcome


def backfill_ids(plan: Plan, book: Book) -> list[str]:
    """The executions that the next turn's backfills may start."""
    ticks: list[int] = []
    for each in book.backfills:
        for tick in islice(plan.times(each.cursor), BATCH):
            if tick > each.until:
                break
            ticks.append(tick)
    return [execution_of(plan.name, tick) for tick in ticks]


def new_book(schedule: Schedule, now: int) -> Book:
    """Of a schedule that begins now."""
    return Book(schedule=schedule, created_at=now, updated_at=now, cursor=now - 1)
