"""Where a page of a listing begins and ends. The same for every store."""

from __future__ import annotations

import base64
import binascii
from typing import TypeVar

import msgspec

from edow.errors import InvalidInput
from edow.model.execution import Standing, Status
from edow.store.contract import DeadLetter, ExecutionFilter, RecordFilter

Parts = TypeVar("Parts")

LATEST = (1 << 63) - 1  # later than any time, greater than any number
LAST = "\U0010ffff"  # behind every text that is a key
PART_OF = {Standing.RETRYING: Standing.RUNNING, Standing.PAUSED: Standing.PARKED}


def encode_cursor(started_at: int, number: int) -> str:
    """Behind the execution with this start and number."""
    return _encoded((started_at, number))


def decode_cursor(cursor: str) -> tuple[int, int]:
    """Raises InvalidInput for what is no cursor of ours."""
    return _decoded(cursor, tuple[int, int])


def letter_cursor(letter: DeadLetter) -> str:
    """Behind this one."""
    return _encoded((letter.at, letter.id))


def behind_letter(cursor: str | None) -> tuple[int, str] | tuple[None, None]:
    """When the last one seen failed, and its id. Raises InvalidInput for what is no cursor of ours."""
    return (None, None) if cursor is None else _decoded(cursor, tuple[int, str])


def _encoded(parts: tuple[object, ...]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(parts)).decode()


def _decoded(cursor: str, kind: type[Parts]) -> Parts:
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(cursor), type=kind)
    except (msgspec.DecodeError, binascii.Error, ValueError) as problem:
        raise InvalidInput(f"cursor {cursor!r} is not one of ours: use the `cursor` of the previous page") from problem


def standings(where: ExecutionFilter) -> list[Standing]:
    """What is to be listed, none of it twice: whatever is retrying is among what is running, too."""
    asked = {Standing(each) for each in (Status if where.status is None else where.status)}
    return [each for each in Standing if each in asked and PART_OF.get(each) not in asked]


def key_range(where: RecordFilter) -> tuple[str, str, str, int]:
    """Of records: the first key, the one to begin behind, one behind the last, and how many."""
    start = where.after if where.after is not None else LAST if where.descending else ""
    return where.prefix, start, where.prefix + LAST, where.limit
