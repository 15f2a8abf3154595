"""One SQLite file as a process sees it: a writer thread, a reader thread, and channels to wait on.

Store and transport may share one object; each opens and closes it, and it lives from the first open to the last close.
Callers may be on different event loops.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from threading import Lock

from edow.errors import Closed
from edow.sqlite.jobs import Disk, Function, Job, Result
from edow.sqlite.problems import check_path, translate
from edow.sqlite.reader import Reader
from edow.sqlite.schema import APPLICATION_ID, Schema, check_identity
from edow.sqlite.wake import Hub, Watch
from edow.sqlite.writer import Writer

PAGE_BYTES = 4096
CHECKPOINT_PAGES = 1000  # 4 MiB of log; a commit over log that is there already costs less than one that extends it
WAL_KEPT_BYTES = 64 * 1024 * 1024  # after a burst the WAL shrinks to this
LARGEST_VALUE = 64 * 1024 * 1024  # bytes in one row or one packed answer: bounds what a read can take
STATEMENTS = 200  # prepared statements kept


class SqliteFile:
    """`patience`: seconds to wait for another process that is writing, before StoreUnavailable."""

    def __init__(self, path: str | Path, *, patience: float = 10.0) -> None:
        self.path = os.path.realpath(path)
        self._patience = patience
        self._gate = Lock()
        self._users = 0
        self._writer: Writer | None = None
        self._reader: Reader | None = None
        self._hub: Hub | None = None

    async def open(self) -> None:
        """Raises StoreUnusable or StoreUnavailable; then it is as if it had not been called."""
        with self._gate:
            if not self._users:
                self._start()
            self._users += 1
        try:
            await self.write(_nothing, disk="later")
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """The last of as many closes as opens finishes what was begun and ends the threads."""
        with self._gate:
            if not self._users:
                return
            self._users -= 1
            if self._users:
                return
            writer, reader, hub = self._writer, self._reader, self._hub
            self._writer = self._reader = self._hub = None
        await asyncio.to_thread(_stop, writer, reader, hub)

    async def migrate(self, schema: Schema) -> None:
        """Bring a component's tables to this release's version."""
        await self.write(lambda connection: schema.apply(connection, self.path))

    def write(
        self,
        function: Function[Result],
        *,
        disk: Disk = "before",
        small: bool = False,
        after: Callable[[Result], None] | None = None,
    ) -> Awaitable[Result]:
        """Run it on the writer thread, in one transaction with whatever else is waiting; what it returned, once
        committed and as far on disk as asked. `small`: a few rows, done at once on the caller's thread when the writer
        is at rest and the disk is quick. `after` is called with the result after the commit and before
        the caller goes on, on the thread that committed.
        """
        writer = self._writer
        if writer is None:
            raise Closed(f"{self.path} is closed")
        job = Job(function, disk, after, small)
        if not (small and writer.run_at_once(job)):
            writer.inbox.put(job)
        return job.future

    def read(self, function: Function[Result], *, brief: bool = False) -> Awaitable[Result]:
        """Run it on the reader thread; all of its statements see one state. `brief`: a few rows by key, read at once
        on the caller's thread, because going to another takes longer.
        """
        reader = self._reader
        if reader is None:
            raise Closed(f"{self.path} is closed")
        job = Job(function)
        if brief:
            reader.run_at_once(job)
        else:
            reader.inbox.put(job)
        return job.future

    def watch(self, *channels: str) -> Watch:
        """Wait for any of these channels."""
        return self._need_hub().watch(channels)

    def notify(self, channels: set[str]) -> None:
        """Tell whoever waits on them, in every process. Never blocks; any thread."""
        hub = self._hub
        if hub is not None and channels:
            hub.notify(channels)

    def size(self) -> int:
        """Bytes on disk."""
        return sum(os.path.getsize(file) for file in (self.path, f"{self.path}-wal") if os.path.exists(file))

    def _start(self) -> None:
        check_path(self.path)
        try:
            self._hub = Hub(f"{self.path}-wake")
        except OSError as problem:
            raise translate(problem, self.path) from problem
        self._writer = Writer(self.path, self._connect_writer, self._patience)
        self._reader = Reader(self.path, self._connect_reader)
        self._writer.thread.start()
        self._reader.thread.start()

    def _need_hub(self) -> Hub:
        if self._hub is None:
            raise Closed(f"{self.path} is closed")
        return self._hub

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path,
            timeout=self._patience,  # for foreign programs, such as somebody's sqlite3 shell
            isolation_level=None,
            check_same_thread=False,
            cached_statements=STATEMENTS,
        )
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST_VALUE)
        connection.execute("PRAGMA cache_size = -32000")
        connection.execute("PRAGMA temp_store = MEMORY")
        return connection

    def _connect_writer(self) -> sqlite3.Connection:
        connection = self._connect()
        try:
            known = check_identity(connection, self.path)
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            connection.execute(f"PRAGMA journal_size_limit = {WAL_KEPT_BYTES}")
            if not known:
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect_reader(self) -> sqlite3.Connection:
        connection = self._connect()
        connection.execute("PRAGMA query_only = ON")
        return connection


def _nothing(connection: sqlite3.Connection) -> None:
    """A transaction that shows that the file can be written."""


def _stop(writer: Writer | None, reader: Reader | None, hub: Hub | None) -> None:
    for thread in (reader, writer):  # the writer last: what it commits may still wake somebody
        if thread is not None:
            thread.inbox.close()
            thread.thread.join()
    if reader is not None:
        reader.close()
    if hub is not None:
        hub.close()
