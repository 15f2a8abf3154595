"""Cron by brute force: every minute of UTC in turn, and what the clock on the wall reads then.

It shares nothing with what it judges: its own reading of the five fields, its own way through time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)
CHUNK = 10_000  # minutes that are scanned at once
MONTHS = {name: at for at, name in enumerate("JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split(), 1)}  # noqa: SIM905
DAYS = {name: at for at, name in enumerate("SUN MON TUE WED THU FRI SAT".split())}  # noqa: SIM905


class Fields:
    """`minute hour day month weekday`: lists, ranges, steps and names."""

    def __init__(self, text: str) -> None:
        minute, hour, day, month, weekday = text.split()
        self.minutes = _values(minute, 0, 59, {})
        self.hours = _values(hour, 0, 23, {})
        self.days = _values(day, 1, 31, {})
        self.months = _values(month, 1, 12, MONTHS)
        self.weekdays = {value % 7 for value in _values(weekday, 0, 7, DAYS)}
        self.both = day.startswith("*") or weekday.startswith("*")  # as in Debian's cron; else one of them is enough

    def match(self, at: datetime) -> bool:
        return at.minute in self.minutes and at.hour in self.hours and at.month in self.months and self.match_day(at)

    def match_day(self, at: datetime) -> bool:
        day, weekday = at.day in self.days, at.isoweekday() % 7 in self.weekdays
        return (day and weekday) if self.both else (day or weekday)


class Scan:
    """What one cron makes of the minutes of a zone, in order."""

    def __init__(self, text: str, latest: datetime) -> None:
        self.found: list[datetime] = []
        self._fields = Fields(text)
        self._every_hour = self._fields.hours == set(range(24))
        self._latest = latest  # that the clock has read

    def look(self, readings: Iterable[tuple[datetime, datetime]]) -> None:
        """One that matches every hour fires whenever the clock reads so. Any other: when the clock reads so, or has
        gone past it, for the first time.
        """
        match, latest = self._fields.match, self._latest
        for at, now in readings:
            if self._every_hour:
                if match(now):
                    self.found.append(at)
            elif now > latest:
                if match(now) if now - latest == MINUTE else any(map(match, _minutes_after(latest, now))):
                    self.found.append(at)
                latest = now
        self._latest = latest


def ticks(crons: Sequence[str], zone: ZoneInfo, start: datetime, end: datetime) -> list[list[datetime]]:
    """Of each cron, in the minutes from `start` up to `end`, both UTC."""
    scans = [Scan(cron, _latest_before(zone, start)) for cron in crons]
    for at in range(0, (end - start) // MINUTE, CHUNK):
        readings = _readings(zone, start + at * MINUTE, min(CHUNK, (end - start) // MINUTE - at))
        for scan in scans:
            scan.look(readings)
    return [scan.found for scan in scans]


def sparse_ticks(cron: str, zone: ZoneInfo, start: datetime, end: datetime) -> list[datetime]:
    """Of a cron that names hours of few days, over years: only the minutes around those days are scanned."""
    fields = Fields(cron)
    found = set()
    for number in range((end - start).days + 2):
        date = start.replace(tzinfo=None) + timedelta(days=number - 1)
        if date.month in fields.months and fields.match_day(date):
            around = date.replace(tzinfo=UTC)
            [ticks_then] = ticks([cron], zone, around - timedelta(hours=16), around + timedelta(hours=40))
            found |= {each for each in ticks_then if start <= each < end}
    return sorted(found)


def transitions(zone: ZoneInfo, year: int) -> list[datetime]:
    """The hours of a year in which the offset changes."""
    at = datetime(year, 1, 1, tzinfo=UTC)
    found = []
    offset = at.astimezone(zone).utcoffset()
    while at.year == year:
        after = at + timedelta(hours=1)
        before, offset = offset, after.astimezone(zone).utcoffset()
        if before != offset:
            found.append(at)
        at = after
    return found


def _reading(at: datetime, zone: ZoneInfo) -> datetime:
    return at.astimezone(zone).replace(tzinfo=None)


@lru_cache(200)
def _latest_before(zone: ZoneInfo, start: datetime) -> datetime:
    """What the clock has read in the two days before, at most: it may have been put back."""
    return max(_reading(start - number * MINUTE, zone) for number in range(1, 2 * 1440))


@lru_cache(64)
def _readings(zone: ZoneInfo, start: datetime, minutes: int) -> list[tuple[datetime, datetime]]:
    """Kept: many crons are asked about the same days."""
    return [(at, _reading(at, zone)) for at in (start + number * MINUTE for number in range(minutes))]


def _minutes_after(latest: datetime, now: datetime) -> Iterator[datetime]:
    while latest < now:
        latest += MINUTE
        yield latest


def _values(text: str, low: int, high: int, names: dict[str, int]) -> set[int]:
    return {value for part in text.split(",") for value in _part(part, low, high, names)}


def _part(text: str, low: int, high: int, names: dict[str, int]) -> range:
    span, _, step = text.partition("/")
    if span == "*":
        first, last = low, high
    elif "-" in span:
        first, last = (_value(each, names) for each in span.split("-"))
    else:
        first = _value(span, names)
        last = high if step else first
    return range(first, last + 1, int(step or 1))


def _value(text: str, names: dict[str, int]) -> int:
    return names[text] if text in names else int(text)
