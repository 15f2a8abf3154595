"""Cron by brute force: every minute of UTC in turn, and what the clock on the wall reads then.

It shares nothing with what it judges: its own reading of the five fields, its own way through time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)
FEW = 20_000
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

    def look(self, at: datetime, now: datetime) -> None:
        """One that matches every hour fires whenever the clock reads so. Any other: when the clock reads so, or has
        gone past it, for the first time.
        """
        if self._every_hour:
            if self._fields.match(now):
                self.found.append(at)
        elif now > self._latest:
            if any(self._fields.match(each) for each in _minutes_after(self._latest, now)):
                self.found.append(at)
            self._latest = now


def ticks(crons: Sequence[str], zone: ZoneInfo, start: datetime, end: datetime) -> list[list[datetime]]:
    """Of each cron, in the minutes from `start` up to `end`, both UTC."""
    before = max(_reading(start - number * MINUTE, zone) for number in range(1, 2 * 1440))
    scans = [Scan(cron, before) for cron in crons]
    for at, now in _readings(zone, start, (end - start) // MINUTE):
        for scan in scans:
            scan.look(at, now)
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
    while at.year == year:
        if at.astimezone(zone).utcoffset() != (at + timedelta(hours=1)).astimezone(zone).utcoffset():
            found.append(at)
        at += timedelta(hours=1)
    return found


def _reading(at: datetime, zone: ZoneInfo) -> datetime:
    return at.astimezone(zone).replace(tzinfo=None)


def _readings(zone: ZoneInfo, start: datetime, minutes: int) -> Iterable[tuple[datetime, datetime]]:
    """Kept, if they are few: many crons are asked about the same days."""
    moments = (start + number * MINUTE for number in range(minutes))
    return _kept(zone, start, minutes) if minutes < FEW else ((at, _reading(at, zone)) for at in moments)


@lru_cache(200)
def _kept(zone: ZoneInfo, start: datetime, minutes: int) -> list[tuple[datetime, datetime]]:
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
