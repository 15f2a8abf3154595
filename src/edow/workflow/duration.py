"""Durations as people write them: "200ms", "1h30m", seconds or a timedelta become seconds, once, where they are given.

Promises that whatever comes out is at most a thousand years and not negative; knows nothing of clocks.
"""

from __future__ import annotations

import re
from datetime import timedelta

from edow.errors import InvalidInput

Duration = str | float | timedelta
"""A text such as "1h30m", a number of seconds, or a timedelta."""

SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
LONGEST = 1000 * 365 * 86400.0
"""Seconds: all that follows from it is still a time that can be stored and written down."""
PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(us|ms|s|m|h|d|w)\s*")


def seconds(value: Duration, what: str) -> float:
    """`what` names the parameter in the error."""
    found = _seconds(value)
    if found is None or not 0 <= found <= LONGEST:
        raise InvalidInput(
            f"{what}={value!r} is not a duration: write a text with units "
            '("200ms", "30s", "1h30m", "2d"), a number of seconds, or a timedelta; not negative, and at most 1000 years'
        )
    return found


def microseconds(value: Duration, what: str) -> int:
    return round(seconds(value, what) * 1_000_000)


def optional_seconds(value: Duration | None, what: str) -> float | None:
    return None if value is None else seconds(value, what)


def _seconds(value: object) -> float | None:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return _parsed(value) if isinstance(value, str) else None


def _parsed(text: str) -> float | None:
    total, position = 0.0, 0
    while position < len(text):
        part = PART.match(text, position)
        if part is None:
            return None
        total += float(part[1]) * SECONDS[part[2]]
        position = part.end()
    return total if position else None
