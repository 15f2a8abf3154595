"""What is particular to SQLite: one file for state and messages, and all the ways in which a file can be unusable."""

import asyncio
import errno
import os
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edow.errors import Closed, EdowError, PublishFailed, StoreUnavailable, StoreUnusable
from edow.model.execution import Status
from edow.model.message import Message
from edow.sqlite import SqliteFile, writer
from edow.store.contract import Append, Commit
from edow.store.sqlite import SqliteStore
from edow.transport.contract import Mode, Subscription, TopicSpec
from edow.transport.sqlite import SqliteTransport
from tests.conformance.store_suite import T0, begin, changed, own, segment
from tests.conformance.transport_suite import drain, take

QUIET = 0.15

needs_fdatasync = pytest.mark.skipif(not hasattr(os, "fdatasync"), reason="this system cannot sync without writing")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "edow.db"


class Joined:
    """A store and a transport in one file."""

    def __init__(self, path: Path) -> None:
        self.file = SqliteFile(path)
        self.store = SqliteStore(self.file)
        self.transport = SqliteTransport(self.file)
        self.store.enlist(self.transport)

    async def open(self) -> None:
        await self.store.open()
        await self.transport.open()
        await self.transport.ensure([TopicSpec("tasks", ("workers",)), TopicSpec("results", ("us",))])

    async def close(self) -> None:
        await self.transport.close()
        await self.store.close()


@pytest.fixture
async def joined(path: Path) -> AsyncIterator[Joined]:
    joined = Joined(path)
    await joined.open()
    yield joined
    await joined.close()


async def make(path: Path) -> None:
    """A database with one execution, closed properly."""
    store = SqliteStore(SqliteFile(path))
    await store.open()
    await begin(store, "a")
    await store.close()


async def refuses(path: Path) -> str:
    """What is said when the file is opened; afterwards nothing of it is left open."""
    with pytest.raises(StoreUnusable) as caught:
        await SqliteStore(SqliteFile(path)).open()
    assert [thread.name for thread in threading.enumerate() if "sqlite" in thread.name] == []
    return str(caught.value)


# one transaction


