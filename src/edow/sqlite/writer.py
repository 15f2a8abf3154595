"""The one thread that writes: everything asked of it in the meantime becomes one transaction and one fsync.

It promises that a job that fails fails alone, that outcomes are told after the commit, and that it goes on after any
error of the disk. It knows nothing of what the jobs do.

While the thread is at rest and the disk is quick, handing a small job over takes longer than doing it: then it is done
at once, on the caller's thread.

What may be seen before it is on disk (a start) is often followed at once by a commit that takes it there (the first
decision). While that is so, it is waited for: two syncs at the same time would only be in each other's way.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections import deque
from collections.abc import Callable
from threading import Lock, Thread
from time import perf_counter

from edow.errors import Closed
from edow.sqlite.jobs import Inbox, Job, settle
from edow.sqlite.lock import FileLock
from edow.sqlite.problems import translate

log = logging.getLogger("edow.sqlite")

GROUP = 100  # jobs in one transaction
IDLE_SECONDS = 0.5  # rest after which the WAL is brought back into the database
QUICK_SECONDS = 0.002  # a disk is quick below this
FOLLOW_SECONDS = 0.002  # within which a commit that waits for the disk must follow, to be waited for
SLOWER = 0.2  # weight of the newest commit in the average
WAITS = ("before",) if hasattr(os, "fdatasync") else ("before", "answer")  # a commit that waits for the disk


class Writer:
    """`connect` makes the connection, on the thread; what it raises, every job gets."""

    def __init__(self, path: str, connect: Callable[[], sqlite3.Connection], patience: float) -> None:
        self._path = path
        self._connect = connect
        self._patience = patience
        self._durable = True
        self._written = False  # since the last checkpoint
        self._connection: sqlite3.Connection | None = None
        self._lock: FileLock | None = None
        self._number = 0  # of transactions so far
        self._synced = 0  # the newest of them that is known to be on disk
        self._log: int | None = None  # the WAL's descriptor
        self._unanswered: deque[Job] = deque()  # committed, and waiting for a commit that takes them to the disk
        self._seen_at: float | None = None  # when the newest was committed that may be seen before it is on disk
        self._is_followed = False  # such a commit has followed the last time
        self._turn = Lock()  # held by whichever thread uses the connection
        self._seconds = QUICK_SECONDS  # that a small durable commit takes, lately
        self.inbox = Inbox(path)
        self.thread = Thread(target=self._main, name="edow-sqlite-writer", daemon=True)

    def run_at_once(self, job: Job) -> bool:
        """Do a small job here and now; False if it has to be handed over."""
        if self._seconds >= QUICK_SECONDS or not self.inbox.is_empty or not self._turn.acquire(blocking=False):
            return False
        try:
            lock, connection = self._lock, self._connection
            if lock is None or connection is None or not lock.acquire_at_once():
                return False
            begun = perf_counter()
            try:
                self._transact(connection, [job])
            finally:
                lock.release()
            self._note(job, perf_counter() - begun)
        finally:
            self._turn.release()
        self._tell(job)
        if self._is_on_disk(job):
            job.settle()
        elif self._is_followed:
            self._unanswered.append(job)
            job.loop.call_later(FOLLOW_SECONDS, self._give_up_waiting, job)
        else:
            self._hand_over(job)
        return True

    def _main(self) -> None:
        try:
            lock = FileLock(f"{self._path}-lock", self._patience)
        except OSError as problem:
            self._refuse(translate(problem, self._path))
            return
        try:
            lock.acquire()
            try:
                connection = self._connect()
            finally:
                lock.release()
        except BaseException as problem:
            self._refuse(translate(problem, self._path))
            lock.close()
            return
        self._lock, self._connection = lock, connection
        try:
            self._serve(connection, lock)
        finally:
            with self._turn:
                self._lock = self._connection = None
            self._settle_unanswered()
            if self._log is not None:
                os.close(self._log)
                self._log = None
            connection.close()
            lock.close()

    def _refuse(self, problem: BaseException) -> None:
        while (jobs := self.inbox.take(GROUP, None)) is not None:
            for job in jobs:
                job.problem = problem
            settle(jobs)

    def _serve(self, connection: sqlite3.Connection, lock: FileLock) -> None:
        while True:
            jobs = self.inbox.take(GROUP, IDLE_SECONDS)
            if jobs:
                self._run(connection, lock, [job for job in jobs if not job.future.cancelled()])
                continue
            if self._written:
                with self._turn:
                    self._checkpoint(connection, lock)
            if jobs is None:
                return

    def _run(self, connection: sqlite3.Connection, lock: FileLock, jobs: list[Job]) -> None:
        fresh = [job for job in jobs if not job.number]
        if fresh:
            with self._turn:
                self._commit(connection, lock, fresh)
            for job in fresh:
                self._tell(job)
        settle([job for job in jobs if self._is_on_disk(job)])
        waiting = [job for job in jobs if not self._is_on_disk(job)]
        if waiting:
            self._sync(waiting)
            settle(waiting)

    def _hand_over(self, job: Job) -> None:
        try:
            self.inbox.put(job)
        except Closed:  # meanwhile; what is written is written
            self._sync([job])
            job.settle()

    def _give_up_waiting(self, job: Job) -> None:
        """On its own loop: nothing else has taken it to the disk in time."""
        if self._is_on_disk(job):
            job.settle()
        elif not job.future.done():
            self._is_followed = False
            self._hand_over(job)

    def _settle_unanswered(self) -> None:
        jobs = list(self._unanswered)
        if jobs:
            self._sync(jobs)
            settle(jobs)

    def _is_on_disk(self, job: Job) -> bool:
        """As far as its caller waits for that."""
        return job.disk != "answer" or job.problem is not None or job.number <= self._synced

    def _sync(self, jobs: list[Job]) -> None:
        """Without the lock: others write on meanwhile, and read what is not on disk yet."""
        number = self._number
        try:
            if self._log is None:
                self._log = os.open(f"{self._path}-wal", os.O_RDWR | os.O_CLOEXEC)
            os.fdatasync(self._log)
        except OSError as problem:
            for job in jobs:
                job.problem = translate(problem, self._path)
        else:
            self._synced = max(self._synced, number)

    def _commit(self, connection: sqlite3.Connection, lock: FileLock, jobs: list[Job]) -> None:
        try:
            lock.acquire()
        except BaseException as problem:  # not even begun
            for job in jobs:
                job.problem = translate(problem, self._path)
            return
        begun = perf_counter()
        try:
            if not self._transact(connection, jobs):
                for job in jobs:  # one by one, so that only the guilty one fails
                    self._transact(connection, [job])
        finally:
            lock.release()
        if len(jobs) == 1:
            self._note(jobs[0], perf_counter() - begun)

    def _transact(self, connection: sqlite3.Connection, jobs: list[Job]) -> bool:
        """One transaction for all. False: rolled back, and it is not known whose fault it was."""
        try:
            durable = any(job.disk in WAITS for job in jobs)
            self._begin(connection, durable)
            for job in jobs:
                job.result = job.function(connection)
            connection.execute("COMMIT")
            self._number += 1
            for job in jobs:
                job.number = self._number
            self._order(jobs, durable)
        except BaseException as problem:
            _roll_back(connection)
            if len(jobs) > 1:
                return False
            jobs[0].problem = translate(problem, self._path)
        self._written = True
        return True

    def _order(self, jobs: list[Job], durable: bool) -> None:
        """One thread at a time: what this commit has taken to the disk; whether such a commit follows soon on one that
        is answered later than it is seen.
        """
        if durable:
            self._synced = self._number
            self._answer()
            if self._seen_at is not None:
                self._is_followed = perf_counter() - self._seen_at < FOLLOW_SECONDS
                self._seen_at = None
        elif any(job.disk == "answer" for job in jobs):
            self._seen_at = perf_counter()

    def _answer(self) -> None:
        """Whoever waits for what is on disk now."""
        covered: list[Job] = []
        while self._unanswered and self._unanswered[0].number <= self._synced:
            covered.append(self._unanswered.popleft())
        settle(covered)

    def _note(self, job: Job, seconds: float) -> None:
        """How quick the disk is, by small durable commits alone."""
        if job.disk in WAITS and job.small:
            self._seconds += SLOWER * (seconds - self._seconds)

    def _begin(self, connection: sqlite3.Connection, durable: bool) -> None:
        if durable != self._durable:
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._durable = durable
        connection.execute("BEGIN IMMEDIATE")

    def _tell(self, job: Job) -> None:
        if job.after is None or job.problem is not None:
            return
        try:
            job.after(job.result)
        except Exception:
            log.exception("%s: a wake-up failed; waiters find out by polling", self._path)

    def _checkpoint(self, connection: sqlite3.Connection, lock: FileLock) -> None:
        self._written = False
        try:
            lock.acquire()
            try:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            finally:
                lock.release()
        except Exception as problem:
            log.debug("%s: checkpoint put off: %s", self._path, problem)


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:  # SQLite has rolled back itself after a full disk
        connection.execute("ROLLBACK")
