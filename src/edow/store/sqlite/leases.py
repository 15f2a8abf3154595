"""Who owns which shard: leases with epochs, and the count of those who would like some."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import NamedTuple

from edow.store.contract import Lease, Share

Queries = Mapping[str, str]


class Request(NamedTuple):
    """An owner says how many shards it wants until when."""

    owner: str
    wanted: int
    now: int
    until: int


def hold(connection: sqlite3.Connection, sql: Queries, request: Request) -> list[Lease]:
    """Renew, drop what is too much, take what is free; the leases of all owners then."""
    before = [Lease(*row) for row in connection.execute(sql["leases_read"]).fetchall()]
    after = decide(before, request)
    for old, new in zip(before, after, strict=True):
        if old != new:
            connection.execute(sql["leases_set"], (new.owner, new.epoch, new.until, new.shard))
    return [lease for lease in after if lease.owner]


def decide(leases: list[Lease], request: Request) -> list[Lease]:
    """Pure: renewing keeps the epoch, also of a lease that ran out unnoticed; taking raises it."""
    mine = [lease.shard for lease in leases if lease.owner == request.owner]
    free = [lease.shard for lease in leases if lease.owner != request.owner and _is_free(lease, request.now)]
    kept = set(mine[: request.wanted])
    taken = set(free[: max(0, request.wanted - len(kept))])
    return [_next(lease, request, kept, taken) for lease in leases]


def _next(lease: Lease, request: Request, kept: set[int], taken: set[int]) -> Lease:
    if lease.shard in kept:
        return Lease(lease.shard, request.owner, lease.epoch, request.until)
    if lease.shard in taken:
        return Lease(lease.shard, request.owner, lease.epoch + 1, request.until)
    if lease.owner == request.owner:
        return Lease(lease.shard, "", lease.epoch, 0)
    return lease


def _is_free(lease: Lease, now: int) -> bool:
    return not lease.owner or lease.until <= now


def release(connection: sqlite3.Connection, sql: Queries, owner: str) -> None:
    """Let go of everything at once."""
    connection.execute(sql["leases_release"], (owner,))
    connection.execute(sql["members_delete"], (owner,))


def share(connection: sqlite3.Connection, sql: Queries, part: tuple[str, int], now: int, until: int) -> Share:
    """Be counted, and hold an even share. `part`: the owner, of how many shards."""
    owner, shards = part
    connection.execute(sql["members_expire"], (now,))
    connection.execute(sql["members_set"], (owner, until))
    (members,) = connection.execute(sql["members_count"]).fetchone()
    return Share(members, hold(connection, sql, Request(owner, -(-shards // members), now, until)))