@needs_fdatasync
async def test_a_start_is_seen_at_once_and_answered_when_on_disk(
    joined: Joined, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An orchestrator may begin with a start while its caller still waits for the disk."""
    syncing, go_on = threading.Event(), threading.Event()

    def sync(file: int) -> None:
        syncing.set()
        go_on.wait(30)

    monkeypatch.setattr(os, "fdatasync", sync)
    accepting = asyncio.create_task(begin(joined.store, "a"))
    await asyncio.to_thread(syncing.wait, 30)
    assert [row.execution for row in await joined.store.inbox_read(range(joined.store.shards), (), 10)] == ["a"]
    assert not accepting.done()
    go_on.set()
    await accepting


@needs_fdatasync
async def test_a_start_that_the_disk_does_not_take_is_not_answered(
    joined: Joined, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When syncing fails the caller hears so, and the next start is well again."""

    def fail(file: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", fail)
        with pytest.raises(StoreUnavailable, match="Input/output error"):
            await begin(joined.store, "a")
    await begin(joined.store, "b")


# reading


async def test_counting_what_is_overdue_passes_over_what_sleeps(joined: Joined) -> None:
    """However many do: in each shard the index is entered at its earliest, and left at this moment."""
    sql = "EXPLAIN QUERY PLAN " + joined.store._sql["count_rest"]
    plan = await joined.file.read(lambda connection: connection.execute(sql, (T0,)).fetchall())
    assert any(re.search(r"executions_due \(shard=\? .*wake_at<\?\)", step[-1]) for step in plan), plan


async def test_commands_of_any_size_are_read_a_few_at_a_time(joined: Joined) -> None:
    """Also when those that were asked for are more bytes than SQLite puts into one answer."""
    store, leases = joined.store, await own(joined.store)
    for n in range(5):
        await store.commit(Commit(leases=leases, commands=[("e", n % 4, b"%d" % n * (30 << 20))]))
    read = await store.inbox_read(range(store.shards), (), 10, 31 << 20)
    assert [row.command[:1] for row in read] == [b"0", b"1"]


def note(connection: sqlite3.Connection) -> None:
    """A small write."""
    connection.execute("CREATE TABLE IF NOT EXISTS note (x)")
    connection.execute("INSERT INTO note VALUES (1)")


class Syncs:
    """Counts how often the log alone was synced. The disk counts as quick, and for `patience` a commit may follow."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, patience: float) -> None:
        self.count = 0
        self._sync = os.fdatasync
        monkeypatch.setattr(os, "fdatasync", self)
        monkeypatch.setattr(writer, "QUICK_SECONDS", 60.0)
        monkeypatch.setattr(writer, "FOLLOW_SECONDS", patience)

    def __call__(self, descriptor: int) -> None:
        self.count += 1
        self._sync(descriptor)


async def followed(file: SqliteFile) -> None:
    """From now on it is expected that a commit follows what is seen before it is on disk."""
    await file.open()
    for disk in ("before", "answer", "before"):
        await file.write(note, disk=disk, small=True)


@needs_fdatasync
async def test_a_start_is_answered_by_the_commit_that_follows(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first decision's sync takes the start to the disk, too: one sync, not two that wait for each other."""
    syncs = Syncs(monkeypatch, 60.0)
    file = SqliteFile(path)
    await followed(file)
    before = syncs.count
    start = asyncio.ensure_future(file.write(note, disk="answer", small=True))
    await asyncio.sleep(0)
    assert not start.done()
    await file.write(note, small=True)
    await start
    assert syncs.count == before
    await file.close()


@needs_fdatasync
async def test_a_start_that_nothing_follows_is_answered_all_the_same(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a moment it is synced alone; the next one is, at once."""
    syncs = Syncs(monkeypatch, 0.01)
    file = SqliteFile(path)
    await followed(file)
    for _ in range(2):
        before = syncs.count
        await file.write(note, disk="answer", small=True)
        assert syncs.count == before + 1
    await file.close()


@needs_fdatasync
async def test_closing_answers_what_waits_for_a_commit_to_follow(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing follows any more: it is synced before the file is closed."""
    Syncs(monkeypatch, 60.0)
    file = SqliteFile(path)
    await followed(file)
    start = asyncio.ensure_future(file.write(note, disk="answer", small=True))
    await file.close()
    await start


async def test_a_topic_is_not_relied_on_before_it_is_on_disk(joined: Joined) -> None:
    """While the transaction that makes a topic is still open, a second `ensure` of it waits for the commit."""
    begun, hold = [threading.Event(), threading.Event()], [threading.Event(), threading.Event()]

    def block(index: int) -> None:
        begun[index].set()
        hold[index].wait(30)

    spec = TopicSpec("new", ("workers",))
    jobs: list[asyncio.Future[object]] = [asyncio.ensure_future(joined.file.write(lambda _: block(0)))]
    await asyncio.to_thread(begun[0].wait, 30)  # what comes now is one transaction, after this one
    jobs.append(asyncio.ensure_future(joined.transport.ensure([spec])))
    await asyncio.sleep(0)
    jobs.append(asyncio.ensure_future(joined.file.write(lambda _: block(1))))
    hold[0].set()
    await asyncio.to_thread(begun[1].wait, 30)  # the topic is made and not committed

    async def use() -> None:
        await joined.transport.ensure([spec])
        await joined.transport.subscribe(Subscription(topics=("new",), group="workers"))

    using = asyncio.create_task(use())
    await asyncio.sleep(0)
    hold[1].set()
    await using
    await asyncio.gather(*jobs)


# files that cannot be used


async def test_a_directory_is_refused(tmp_path: Path) -> None:
    """The error names the path and says what to do."""
    assert f"{tmp_path} is a directory" in await refuses(tmp_path)


async def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    """Nothing is made where the user may have mistyped."""
    assert "does not exist: create it" in await refuses(tmp_path / "no" / "edow.db")
    assert list(tmp_path.iterdir()) == []


async def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    """And left as it was."""
    path.write_bytes(b"Dear diary, " * 1000)
    assert f"{path} is not a database" in await refuses(path)
    assert path.read_bytes() == b"Dear diary, " * 1000


async def test_another_applications_database_is_refused(path: Path) -> None:
    """Even an unmarked one with tables; it is not even turned into WAL mode."""
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    before = path.read_bytes()
    assert "another application" in await refuses(path)
    assert path.read_bytes() == before


async def test_a_corrupted_file_is_refused_with_the_remedy(path: Path) -> None:
    """Damage in the schema is found when opening."""
    await make(path)
    content = bytearray(path.read_bytes())
    content[100:4096] = bytes(3996)
    path.write_bytes(content)
    assert "corrupted" in await refuses(path)


async def test_corrupted_pages_are_told_by_the_call_that_meets_them(path: Path) -> None:
    """Damage in the data is an error of the call, not of the process: the store can be closed and says what to do."""
    await make(path)
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    store = SqliteStore(SqliteFile(path))
    with pytest.raises(StoreUnusable, match="restore it from a backup"):
        await store.open()


async def test_a_read_only_database_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that may not be written is refused before anything is tried."""
    await make(path)
    monkeypatch.setattr(os, "access", lambda name, mode: name != str(path))  # root may write everything
    assert f"{path} is not writable" in await refuses(path)


async def test_a_database_that_becomes_read_only_says_so(joined: Joined) -> None:
    """A write that SQLite refuses for that is an error of the call, with the remedy."""
    await joined.file.write(lambda connection: connection.execute("PRAGMA query_only = ON").fetchall())
    with pytest.raises(StoreUnavailable, match="read-only: make the file"):
        await begin(joined.store, "a")


# a disk that is full


async def test_a_full_database_loses_nothing_and_recovers(joined: Joined) -> None:
    """When there is no room the call fails whole; what was stored stays, and later calls work again."""
    leases = await own(joined.store)
    (row,) = await begin(joined.store, "a")
    (pages,) = await joined.file.write(lambda connection: connection.execute("PRAGMA page_count").fetchone())
    await limit_pages(joined.file, pages + 2)
    large = Append("a", 1, 1, 1, segment("x" * 200_000))
    with pytest.raises(StoreUnavailable, match="free disk space"):
        await joined.store.commit(
            Commit(leases=leases, appends=[large], updates=[changed(row, status=Status.COMPLETED, ended_at=T0)])
        )
    with pytest.raises(PublishFailed, match="free disk space") as caught:
        await joined.transport.publish([Message("tasks", bytes(200_000)), Message("tasks", b"2")])
    assert caught.value.indexes == (0, 1)
    assert await joined.store.executions_get(["a"]) == [row]
    await limit_pages(joined.file, 1_000_000)
    await joined.store.commit(Commit(leases=leases, appends=[large]))
    assert await joined.store.history_get("a", 1) == [segment("started", "a"), large.segment]


async def test_one_callers_full_disk_is_not_anothers(joined: Joined) -> None:
    """Of calls that arrive together, the one for which there is no room fails alone."""
    (pages,) = await joined.file.write(lambda connection: connection.execute("PRAGMA page_count").fetchone())
    await limit_pages(joined.file, pages + 4)
    small, large, other = await asyncio.gather(
        joined.transport.publish([Message("tasks", b"1")]),
        joined.transport.publish([Message("tasks", bytes(500_000))]),
        joined.transport.publish([Message("tasks", b"2")]),
        return_exceptions=True,
    )
    assert isinstance(large, PublishFailed)
    assert small is other is None
    workers = await joined.transport.subscribe(Subscription(topics=("tasks",), group="workers"))
    assert await drain(workers, 2) == [b"1", b"2"]


async def limit_pages(file: SqliteFile, pages: int) -> None:
    def limit(connection: sqlite3.Connection) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}").fetchone()

    await file.write(limit)


async def test_a_disk_error_does_not_end_the_writer(joined: Joined) -> None:
    """Whatever the operating system says is StoreUnavailable for this call alone."""

    def fail(connection: sqlite3.Connection) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(StoreUnavailable, match="Input/output"):
        await joined.file.write(fail)
    await begin(joined.store, "a")


# others at the file


async def test_a_foreign_writer_delays_and_does_not_break(path: Path) -> None:
    """While somebody's sqlite3 shell holds the file, calls fail clearly after a while; then they work again."""
    store = SqliteStore(SqliteFile(path, patience=0.1))
    await store.open()
    shell = sqlite3.connect(path, isolation_level=None)
    shell.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked by another program"):
        await begin(store, "a")
    shell.execute("ROLLBACK")
    await begin(store, "a")
    shell.close()
    await store.close()


async def test_a_process_that_hangs_with_the_lock_is_told_of(path: Path) -> None:
    """A suspended process of our own kind: the error says who to look for, nothing is lost, and it ends."""
    holding = SqliteFile(path)
    store = SqliteStore(SqliteFile(path, patience=0.1))
    await store.open()
    await holding.open()
    held, release = threading.Event(), threading.Event()

    def hold(connection: sqlite3.Connection) -> None:
        held.set()
        release.wait(10)

    waiting = asyncio.ensure_future(holding.write(hold))
    await asyncio.to_thread(held.wait, 10)
    with pytest.raises(StoreUnavailable, match="held by another process"):
        await begin(store, "a")
    release.set()
    await waiting
    await begin(store, "a")
    await holding.close()
    await store.close()


async def test_a_killed_writer_leaves_no_lock(path: Path) -> None:
    """`kill -9` in the middle of a transaction: the next process goes on at once, without what was not committed."""
    await make(path)
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        child.kill()
    store = SqliteStore(SqliteFile(path, patience=1))
    await store.open()
    assert len(await begin(store, "b")) == 1
    assert await store.executions_get(["never"]) == [None]
    await store.close()
    assert sorted(os.listdir(path.parent)) == ["edow.db", "edow.db-lock"]  # nothing of the dead is left


HOLD = """
import asyncio, sys, threading
from edow.sqlite import SqliteFile, writer

def hold(connection):
    connection.execute("INSERT INTO executions (id, workflow, shard, run, status, started_at, events, correlation,"
                       " trace) VALUES ('never', '', 0, 1, 'running', 0, 0, '', '')")
    print("held", flush=True)
    threading.Event().wait()

async def main():
    file = SqliteFile(sys.argv[1])
    await file.open()
    file.watch("inbox")
    await file.write(hold)

asyncio.run(main())
"""


async def test_paths_too_long_for_a_socket_still_wake(tmp_path: Path) -> None:
    """Where a Unix socket cannot lie beside the database, it lies elsewhere; wake-ups work the same."""
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    here, there = SqliteFile(folder / "edow.db"), SqliteFile(folder / "edow.db")
    await here.open()
    await there.open()
    watch = here.watch("channel")
    waiting = asyncio.create_task(watch.wait(3600))
    await asyncio.sleep(0.01)
    there.notify({"channel"})
    assert await waiting
    await here.close()
    await there.close()
    assert [name for name in os.listdir(folder) if "wake" in name] == []


async def test_nobody_is_woken_for_what_they_do_not_wait_for(path: Path) -> None:
    """A notification goes to watches of its channel, and wakes each once however often it is repeated."""
    here, there = SqliteFile(path), SqliteFile(path)
    await here.open()
    await there.open()
    mine, other = here.watch("a", "b"), here.watch("c")
    for _ in range(100):
        there.notify({"a", "b"})
    assert await mine.wait(1)
    assert not await mine.wait(0.02)
    assert not await other.wait(0)
    await here.close()
    await there.close()


# life of a file


async def test_a_shared_file_lives_until_its_last_user_closes(path: Path) -> None:
    """Store and transport open and close the same object independently; then it can be opened again."""
    joined = Joined(path)
    for _ in range(2):
        await joined.open()
        await joined.store.close()
        await joined.transport.publish([Message("tasks", b"x")])
        await joined.transport.close()
        with pytest.raises(Closed):
            joined.file.watch("a")


async def test_close_finishes_what_was_begun(path: Path) -> None:
    """Writes that were asked for before the close are applied, and their callers are told."""
    store = SqliteStore(SqliteFile(path))
    await store.open()
    started = [asyncio.ensure_future(begin_one(store, f"id-{n}")) for n in range(50)]
    await asyncio.sleep(0)
    await store.close()
    assert await asyncio.gather(*started) == [None] * 50
    await store.open()
    assert (await store.counts(T0)).by_status == {"running": 50}
    await store.close()


async def begin_one(store: SqliteStore, id: str) -> None:
    from tests.conformance.store_suite import start

    await store.accept([start(store, id)], T0)


async def test_callers_on_several_loops_are_served(path: Path) -> None:
    """One file, two event loops on two threads: each gets its own answers."""
    store = SqliteStore(SqliteFile(path))
    await store.open()

    async def elsewhere() -> list[EdowError | None]:
        return [await begin_one(store, f"there-{n}") for n in range(20)]

    there = asyncio.to_thread(asyncio.run, elsewhere())
    here = asyncio.gather(*(begin_one(store, f"here-{n}") for n in range(20)))
    await asyncio.gather(there, here)
    assert (await store.counts(T0)).by_status == {"running": 40}
    await store.close()


# messages


async def test_more_bytes_than_one_answer_holds_come_in_several(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backlog of large messages is delivered whole, in both modes, a bounded number of bytes at a time."""
    monkeypatch.setattr("edow.sqlite.file.LARGEST_VALUE", 1_000_000)
    transport = SqliteTransport(SqliteFile(path))
    await transport.open()
    await transport.ensure([TopicSpec("t", ("shared", "exclusive"))])
    await transport.publish([Message("t", b"%02d" % n + bytes(50_000)) for n in range(80)])
    for group in ("shared", "exclusive"):
        mode: Mode = "exclusive" if group == "exclusive" else "shared"
        subscriber = await transport.subscribe(Subscription(topics=("t",), group=group, mode=mode))
        first = await subscriber.receive(1000, 1)
        assert 0 < len(first) < 80
        rest = await take(subscriber, 80 - len(first))
        assert [int(each.body[:2]) for each in [*first, *rest]] == list(range(80))
        assert {len(each.body) for each in [*first, *rest]} == {50_002}
    await transport.close()


async def test_broadcasts_are_forgotten_after_a_minute(path: Path) -> None:
    """What everybody has had time to read leaves the database."""
    clock = [T0]
    transport = SqliteTransport(SqliteFile(path), clock=lambda: clock[0])
    await transport.open()
    await transport.ensure([TopicSpec("t", ())])
    await transport.subscribe(Subscription(topics=("t",), group="", mode="broadcast"))
    for _ in range(3):
        await transport.publish([Message("t", b"x")] * 10)
        clock[0] += 61_000_000
    (count,) = await transport.file.read(
        lambda connection: connection.execute("SELECT count(*) FROM messages").fetchone()
    )
    assert count == 10
    await transport.close()
