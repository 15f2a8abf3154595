"""Mode `shared` in a database: members of a group compete for messages by claiming them for the length of a lease.

This is what a member does with claims; how one is made, and what it costs, is its database's.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from math import inf
from typing import NamedTuple

from edow.errors import Closed, Unavailable
from edow.transport.contract import Delivery, Subscription
from edow.transport.numbered import LONGEST_POLL_SECONDS, NumberedDelivery, Wakeups

SHORTEST_POLL_SECONDS = 1.0


class Claim(NamedTuple):
    """What one claim brought. `more`: there may be more at once; `due`: when something may be, else."""

    deliveries: list[NumberedDelivery]
    more: bool
    due: int | None


class Claiming(ABC):
    """One member of a group. What it holds is given back when it closes."""

    def __init__(
        self, subscription: Subscription, queues: Sequence[tuple[str, int]], clock: Callable[[], int], watch: Wakeups
    ) -> None:
        self._queues = list(queues)
        self._clock = clock
        self._watch = watch
        self._lease_us = int(subscription.lease_seconds * 1_000_000)
        # Less than a lease: a claim of somebody else is seen before it runs out, so that we know when that is.
        self._poll = max(SHORTEST_POLL_SECONDS, min(0.75 * subscription.lease_seconds, LONGEST_POLL_SECONDS))
        self._looked_at = -inf
        self._held: dict[int, NumberedDelivery] = {}
        self._claiming: asyncio.Future[Claim] | None = None
        self._ready: list[NumberedDelivery] = []  # claimed, not handed out yet
        self._more = True
        self._due: int | None = None
        self._closed = False

    @abstractmethod
    def _begin_claim(self, limit: int) -> asyncio.Future[Claim]: ...
    @abstractmethod
    async def _settle(self, deliveries: Sequence[NumberedDelivery]) -> None: ...
    @abstractmethod
    async def _give_back(self, deliveries: Sequence[NumberedDelivery], until: int) -> None: ...
    @abstractmethod
    async def _has_anything(self) -> bool:
        """Look without claiming, which is cheap and keeps nobody waiting; also when to look again."""

    async def _woken(self, left: float) -> None:  # noqa: B027  # not every database needs it
        """A notification came; somebody else's may be the quicker hand."""

    def _claimed(self, claim: Claim) -> None:  # noqa: B027
        """A claim has ended with this."""

    async def receive(self, limit: int, wait_seconds: float) -> list[Delivery]:
        """See the contract."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_seconds
        if self._closed:
            raise Closed("this subscriber is closed: subscribe again")
        while not self._closed:
            if self._wants_claim() or (self._wants_look(loop.time()) and await self._look(loop.time())):
                await self._claim(limit)
            if self._ready and not self._closed:
                return self._take_ready(limit)
            if self._more:
                continue
            now = loop.time()
            left = deadline - now
            if left <= 0 or self._closed:
                break
            self._more = await self._watch.wait(min(left, self._seconds_to_look(now)))
            if self._more:
                await self._woken(left)
        return []

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """See the contract."""
        mine = self._let_go(deliveries)
        if mine:
            await self._settle(mine)

    async def nack(self, deliveries: Sequence[Delivery], delay_seconds: float = 0.0) -> None:
        """See the contract."""
        mine = self._let_go(deliveries)
        if mine:
            await self._give_back(mine, self._clock() + int(delay_seconds * 1_000_000) if delay_seconds > 0 else 0)

    @property
    def is_closed(self) -> bool:
        return self._closed

    async def close(self) -> None:
        """See the contract."""
        if self._closed:
            return
        self._closed = True
        self._watch.close()
        if self._claiming is not None:
            await asyncio.wait([self._claiming])
            try:
                self._finish_claim()
            except Unavailable:
                pass  # then it has brought nothing
        held, self._held = list(self._held.values()), {}
        if held:
            await self._give_back(held, 0)

    def _wants_claim(self) -> bool:
        if self._claiming is not None or self._ready:
            return not self._ready
        return self._watch.take() or self._more

    def _take_ready(self, limit: int) -> list[Delivery]:
        ready: list[Delivery] = [*self._ready[:limit]]
        del self._ready[:limit]
        return ready

    async def _claim(self, limit: int) -> None:
        """A claim goes on when its receiver is cancelled; what it brings is for the next, or is given back."""
        if self._claiming is None:
            self._more = False
            self._looked_at = asyncio.get_running_loop().time()
            self._claiming = self._begin_claim(limit)
        await asyncio.wait([self._claiming])
        if not self._closed:  # else `close` gives back what it brings
            self._finish_claim()

    def _finish_claim(self) -> None:
        claiming, self._claiming = self._claiming, None
        if claiming is None:
            return
        try:
            claim = claiming.result()
        except BaseException:
            self._more = True
            raise
        self._more = self._more or claim.more
        self._due = claim.due
        self._ready += claim.deliveries
        self._held.update((each.seq, each) for each in claim.deliveries)
        self._claimed(claim)

    def _mine(self, deliveries: Sequence[Delivery]) -> list[NumberedDelivery]:
        """Those that are in our hands still."""
        held = self._held
        return [each for each in deliveries if isinstance(each, NumberedDelivery) and held.get(each.seq) is each]

    def _let_go(self, deliveries: Sequence[Delivery]) -> list[NumberedDelivery]:
        """Those that are in our hands still; they no longer are."""
        held, mine = self._held, []
        for each in deliveries:
            if isinstance(each, NumberedDelivery) and held.get(each.seq) is each:
                del held[each.seq]
                mine.append(each)
        return mine

    async def _look(self, now: float) -> bool:
        self._looked_at = now
        return await self._has_anything()

    def _wants_look(self, now: float) -> bool:
        """Something is due, or nobody has woken us for long."""
        return (self._due is not None and self._due <= self._clock()) or now >= self._looked_at + self._poll

    def _seconds_to_look(self, now: float) -> float:
        due = inf if self._due is None else (self._due - self._clock()) / 1_000_000
        return max(0.001, min(due, self._looked_at + self._poll - now))
