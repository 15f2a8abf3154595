"""What is remembered of a schedule: its definition, how far its ticks are decided, and what waits or runs.

One record of kind `schedule` holds all of it. Records of kind `tick` are its index, written with it: `at/TIME/NAME`
when it must next be looked at, so that only those which are due are read, and `wait/NAME` while something waits for
executions to end, with their ids.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from edow.store.contract import Put, Record
from edow.trigger.schedules.definition import Overlap, Schedule

KIND = "schedule"
INDEX = "tick"
AT = "at/"
WAIT = "wait/"

Cause = Literal["tick", "trigger", "backfill"]
Became = Literal["started", "buffered", "skipped", "missed", "dropped", "existed"]


class Waiting(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tick whose turn comes when what runs has ended."""

    tick: int
    cause: Cause = "tick"


class Backfill(msgspec.Struct, omit_defaults=True):
    """Ticks of the past that are to be started: those after `cursor`, up to `until`."""

    cursor: int
    until: int
    overlap: Overlap


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of a tick, and when that was decided."""

    tick: int
    at: int
    became: Became
    execution: str = ""
    cause: Cause = "tick"


class Counts(msgspec.Struct):
    """Of ticks, since the schedule was made."""

    started: int = 0
    skipped: int = 0  # by the overlap policy
    missed: int = 0  # nobody was there within the catch-up window (at most 1,000 are counted at once)
    dropped: int = 0  # the buffer was full


class Book(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The body of the record. All moments are microseconds since the epoch."""

    schedule: Schedule
    created_at: int
    updated_at: int  # by a person
    cursor: int  # ticks up to here are decided
    paused: bool = False
    note: str = ""  # why it is paused
    due: int | None = None  # when it must next be looked at
    waits: bool = False  # there is a `wait/` record
    running: list[str] = []  # executions that it has started and that had not ended when it was last looked at
    cancelled: list[str] = []  # those of them that were asked to stop
    buffer: list[Waiting] = []
    backfills: list[Backfill] = []
    runs: int = 0  # ticks started, as far as they count towards the limit
    triggered_at: int = 0  # the newest moment that was a trigger's
    counts: Counts = msgspec.field(default_factory=Counts)
    recent: list[Outcome] = []  # the newest last

    @property
    def blockers(self) -> list[str]:
        """The executions whose end something waits for; none when nothing does."""
        waiting = any(each.cause != "tick" or not self.paused for each in self.buffer)
        return self.running if waiting or any(each.overlap == "buffer_all" for each in self.backfills) else []


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Book).decode
encode_blockers = msgspec.json.Encoder().encode
decode_blockers = msgspec.json.Decoder(list[str]).decode


def writes(name: str, before: Record | None, book: Book) -> list[Put]:
    """Of the record as `book` says, if nobody has changed it since `before`, and of its index."""
    old = None if before is None else decode(before.body)
    blockers = book.blockers
    book.waits = bool(blockers)
    puts = [Put(KIND, name, encode(book), if_version=0 if before is None else before.version)]
    if old is None or old.due != book.due:
        puts += _unlisted(name, old)
        if book.due is not None:
            puts.append(Put(INDEX, at_key(book.due, name), b"{}"))
    if blockers and (old is None or not old.waits or old.running != book.running):
        puts.append(Put(INDEX, WAIT + name, encode_blockers(blockers)))
    elif old is not None and old.waits and not blockers:
        puts.append(Put(INDEX, WAIT + name, None))
    return puts


def deletes(name: str, before: Record) -> list[Put]:
    """Of the record, if nobody has changed it since, and of its index. Of a record that cannot be read it stays, until
    it is due: then whoever comes upon it removes it.
    """
    puts = [Put(KIND, name, None, if_version=before.version)]
    try:
        old = decode(before.body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return puts
    return puts + _unlisted(name, old) + ([Put(INDEX, WAIT + name, None)] if old.waits else [])


def at_key(due: int, name: str) -> str:
    """Sorts by time."""
    return f"{AT}{due:020d}/{name}"


def due_of(key: str) -> tuple[int, str]:
    """Time and name of an `at/` record."""
    due, _, name = key.removeprefix(AT).partition("/")
    return int(due), name


def _unlisted(name: str, old: Book | None) -> list[Put]:
    return [] if old is None or old.due is None else [Put(INDEX, at_key(old.due, name), None)]
