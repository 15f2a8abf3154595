"""Which shards are ours. A lease is renewed three times within its life; whoever is dead or frozen loses it."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Sequence

from edow.errors import StoreUnavailable
from edow.orchestrator.config import OrchestratorConfig
from edow.store.contract import Lease, Store

PATIENCE = 3  # lease times


class Leases:
    """Holds this orchestrator's fair share of the shards."""

    def __init__(self, store: Store, config: OrchestratorConfig, now: Callable[[], int]) -> None:
        self._store = store
        self._config = config
        self._now = now
        # Not only the name: whoever starts again under it, or beside it, must not pass for this one.
        self._owner = f"{config.name}/{secrets.token_hex(4)}"
        self._until = 0

    @property
    def interval(self) -> float:
        """Seconds between two renewals."""
        return self._config.lease_ttl / 3

    @property
    def expired(self) -> bool:
        """Whether others hold what we held, most likely: they have had a lease time to take it. A store that answered
        nobody has let nobody take anything, and we go on.
        """
        return self._now() >= self._until + int(self._config.lease_ttl * 1_000_000)

    async def run_once(self) -> dict[int, int]:
        """Renew, and take or give up shards; the shards we hold now, with their epochs. Raises StoreUnavailable, after
        some lease times at the latest: a store that is only slow answers by then, and asking anew would begin anew.
        """
        seconds = PATIENCE * self._config.lease_ttl
        try:
            async with asyncio.timeout(seconds):
                return await self._renew()
        except TimeoutError:
            raise StoreUnavailable(f"no answer within {seconds:g} s") from None

    async def _renew(self) -> dict[int, int]:
        now = self._now()
        until = now + int(self._config.lease_ttl * 1_000_000)
        members, leases = await self._store.leases_share(self._owner, now, until)
        least, rest = divmod(self._store.shards, members)
        if rest and self._is_rich(leases, members, now):
            leases = await self._store.leases_hold(self._owner, least, now, until)
        self._until = until
        return {lease.shard: lease.epoch for lease in leases if lease.owner == self._owner}

    def _is_rich(self, leases: Sequence[Lease], members: int, now: int) -> bool:
        """Whether we have one more than somebody who lacks one, and there is none to be had."""
        held = Counter(lease.owner for lease in leases if lease.until > now)
        least = self._store.shards // members
        poorest = min(held.values()) if len(held) >= members else 0
        return held.total() == self._store.shards and poorest < least < held[self._owner]

    async def release(self) -> None:
        """Let others take over at once."""
        await self._store.leases_release(self._owner)
