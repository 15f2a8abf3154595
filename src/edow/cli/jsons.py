"""JSON in from the command line and JSON out to scripts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec

from edow.errors import InvalidInput

MAX_BYTES = 16 * 1024 * 1024  # of text; what it encodes has a lower limit of its own


def read_json(given: str, what: str) -> Any:
    """`given` is JSON text, `@FILE`, or `-` for stdin. Raises InvalidInput naming the place of the mistake."""
    body, source = _read(given, what)
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        shown = body[:60].decode("utf-8", "replace") + ("…" if len(body) > 60 else "")
        raise InvalidInput(
            f'{source} is not JSON: {problem} in {shown!r}; text needs double quotes, like \'{{"name": "value"}}\''
        ) from problem


def read_parameters(given: str) -> dict[str, Any]:
    """--input where no code is at hand that could say which parameters there are."""
    values = read_json(given, "--input")
    if not isinstance(values, dict):
        raise InvalidInput(
            f"--input must be a JSON object of parameters by name, not {values!r:.60}; "
            "write it like '{\"order\": 7}' (only `edow run`, which has the code, takes other forms)"
        )
    return values


def _read(given: str, what: str) -> tuple[bytes, str]:
    if given == "-":
        return _limited(sys.stdin.buffer.read(MAX_BYTES + 1), f"{what} from stdin"), f"{what} from stdin"
    if not given.startswith("@"):
        return given.encode("utf-8", "surrogateescape"), what
    source = f"{what} from file {given[1:]!r}"
    try:
        with Path(given[1:]).open("rb") as file:
            return _limited(file.read(MAX_BYTES + 1), source), source
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        raise InvalidInput(f"{source} cannot be read: {reason}; name a readable file after the @") from problem


def _limited(body: bytes, source: str) -> bytes:
    if len(body) > MAX_BYTES:
        raise InvalidInput(f"{source} is over {MAX_BYTES:,} bytes; store it elsewhere and pass its name")
    return body


def to_json(value: object) -> bytes:
    """One line, or indented when a person looks at it."""
    body = msgspec.json.encode(value)
    return msgspec.json.format(body, indent=2) if sys.stdout.isatty() else body


def whole(value: msgspec.Struct) -> dict[str, Any]:
    """All fields, also those that the stored form leaves out because they have their default."""
    return {name: getattr(value, name) for name in value.__struct_fields__}


def print_json(value: object) -> None:
    """Write `value` to stdout, and nothing else."""
    print(to_json(value).decode())
