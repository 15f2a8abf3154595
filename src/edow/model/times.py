"""Moments: microseconds since the epoch inside, RFC 3339 on the wire."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache


def rfc3339(at: int) -> str:
    """As CloudEvents wants its times, to the millisecond."""
    seconds, rest = divmod(at, 1_000_000)
    return f"{_second(seconds)}.{rest // 1_000:03d}Z"


def moment(text: str) -> datetime:
    """A time without an offset is taken as UTC. Raises ValueError."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def microseconds(text: str) -> int:
    """Raises ValueError."""
    return round(moment(text).timestamp() * 1_000_000)


def microseconds_or(text: str, otherwise: int) -> int:
    """Of what a foreign worker wrote, which may be no time at all."""
    try:
        return microseconds(text)
    except (ValueError, OverflowError):
        return otherwise


@lru_cache(4)
def _second(at: int) -> str:
    """Each event tells one or two times, thousands a second, and nearly all of them of the same second."""
    return datetime.fromtimestamp(at, UTC).isoformat().removesuffix("+00:00")
