"""Where secrets are: `env:NAME`, `file:PATH`, or the secret itself, which is then kept in the store as it is.

A reference is what is written down and shown. What it refers to is read when needed, and neither shown nor logged.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from edow.errors import InvalidInput, NotFound

LARGEST = 4096  # bytes
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
HIDDEN = "(kept in the store)"


def checked(reference: str) -> str:
    """Itself, if it can be one. Raises InvalidInput, without repeating it."""
    kind, _, rest = reference.partition(":")
    if kind == "env" and not _NAME.fullmatch(rest):
        raise InvalidInput("a secret env:NAME needs the name of an environment variable")
    if kind == "file" and not Path(rest).is_absolute():
        raise InvalidInput("a secret file:PATH needs an absolute path, for every process to find the same file")
    if not reference or len(reference.encode()) > LARGEST:
        raise InvalidInput(f"give a secret as env:NAME, file:/PATH, or itself, of 1 to {LARGEST} bytes")
    return reference


def shown(reference: str) -> str:
    """For people: where it is, never what it is."""
    return reference if is_elsewhere(reference) else HIDDEN


def is_elsewhere(reference: str) -> bool:
    """Whether the store holds only where the secret is."""
    return reference.startswith(("env:", "file:"))


def read(reference: str) -> bytes:
    """The secret, without the newline that editors put at a file's end. Raises NotFound."""
    kind, _, rest = reference.partition(":")
    if kind == "env":
        value = os.environ.get(rest)
        if not value:
            raise NotFound(f"the secret {reference} is not there: set {rest} where this process runs")
        return value.encode()
    if kind == "file":
        try:
            with open(rest, "rb") as file:
                data = file.read(LARGEST + 1).strip(b"\r\n")
        except OSError as problem:
            raise NotFound(f"the secret {reference} cannot be read: {problem.strerror}") from None
        if not data or len(data) > LARGEST:
            raise NotFound(f"the secret {reference} must have 1 to {LARGEST} bytes")
        return data
    return reference.encode()
