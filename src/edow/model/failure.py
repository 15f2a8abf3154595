"""Why something failed, in a form that survives the wire and a year in a database."""

from __future__ import annotations

import re
from hashlib import blake2b

import msgspec

from edow.model.raw import OptionalRaw

PAUSED = "edow.Paused"
"""The type of the failure of an execution that somebody has paused."""


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """One failure: `type` is the exception's qualified name, `kind` tells how it came about."""

    type: str
    message: str
    kind: str = "error"  # error | schedule_to_start | start_to_close | schedule_to_close | heartbeat
    #                      | poison | discarded | cancelled | terminated | paused
    stack: str = ""
    args: OptionalRaw = None  # the exception's own arguments, where they have a JSON form
    retryable: bool = True
    step: str = ""


# What differs between two failures of one kind, the longer forms first.
_PARTICULAR = re.compile(
    r"""
    (?P<text>'[^']*'|"[^"]*"|`[^`]*`)
    | (?P<url>\b[a-z][a-z0-9+.-]*://\S+)
    | (?P<mail>\b[\w.+-]+@[\w-]+\.[\w.-]+)
    | (?P<path>(?<![\w.])(?:[a-zA-Z]:)?(?:[\\/][\w.@+-]+)+)
    | (?P<id>\b0x[0-9a-f]+\b|\b(?=[0-9a-f-]*[0-9])[0-9a-f]{8}(?:-?[0-9a-f]{2,12})*\b)
    | (?P<number>[+-]?\d+(?:[.,:]\d+)*)
    """,
    re.VERBOSE | re.IGNORECASE,
)
_LONGEST = 500  # characters of a message that count


def normalised(message: str) -> str:
    """The message without what is particular to one case: quoted text, addresses, paths, ids, numbers."""
    plain = _PARTICULAR.sub(lambda found: f"<{found.lastgroup}>", message[:_LONGEST])
    return " ".join(plain.split())


def fingerprint(task: str, type: str, message: str) -> str:
    """The same for failures of one task with one type of error and, but for particulars, one message."""
    return blake2b(f"{task}\0{type}\0{normalised(message)}".encode("utf-8", "replace"), digest_size=8).hexdigest()
