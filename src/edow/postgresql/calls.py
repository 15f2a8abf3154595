"""Statements: the schema's name put in, and several functions called by one statement.

One statement is one transaction and one round trip, whatever is done in it; nothing stays open on the server while a
client thinks, dies or is suspended, and every pooler can pass it on.
"""

from __future__ import annotations

import re

from edow.errors import InvalidInput

_OURS = re.compile(r"\bedow\.")


def quoted(name: str) -> str:
    """As an identifier."""
    return '"' + name.replace('"', '""') + '"'


def in_schema(sql: str, schema: str) -> str:
    """`edow.` becomes the schema's name."""
    if schema == "edow":
        return sql
    name = quoted(schema)
    return _OURS.sub(lambda _: f"{name}.", sql)


def encoded(text: str | None) -> bytes | None:
    """For columns of bytes, which may hold zero characters. Raises InvalidInput."""
    try:
        return text.encode() if text is not None else None
    except UnicodeEncodeError as problem:
        raise InvalidInput(f"text {problem.object[:100]!r} has no UTF-8 form: remove lone surrogates") from problem


class Calls:
    """Functions that are called in this order. `lax`: the commit does not wait for the disk."""

    def __init__(self, *, lax: bool = False) -> None:
        self.arguments: list[object] = []
        self._texts: list[str] = ["edow.lax()"] if lax else []

    def add(self, function: str, *arguments: object) -> int:
        """Which column of the answer is this function's."""
        first = len(self.arguments) + 1
        places = ", ".join([f"${number}" for number in range(first, first + len(arguments))])
        self.arguments += arguments
        self._texts.append(f"edow.{function}({places})")
        return len(self._texts) - 1

    def __bool__(self) -> bool:
        return bool(self.arguments)

    @property
    def sql(self) -> str:
        return f"SELECT {', '.join(self._texts)}"
