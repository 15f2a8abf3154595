"""Modes `exclusive` and `broadcast` in a database: reading on from a position kept in memory, claiming nothing.

Exclusive: a new subscriber begins with the oldest message that was not acknowledged, so nothing needs to be given
back. Broadcast: it begins behind the newest.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from math import inf

from edow.errors import Closed
from edow.transport.again import Again
from edow.transport.contract import Delivery
from edow.transport.numbered import LONGEST_POLL_SECONDS, POLL_SECONDS, NumberedDelivery, Wakeups


class Reading(ABC):
    """A subscriber of either mode. `positions`: topic by queue, and after which message to begin."""

    def __init__(
        self, positions: Mapping[int, tuple[str, int]], broadcast: bool, clock: Callable[[], int], watch: Wakeups
    ) -> None:
        self._topics = {queue: topic for queue, (topic, _) in positions.items()}
        self._after = {queue: after for queue, (_, after) in positions.items()}
        self._broadcast = broadcast
        self._clock = clock
        self._watch = watch
        self._more = True
        self._poll = LONGEST_POLL_SECONDS if broadcast else POLL_SECONDS
        self._looked_at = -inf
        self._again = Again[NumberedDelivery]()
        self._closed = False

    @abstractmethod
    async def _read(self, limit: int) -> list[Delivery]:
        """What comes next; sets `_more` if there may be something behind it."""

    @abstractmethod
    async def _settle(self, deliveries: Sequence[NumberedDelivery]) -> None: ...

    async def receive(self, limit: int, wait_seconds: float) -> list[Delivery]:
        """See the contract."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_seconds
        if self._closed:
            raise Closed("this subscriber is closed: subscribe again")
        while not self._closed:
            if again := self._again.take(self._clock(), limit):
                return [*again]
            if self._watch.take() or self._more or loop.time() >= self._looked_at + self._poll:
                self._looked_at = loop.time()
                if deliveries := await self._read(limit):
                    return deliveries
                if self._more:
                    continue
            now = loop.time()
            left = deadline - now
            if left <= 0 or self._closed:
                break
            due = self._again.due
            delay = inf if due is None else max(0.0, due - self._clock()) / 1_000_000
            self._more = await self._watch.wait(min(left, delay, max(0.0, self._looked_at + self._poll - now)))
        return []

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """See the contract."""
        mine = [each for each in deliveries if isinstance(each, NumberedDelivery)]
        if mine and not self._broadcast:
            await self._settle(mine)

    async def nack(self, deliveries: Sequence[Delivery], delay_seconds: float = 0.0) -> None:
        """See the contract."""
        if self._broadcast or self._closed:
            return
        due = self._clock() + int(delay_seconds * 1_000_000)
        for delivery in deliveries:
            if isinstance(delivery, NumberedDelivery) and not delivery.done:
                delivery.cursor = self
                self._again.put(delivery, due)
        self._watch.poke()

    async def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Nothing expires here."""
        return []

    @property
    def is_closed(self) -> bool:
        return self._closed

    async def close(self) -> None:
        """See the contract."""
        self._closed = True
        self._watch.close()

    def poke(self) -> None:
        """A message that others wait behind was acknowledged. Any thread."""
        self._watch.poke()
