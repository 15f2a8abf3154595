"""Webhooks that were given up, sent again: many in one transaction, with what the audit log is told of it."""

from __future__ import annotations

from collections.abc import Sequence

from edow.client.audit import Value
from edow.client.link import Link
from edow.errors import RecordChanged
from edow.store.contract import DeadLetter
from edow.trigger import given_up


async def send_again(link: Link, letters: Sequence[DeadLetter], action: str, target: str = "") -> int:
    """How many; those that somebody else acts on meanwhile are left out."""
    if not letters:
        return 0
    now = link.clock()
    puts, closed = given_up.again(letters, now)
    told: dict[str, Value] = {"letters": len(letters)}
    entries = link.entries(action, target or (letters[0].id if len(letters) == 1 else ""), told, now)
    try:
        await link.store.records_put([*puts, *entries], now, letters=closed)
    except RecordChanged:
        return 0 if len(letters) == 1 else sum([await send_again(link, [each], action, target) for each in letters])
    return len(letters)
