"""What cannot be applied becomes a dead letter of no execution, with the bytes and the reason: it is not lost, and it
does not stop what comes behind it.
"""

from __future__ import annotations

import base64

import msgspec

from edow.model.failure import Failure
from edow.store.contract import Commit, DeadLetter, Store
from edow.trigger.action import digest

MOST_BYTES = 65_536  # of the body that are kept


async def bury(store: Store, trigger: str, body: bytes, reason: str, now: int) -> None:
    """The same body of the same trigger is one letter, however often it comes."""
    step = f"trigger/{trigger}@{digest(body)}"
    failure = Failure(type="edow.Poison", message=reason, kind="poison", retryable=False)
    kept = base64.b64encode(body[:MOST_BYTES]).decode()
    letter = DeadLetter(
        id=f"poison/{step}",
        execution="",
        run=0,
        step=step,
        task="",
        args=msgspec.Raw(msgspec.json.encode({"base64": kept, "bytes": len(body)})),
        failure=msgspec.Raw(msgspec.json.encode(failure)),
        at=now,
    )
    await store.commit(Commit(leases={}, dead_letters=[letter]))
