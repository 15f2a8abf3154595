"""Moments: microseconds since the epoch inside, RFC 3339 on the wire."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

SAME = 16  # remembered: each event tells one or two times, dozens in the same millisecond when there is much to do


def rfc3339(at: int) -> str:
    """As CloudEvents wants its times, to the millisecond."""
    return _rfc3339(at // 1_000)


def moment(text: str) -> datetime:
    """A time without an offset is taken as UTC. Raises ValueError."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


@lru_cache(SAME)
def microseconds(text: str) -> int:
    """Raises ValueError."""
    return round(moment(text).timestamp() * 1_000_000)


def microseconds_or(text: str, otherwise: int) -> int:
    """Of what a foreign worker wrote, which may be no time at all."""
    try:
        return microseconds(text)
    except (ValueError, OverflowError):
        return otherwise


@lru_cache(SAME)
def _rfc3339(milliseconds: int) -> str:
    seconds, rest = divmod(milliseconds, 1_000)
    return f"{datetime.fromtimestamp(seconds, UTC).isoformat().removesuffix('+00:00')}.{rest:03d}Z"
