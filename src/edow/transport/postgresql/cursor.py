"""Modes `exclusive` and `broadcast`: reading on from a position kept in memory, claiming nothing.

Exclusive: a new subscriber begins with the oldest message that was not acknowledged, so nothing needs to be given
back. Broadcast: it begins behind the newest.

When the server has crashed, messages that were published without waiting for the disk may be gone, and others may get
their numbers. Then everything that is there is read again: what is delivered twice does no harm, what is skipped would.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from edow.errors import Closed
from edow.postgresql import Database
from edow.transport.again import Again
from edow.transport.contract import Delivery
from edow.transport.numbered import POLL_SECONDS, NumberedDelivery
from edow.transport.postgresql.guard import guarded
from edow.transport.postgresql.queues import SHIFT, bounds, channel

READ_BYTES = 32 * 1024 * 1024  # at most in one answer, or one message
READ = "SELECT * FROM edow.read($1, $2, $3, $4)"

Acknowledge = Callable[[Sequence[NumberedDelivery]], Awaitable[None]]


class Cursor:
    """A subscriber of either mode. `positions`: topic by queue, and after which message to begin."""

    def __init__(
        self,
        database: Database,
        positions: Mapping[int, tuple[str, int]],
        broadcast: bool,
        incarnation: int,
        acknowledge: Acknowledge,
    ) -> None:
        self._database = database
        self._topics = {queue: topic for queue, (topic, _) in positions.items()}
        self._after = {queue: after for queue, (_, after) in positions.items()}
        self._broadcast = broadcast
        self._incarnation: int | None = incarnation
        self._acknowledge = acknowledge
        self._watch = database.watch(*(channel(queue) for queue in positions))
        self._more = True
        self._again = Again[NumberedDelivery]()
        self._closed = False

    async def receive(self, limit: int, wait_seconds: float) -> list[Delivery]:
        """See the contract."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_seconds
        if self._closed:
            raise Closed("this subscriber is closed: subscribe again")
        while not self._closed:
            if again := self._again.take(self._database.clock(), limit):
                return [*again]
            if self._watch.take() or self._more:
                if deliveries := await self._read(limit):
                    return deliveries
                if self._more:
                    continue
            left = deadline - loop.time()
            if left <= 0 or self._closed:
                break
            due = self._again.due
            delay = POLL_SECONDS if due is None else max(0.0, due - self._database.clock()) / 1_000_000
            await self._watch.wait(min(left, POLL_SECONDS, delay))
            self._more = True  # also without a wake-up: reading costs less than a message that nobody looks for
        return []

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """See the contract."""
        mine = [each for each in deliveries if isinstance(each, NumberedDelivery)]
        if mine and not self._broadcast:
            await self._acknowledge(mine)

    async def nack(self, deliveries: Sequence[Delivery], delay_seconds: float = 0.0) -> None:
        """See the contract."""
        if self._broadcast or self._closed:
            return
        due = self._database.clock() + int(delay_seconds * 1_000_000)
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
        """A message that others wait behind was acknowledged."""
        self._watch.poke()

    async def _read(self, limit: int) -> list[Delivery]:
        self._more = False
        queues = list(self._after)
        afters, befores = list(self._after.values()), [bounds(queue)[1] for queue in queues]
        try:
            rows = await guarded(self._database.fetch(READ, afters, befores, limit, READ_BYTES))
        except BaseException:
            self._more = True
            raise
        if self._closed:
            return []
        incarnation = rows.pop()[1]
        if incarnation != self._incarnation:
            self._begin_again(incarnation)
            return []
        if rows:
            self._more = True
            self._after[queues[0]] = self._after.pop(queues[0])  # each topic has its turn at being first
        deliveries: list[Delivery] = []
        for seq, at, key, body in rows:
            queue = seq >> SHIFT
            self._after[queue] = max(self._after[queue], seq)
            delivery = NumberedDelivery(
                self._topics[queue], body, key.decode() if key is not None else None, 1, seq, at=at
            )
            if not self._again.holds_back(delivery):
                deliveries.append(delivery)
        return deliveries

    def _begin_again(self, incarnation: int | None) -> None:
        self._incarnation = incarnation
        self._more = True
        self._again = Again[NumberedDelivery]()
        for queue in self._after:
            self._after[queue] = bounds(queue)[0]
