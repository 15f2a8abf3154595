"""What the clock on the wall reads in a time zone: stretches of time with one offset from UTC.

All moments are whole seconds since the epoch. `zoneinfo` tells the offset at a moment and not when it changes; that is
searched for once per zone and year.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from edow.errors import InvalidInput

STEP = 6 * 3600  # seconds; no zone has changed twice within so little time since 1970
LAST_YEAR = 9000
MARGIN = 36 * 3600  # more than any offset, and than any clock was ever put forward at once

EPOCH = datetime(1970, 1, 1)


class Span(NamedTuple):
    """From `start` up to `end` the wall clock reads UTC plus `offset`."""

    start: int
    end: int
    offset: int


def zone_named(name: str) -> ZoneInfo:
    """Raises InvalidInput."""
    try:
        return ZoneInfo(name)
    except (OSError, ValueError) as problem:  # ZoneInfoNotFoundError is a KeyError
        raise _unknown(name) from problem
    except KeyError as problem:
        raise _unknown(name) from problem


def spans(zone: ZoneInfo, at: int) -> Iterator[Span]:
    """One after the other, the first beginning at `at`; cut at each new year."""
    for year in range(datetime.fromtimestamp(at, UTC).year, LAST_YEAR):
        begin = max(at, _year(year))
        changes = [each for each in _changes(zone, year) if each > begin]
        for start, end in zip([begin, *changes], [*changes, _year(year + 1)], strict=True):
            yield Span(start, end, _offset(zone, start))


def reading(zone: ZoneInfo, at: int) -> datetime:
    """The wall clock at a moment, as a naive datetime."""
    return EPOCH + timedelta(seconds=at + _offset(zone, at))


def reached(zone: ZoneInfo, wall: datetime) -> int:
    """The first moment at which the wall clock reads `wall` or later.

    So a reading that is left out when clocks go forward is reached when they do, and one that occurs twice when it
    occurs first.
    """
    seconds = (wall - EPOCH) // timedelta(seconds=1)
    for span in spans(zone, seconds - MARGIN):
        moment = max(span.start, seconds - span.offset)
        if moment < span.end:
            return moment
    raise InvalidInput(f"{wall} is too far in the future")


def _offset(zone: ZoneInfo, at: int) -> int:
    offset = datetime.fromtimestamp(at, zone).utcoffset()
    return 0 if offset is None else offset // timedelta(seconds=1)


@lru_cache(4096)
def _changes(zone: ZoneInfo, year: int) -> tuple[int, ...]:
    """The moments of a year at which the offset changes."""
    found = []
    before, end = _year(year), _year(year + 1)
    while before < end:
        after = min(before + STEP, end)
        if _offset(zone, before) != _offset(zone, after):
            found.append(_first_with(zone, before, after))
        before = after
    return tuple(found)


def _first_with(zone: ZoneInfo, before: int, after: int) -> int:
    """The first moment that has the offset of `after`."""
    old = _offset(zone, before)
    while after - before > 1:
        middle = (before + after) // 2
        if _offset(zone, middle) == old:
            before = middle
        else:
            after = middle
    return after


def _year(year: int) -> int:
    return int(datetime(year, 1, 1, tzinfo=UTC).timestamp())


def _unknown(name: str) -> InvalidInput:
    return InvalidInput(
        f"time zone {name!r} is unknown; use a name of the IANA database like 'Europe/Berlin', or 'UTC' "
        "(a system without that database needs the Python package tzdata)"
    )
