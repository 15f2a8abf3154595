"""What cannot be applied becomes a dead letter of no execution, with the bytes and the reason: it is not lost, and it
does not stop what comes behind it.
"""

from __future__ import annotations

import base64

import msgspec

from edow.model.failure import Failure, fingerprint
from edow.store.contract import Commit, DeadLetter, Store
from edow.trigger.action import digest

MOST_BYTES = 65_536  # of the body that are kept
TYPE = "edow.Poison"


class Buried(msgspec.Struct, frozen=True):
    """`source`: whose it is, as `trigger/NAME`; `where`: the same for people, with what is particular to this one."""

    source: str
    where: str
    body: bytes


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
        args=msgspec.Raw(msgspec.json.encode({"base64": kept, "bytes": len(what.body)})),
        failure=msgspec.Raw(msgspec.json.encode(failure)),
        at=now,
        fingerprint=fingerprint(what.source, TYPE, reason),
    )
    await store.commit(Commit(leases={}, dead_letters=[letter]))
