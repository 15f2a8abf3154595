"""What cannot be applied becomes a dead letter of no execution, with the bytes and the reason: it is not lost, and it
does not stop what comes behind it.
"""

from __future__ import annotations

import base64

import msgspec

from edow.errors import CallerError
from edow.model.failure import Failure, fingerprint
from edow.store.contract import Commit, DeadLetter, Store
from edow.transport.contract import Delivery
from edow.trigger.action import digest

MOST_BYTES = 1_048_576  # of the body that are kept; of a longer one nothing can be done with the rest
TYPE = "edow.Poison"
SOURCE = "trigger/"


class Buried(msgspec.Struct, frozen=True):
    """`source`: whose it is, as `trigger/NAME`; `where`: the same for people, with what is particular to this one."""

    source: str
    where: str
    body: bytes
    topic: str = ""  # of a message that its trigger may apply anew
    key: str | None = None


class Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """The arguments of the letter. `bytes`: of the whole body."""

    base64: str
    bytes: int
    topic: str = ""
    key: str | None = None


async def bury(store: Store, what: Buried, reason: str, now: int) -> None:
    """The same body of the same source is one letter, however often it comes; one source's letters with, but for
    particulars, one reason are one group.
    """
    step = f"{what.source}@{digest(what.body)}"
    failure = Failure(type=TYPE, message=f"{what.where}: {reason}", kind="poison", retryable=False)
    kept = base64.b64encode(what.body[:MOST_BYTES]).decode()
    letter = DeadLetter(
        id=f"poison/{step}",
        execution="",
        run=0,
        step=step,
        task="",
        args=msgspec.Raw(msgspec.json.encode(Kept(kept, len(what.body), what.topic, what.key))),
        failure=msgspec.Raw(msgspec.json.encode(failure)),
        at=now,
        fingerprint=fingerprint(what.source, TYPE, reason),
    )
    await store.commit(Commit(leases={}, dead_letters=[letter]))


def message_in(letter: DeadLetter) -> Delivery | None:
    """The message that a trigger could not apply, if this is one and all of it is here."""
    if letter.execution or not letter.source.startswith(SOURCE):
        return None
    try:
        kept = msgspec.json.decode(letter.args, type=Kept)
    except msgspec.ValidationError:  # in a group's newest letter they are left out
        return None
    body = base64.b64decode(kept.base64)
    if not kept.topic or len(body) < kept.bytes:
        return None
    return Delivery(kept.topic, body, kept.key, 1, None)


def said(problem: Exception) -> str:
    """What we said ourselves; of anything else its kind, for its words may hold the payload."""
    return str(problem) if isinstance(problem, CallerError) else f"it cannot be applied ({type(problem).__name__})"
