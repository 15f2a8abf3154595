"""The page of processes: orchestrators with their shards, and workers with what they do now."""

from __future__ import annotations

import msgspec

from edow.console.look import Look, now_us
from edow.console.performance import Trouble, trouble
from edow.errors import EdowError
from edow.kpi.incident import Presence
from edow.monitor.roll import Seen


class Owner(msgspec.Struct, frozen=True):
    """An orchestrator by its leases. `presence` None: it does not say anything of itself (yet)."""

    name: str
    shards: list[int]
    until: int
    presence: Presence | None


class Crew(msgspec.Struct, frozen=True):
    now: int
    shards: int
    owners: list[Owner]
    free: list[int]  # shards that nobody holds
    workers: list[Seen]
    unheard: str  # why workers cannot be called; "": they can
    trouble: Trouble


async def crew(look: Look) -> Crew:
    now = now_us()
    leases = await look.leases()
    said = await look.present()
    present = {
        each.process.rpartition(":")[0]: each for each in said
    }  # a lease adds to a process's name what is its own
    held = [lease for lease in leases if lease.until > now and lease.owner]
    owners = []
    for name in sorted({lease.owner for lease in held}):
        mine = [lease for lease in held if lease.owner == name]
        until = min(each.until for each in mine)
        owners.append(Owner(name, sorted(each.shard for each in mine), until, present.get(name.partition("/")[0])))
    workers, unheard = await _workers(look)
    taken = {lease.shard for lease in held}
    return Crew(
        now=now,
        shards=look.store.shards,
        owners=owners,
        free=[shard for shard in range(look.store.shards) if shard not in taken],
        workers=workers,
        unheard=unheard,
        trouble=await trouble(look),
    )


async def _workers(look: Look) -> tuple[list[Seen], str]:
    """And why they cannot be called."""
    if look.roll is None:
        return [], "this console was started without a transport"
    if not look.roll.possible:
        return [], "this broker cannot call all workers at once; see their own logs"
    try:
        return await look.shared.get("roll", look.roll.call), ""
    except EdowError as problem:
        return [], str(problem)
