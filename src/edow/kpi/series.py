"""Figures over time in three resolutions, each kept for longer than the finer one; and the names they are stored by.

A name sorts by time within its resolution. A coarse bucket is made of all the finer ones in it, and making it again
gives the same bytes: whoever does so twice, or beside another, does no harm.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from edow.kpi.figures import Figures, decode, encode

SECOND = 1_000_000
MINUTE = 60
HOUR = 3600
DAY = 86_400


class Resolution(NamedTuple):
    """Buckets of `seconds`, kept for `keep` seconds. `settled`: the finer ones are merged so long after their end, and
    looked at again until `again` after it, should one of them come late.
    """

    name: str
    seconds: int
    keep: int
    settled: int = 0
    again: int = 0


FINE = Resolution("10s", 10, HOUR + 20 * MINUTE)
MIDDLE = Resolution("1m", MINUTE, DAY + 3 * HOUR, settled=30, again=15 * MINUTE)
COARSE = Resolution("1h", HOUR, 90 * DAY, settled=5 * MINUTE, again=2 * HOUR)
RESOLUTIONS = (FINE, MIDDLE, COARSE)


def bucket_start(resolution: Resolution, at: int) -> int:
    """Seconds since the epoch of the bucket that this moment (microseconds) is in."""
    seconds = at // SECOND
    return seconds - seconds % resolution.seconds


def key_of(resolution: Resolution, start: int, process: str = "all") -> str:
    return f"{prefix_of(resolution)}{start:012d}/{process}"


def prefix_of(resolution: Resolution) -> str:
    return f"{resolution.name}/"


def start_of(key: str) -> int:
    """The seconds in a key."""
    return int(key.split("/", 2)[1])


def expiry(resolution: Resolution, start: int) -> int:
    """When a bucket may be deleted, in microseconds."""
    return (start + resolution.seconds + resolution.keep) * SECOND


class Point(NamedTuple):
    """What was measured from `start` (seconds since the epoch) on, for `seconds`."""

    start: int
    seconds: int
    figures: Figures


def merged(bodies: Iterable[bytes]) -> bytes:
    """One body with all that is in these. The same bodies in the same order give the same bytes."""
    return encode(added_up(map(decode, bodies)))


def added_up(each: Iterable[Figures]) -> Figures:
    total = Figures()
    for figures in each:
        total.merge(figures)
    return total


def points(stored: Iterable[tuple[str, bytes]], resolution: Resolution) -> list[Point]:
    """Records of one resolution, several processes' together, in the order of their time."""
    found: dict[int, Figures] = {}
    for key, body in stored:
        found.setdefault(start_of(key), Figures()).merge(decode(body))
    return [Point(start, resolution.seconds, figures) for start, figures in sorted(found.items())]
