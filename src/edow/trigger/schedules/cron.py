"""Cron expressions: the moments at which the wall clock of a zone reads as the five fields say.

Which readings match is cronsim's to say, and it is only asked about naive times; what becomes of readings that a zone
leaves out or repeats is decided here:

- A cron that matches every hour (`*/5 * * * *`) is about intervals: it fires at each real minute that reads so.
- Any other names times of the day: each fires once on its date, at the first moment at which the clock reads it or
  later.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from cronsim import CronSim, CronSimError

from edow.errors import InvalidInput
from edow.trigger.schedules.zones import EPOCH, reached, reading, spans, zone_named

MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
FIELDS = ("minute", "hour", "day-of-month", "month", "day-of-week")
SIZES = (60, 24, 31, 12, 7)  # a step may not be longer: "*/90" would silently be once an hour
MAX_TEXT = 300
SECOND = timedelta(seconds=1)
MICROSECONDS = 1_000_000

_STEP = re.compile(r"/(\d+)")


class Cron:
    """Raises InvalidInput for what is no cron expression, or no time zone."""

    def __init__(self, text: str, timezone: str) -> None:
        self._fields = _fields(text)
        self._zone = zone_named(timezone)
        parsed = _parse(self._fields, text)
        self._every_hour = parsed.hours == set(range(24))

    def after(self, at: int) -> Iterator[int]:
        """The ticks after a moment, in order; both in microseconds since the epoch."""
        seconds = at // MICROSECONDS
        found = self._intervals(seconds) if self._every_hour else self._times_of_day(seconds)
        return (each * MICROSECONDS for each in found)

    def _intervals(self, at: int) -> Iterator[int]:
        first = True
        for span in spans(self._zone, at):
            wall = EPOCH + (span.start + span.offset) * SECOND
            for match in CronSim(self._fields, wall if first else wall - SECOND):
                moment = (match - EPOCH) // SECOND - span.offset
                if moment >= span.end:
                    break
                yield moment
            else:
                return  # it never matches again
            first = False

    def _times_of_day(self, at: int) -> Iterator[int]:
        last = at
        for match in CronSim(self._fields, reading(self._zone, at)):
            moment = reached(self._zone, match)
            if moment > last:  # not what occurs a second time, nor what was left out together with another
                yield moment
                last = moment


def _fields(text: str) -> str:
    if len(text) > MAX_TEXT:
        raise InvalidInput(f"cron {text[:40]!r}… has {len(text)} characters; the limit is {MAX_TEXT}")
    fields = MACROS.get(text.strip().lower(), text).split()
    if len(fields) != len(FIELDS):
        raise InvalidInput(
            f"cron {text!r} has {len(fields)} fields; write five: {' '.join(FIELDS)}, like '30 2 * * MON-FRI', "
            f"or one of {', '.join(MACROS)}"
        )
    for name, field, size in zip(FIELDS, fields, SIZES, strict=True):
        for step in _STEP.findall(field):
            if int(step) >= size:
                raise InvalidInput(
                    f"cron {text!r}: a step of {step} is longer than the {name} field; for intervals use every='90m'"
                )
    return " ".join(fields)


def _parse(fields: str, text: str) -> CronSim:
    try:
        parsed = CronSim(fields, datetime(2000, 1, 1, tzinfo=UTC))
        next(parsed)
    except CronSimError as problem:
        raise InvalidInput(
            f"cron {text!r}: {str(problem).lower()}; the fields are {' '.join(FIELDS)}, like '30 2 * * MON-FRI'"
        ) from problem
    except StopIteration:
        raise InvalidInput(f"cron {text!r} never fires: no date is like that; check day, month and weekday") from None
    return parsed
