"""The thread that reads, on a connection of its own, so that no read waits for a commit."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from threading import Lock, Thread

from edow.sqlite.jobs import Inbox, Job, settle
from edow.sqlite.problems import translate

GROUP = 16  # outcomes told together


class Reader:
    """Each job sees one state of the database from its first to its last statement."""

    def __init__(self, path: str, connect: Callable[[], sqlite3.Connection]) -> None:
        self._path = path
        self._connect = connect
        self._turn = Lock()
        self._brief: sqlite3.Connection | None = None
        self.inbox = Inbox(path)
        self.thread = Thread(target=self._main, name="edow-sqlite-reader", daemon=True)

    def run_at_once(self, job: Job) -> None:
        """Do it here and now, on a connection for such jobs."""
        with self._turn:
            try:
                self._brief = self._brief or self._connect()
                _run(job, self._brief)
            except BaseException as problem:
                job.problem = translate(problem, self._path)
        job.settle()

    def close(self) -> None:
        """After the thread's end."""
        with self._turn:
            if self._brief is not None:
                self._brief.close()
                self._brief = None

    def _main(self) -> None:
        connection: sqlite3.Connection | None = None
        while (jobs := self.inbox.take(GROUP, None)) is not None:
            for job in jobs:
                try:
                    connection = connection or self._connect()
                    _run(job, connection)
                except BaseException as problem:
                    job.problem = translate(problem, self._path)
            settle(jobs)
        if connection is not None:
            connection.close()


def _run(job: Job, connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN")
    try:
        job.result = job.function(connection)
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
