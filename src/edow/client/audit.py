"""The audit log: what operators did, written in the transaction that does it.

An entry holds names and counts, never payloads: whoever may read the log need not be allowed to see those. Programs
that use the client without an actor are not operators, and leave no entries.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Literal

import msgspec

from edow.client.actor import Actor, Role
from edow.errors import InvalidInput
from edow.store.contract import Put, RecordFilter, Store

KIND = "audit"
RETENTION_US = 400 * 86_400 * 1_000_000  # a year, and time to look at it
SCANNED = 10_000  # entries looked at for one page, when a filter lets few of them through
READ = 500
MAX_LIMIT = 1000

Value = str | int | float | bool | None


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`target`: an execution, a dead letter, a token …; `outcome`: whether it could be done when it came to it."""

    id: str = ""
    at: int = 0
    actor: str
    role: Role
    address: str = ""
    action: str  # like execution.cancel
    target: str = ""
    parameters: Mapping[str, Value] = {}
    outcome: Literal["accepted", "refused"] = "accepted"
    reason: str = ""  # why it was refused


_decoder = msgspec.json.Decoder(Entry)


class AuditFilter(msgspec.Struct, frozen=True):
    """Conditions are joined by *and*. Newest first. `action` may be the first word of several, like `token`."""

    actor: str | None = None
    action: str | None = None
    target: str | None = None
    cursor: str | None = None
    limit: int = 100


class AuditPage(msgspec.Struct, frozen=True):
    entries: list[Entry]
    cursor: str | None  # None: this was the last page


def entry(actor: Actor, at: int, action: str, target: str, parameters: Mapping[str, Value]) -> Entry:
    """A new one. Its id sorts by time."""
    return Entry(
        id=f"{at:017d}-{secrets.token_hex(4)}",
        at=at,
        actor=actor.name,
        role=actor.role,
        address=actor.address,
        action=action,
        target=target,
        parameters=parameters,
    )


def put(entry: Entry) -> Put:
    """What writes it down, to be part of the action's own transaction."""
    return Put(KIND, entry.id, msgspec.json.encode(entry), expires_at=entry.at + RETENTION_US, quiet=True)


async def page(store: Store, where: AuditFilter) -> AuditPage:
    """One page of entries. One that a filter left nearly empty still has a cursor, if there is more to look at."""
    if not 1 <= where.limit <= MAX_LIMIT:
        raise InvalidInput(f"limit {where.limit} is not between 1 and {MAX_LIMIT}")
    found: list[Entry] = []
    after = where.cursor
    for _ in range(0, SCANNED, READ):
        records = await store.records_list(RecordFilter(KIND, after=after, descending=True, limit=READ))
        for record in records:
            after = record.key
            each = _decoder.decode(record.body)
            if _matches(each, where):
                found.append(each)
            if len(found) == where.limit:
                return AuditPage(found, after)
        if len(records) < READ:
            return AuditPage(found, None)
    return AuditPage(found, after)


def _matches(each: Entry, where: AuditFilter) -> bool:
    return (
        (where.actor is None or each.actor == where.actor)
        and (where.target is None or each.target == where.target)
        and (where.action is None or each.action == where.action or each.action.startswith(f"{where.action}."))
    )
