"""Payloads as people may see them: indented JSON, with the values of secret fields left out, and cut when it is long.

The result is text. Templates escape it like any other text, so that nothing in a payload becomes HTML.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

MASK = "•••"
SECRET = ("password", "passwd", "secret", "token", "authorization", "credential", "api_key", "apikey", "card", "cvv")
LONGEST = 20_000  # characters of a payload on a page
LONGEST_SOURCE = 1_000_000  # bytes that are looked into at all


class Masking:
    """`names`: fields whose names contain one of these, in any case, are not shown."""

    def __init__(self, names: Iterable[str] = SECRET) -> None:
        self._names = tuple(name.casefold().strip() for name in names if name.strip())

    def shown(self, body: bytes | msgspec.Raw | None) -> str:
        """For a page."""
        if body is None:
            return ""
        raw = bytes(body)
        if len(raw) > LONGEST_SOURCE:
            return f"({len(raw):,} bytes, too large to show here)"
        text = msgspec.json.format(msgspec.json.encode(self.masked(raw)), indent=2).decode()
        return text if len(text) <= LONGEST else text[:LONGEST] + f"\n… {len(text) - LONGEST:,} characters more"

    def masked(self, body: bytes) -> object:
        """The decoded payload without its secrets. What is no JSON is shown as what it is."""
        try:
            return self._without(msgspec.json.decode(body))
        except (msgspec.DecodeError, ValueError, RecursionError):
            return body.decode("utf-8", "replace")

    def short(self, body: bytes | msgspec.Raw | None, longest: int = 120) -> str:
        """On one line."""
        if body is None:
            return ""
        raw = bytes(body)
        if len(raw) > LONGEST_SOURCE:
            return f"({len(raw):,} bytes)"
        text = msgspec.json.encode(self.masked(raw)).decode()
        return text if len(text) <= longest else text[: longest - 1] + "…"

    def _without(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {
                name: MASK if inside is not None and self.secret(name) else self._without(inside)
                for name, inside in value.items()
            }
        if isinstance(value, list):
            return [self._without(each) for each in value]
        return value

    def secret(self, name: str) -> bool:
        """Whether the field's value must not be seen."""
        folded = str(name).casefold()
        return any(each in folded for each in self._names)
