"""What `edow doctor` looks at: each check answers with findings, and a finding that is not ok names the remedy.

Thresholds stand here, beside the check that uses them. Nothing is changed by looking.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from edow.cli.output import duration, size
from edow.errors import InvalidInput
from edow.kpi.incident import Presence
from edow.kpi.waiting import Unanswered, in_vain, unanswered
from edow.model import topics
from edow.store.contract import Counts, Lease
from edow.transport.contract import TopicStats, Transport

Level = Literal["ok", "warn", "fail"]

SECOND = 1_000_000
QUICK_CHECK_BYTES = 1_000_000_000  # above, only when asked: it reads the whole file
LITTLE_DISK = 1_000_000_000
NO_DISK = 100_000_000
OLD_INBOX = 5 * SECOND
LATE_SCHEDULE = 10 * SECOND
OLD_MESSAGE = 30 * SECOND
OLDEST_SQLITE = (3, 35, 0)


class Finding(msgspec.Struct, frozen=True):
    """One line of the doctor's."""

    what: str
    level: Level
    said: str
    remedy: str = ""


def libraries(python: str, msgspec_version: str) -> Finding:
    said = f"Python {python}, SQLite {sqlite3.sqlite_version}, msgspec {msgspec_version}"
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        return Finding("versions", "fail", said, f"SQLite {'.'.join(map(str, OLDEST_SQLITE))} or newer is needed")
    return Finding("versions", "ok", said)


def disk(path: Path) -> Finding:
    free = shutil.disk_usage(path.parent).free
    said = f"{size(free)} free where the store is"
    if free < NO_DISK:
        return Finding("disk", "fail", said, "make room now: when the disk is full, nothing new is accepted")
    if free < LITTLE_DISK:
        return Finding("disk", "warn", said, "make room, or shorten the retention")
    return Finding("disk", "ok", said)


def integrity(path: Path, deep: bool) -> Finding:
    """SQLite's own check of the file's structure."""
    if not deep and path.stat().st_size > QUICK_CHECK_BYTES:
        return Finding("integrity", "warn", f"not checked: {size(path.stat().st_size)}", "use --deep to read it all")
    try:
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
        try:
            rows = connection.execute("PRAGMA quick_check(3)").fetchall()
        finally:
            connection.close()
    except sqlite3.Error as problem:
        return Finding("integrity", "fail", str(problem), "restore a backup, or try `sqlite3 FILE .recover`")
    if rows != [("ok",)]:
        said = "; ".join(str(row[0]) for row in rows)
        return Finding("integrity", "fail", said, "restore a backup, or try `sqlite3 FILE .recover`")
    return Finding("integrity", "ok", "quick_check passed")


def orchestrators(leases: Sequence[Lease], shards: int, running: int, now: int) -> Finding:
    held = [lease for lease in leases if lease.until > now]
    owners = sorted({lease.owner for lease in held})
    if not held:
        level: Level = "fail" if running else "warn"
        return Finding("orchestrators", level, "none alive", "start one: edow orchestrator MODULE (or edow dev MODULE)")
    said = f"{len(owners)} alive, {len(held)} of {shards} shards: {', '.join(owners[:4])}"
    if len(held) < shards:
        return Finding("orchestrators", "warn", said, "shards without an owner are taken within seconds; look again")
    return Finding("orchestrators", "ok", said)


def progress(counts: Counts) -> Finding:
    said = f"{counts.overdue} executions overdue, {counts.healed} healed so far"
    if counts.overdue:
        return Finding(
            "progress", "fail", said, "is an orchestrator with their code running? `edow list --status running`"
        )
    return Finding("progress", "ok", said)


def takers(said: Sequence[Presence], now: int) -> Finding:
    """Whether tasks wait for workers that are not there."""
    waits = in_vain(said, now)
    if waits is None:
        return Finding("tasks", "ok", f"{_out(unanswered(said, now), now)}; none waits in vain")
    topic = waits.topics[0]
    found = (
        f"no worker takes tasks of {', '.join(waits.topics)}, the oldest waits for {duration(waits.seconds * SECOND)}"
    )
    return Finding(
        "tasks", "fail", found, f"start a worker with tasks of {topic}, or look at its log: edow worker MODULE"
    )


def _out(tasks: Sequence[Unanswered], now: int) -> str:
    if not tasks:
        return "all are answered"
    told = f"{sum(each.tasks for each in tasks):,} published and not answered"
    since = min((each.since for each in tasks if each.since is not None), default=None)
    return told if since is None else f"{told}, the oldest that no worker is at for {duration(max(0, now - since))}"


def inbox(counts: Counts, now: int) -> Finding:
    if counts.inbox_oldest_at is None:
        return Finding("inbox", "ok", "empty")
    age = now - counts.inbox_oldest_at
    said = f"{counts.inbox} commands, the oldest {duration(age)} old"
    if age > OLD_INBOX:
        return Finding("inbox", "warn", said, "no orchestrator takes them: start one, or look at its log")
    return Finding("inbox", "ok", said)


def outbox(counts: Counts) -> Finding:
    return Finding("outbox", "ok", f"{counts.outbox} messages to publish" if counts.outbox else "empty")


def dead_letters(counts: Counts) -> Finding:
    if counts.dead_letters == 0:
        return Finding("dead letters", "ok", "none wait")
    said = f"{counts.dead_letters} wait for somebody to act"
    return Finding("dead letters", "warn", said, "`edow dlq list`, then redrive or discard")


def schedules(due: int | None, now: int) -> Finding:
    """`due`: when the first of them should be looked at."""
    late = 0 if due is None else now - due
    if late > LATE_SCHEDULE:
        said = f"one has been due for {duration(late)}"
        return Finding("schedules", "fail", said, "no orchestrator acts on it: start one, or look at its log")
    return Finding("schedules", "ok", "none is late")


def executions(counts: Counts) -> Finding:
    said = ", ".join(f"{count} {status}" for status, count in sorted(counts.by_status.items()) if count)
    return Finding("executions", "ok", (said or "none") + f"; {size(counts.bytes)} on disk")


async def workers(transport: Transport, names: Sequence[str], now: int) -> list[Finding]:
    """What waits in the task topics, and for how long."""
    if not transport.features.waiting:
        return [Finding("workers", "ok", f"{transport.features.name} does not tell what waits; see tasks")]
    try:
        stats = await transport.describe([topics.task_topic(name) for name in names])
    except InvalidInput as problem:
        return [Finding("workers", "warn", str(problem), "start an orchestrator: it makes the topics")]
    return list(lag(stats, now))


def lag(stats: Sequence[TopicStats], now: int) -> Iterator[Finding]:
    for topic in stats:
        for group in topic.groups:
            age = 0 if group.oldest_at is None else now - group.oldest_at
            said = f"{topic.topic}: {group.waiting} tasks wait"
            said += "" if group.in_flight is None else f", {group.in_flight} with workers"
            if group.waiting and age > OLD_MESSAGE:
                said += f", the oldest for {duration(age)}"
                yield Finding("workers", "warn", said, "start more workers: edow worker MODULE")
            else:
                yield Finding("workers", "ok", said)
