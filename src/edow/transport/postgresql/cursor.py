"""Modes `exclusive` and `broadcast`: how messages are read.

When the server has crashed, messages that were published without waiting for the disk may be gone, and others may get
their numbers. Then everything that is there is read again: what is delivered twice does no harm, what is skipped would.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from edow.postgresql import Database
from edow.transport.again import Again
from edow.transport.contract import Delivery
from edow.transport.guard import guarded
from edow.transport.numbered import SHIFT, NumberedDelivery, bounds
from edow.transport.postgresql.queues import channel
from edow.transport.reading import Reading

READ_BYTES = 32 * 1024 * 1024  # at most in one answer, or one message
READ = "SELECT * FROM edow.read($1, $2, $3, $4)"

Acknowledge = Callable[[Sequence[NumberedDelivery]], Awaitable[None]]
Incarnation = Callable[[], Awaitable[int]]


class Cursor(Reading):
    """A subscriber of either mode. `positions`: topic by queue, and after which message to begin."""

    def __init__(
        self,
        database: Database,
        positions: Mapping[int, tuple[str, int]],
        broadcast: bool,
        incarnation: tuple[int, Incarnation],
        acknowledge: Acknowledge,
    ) -> None:
        """`incarnation`: the server's, when the positions were read, and what tells it."""
        watch = database.watch(*(channel(queue) for queue in positions))
        super().__init__(positions, broadcast, database.clock, watch)
        self._database = database
        self._incarnation, self._find_incarnation = incarnation
        self._acknowledge = acknowledge

    async def _settle(self, deliveries: Sequence[NumberedDelivery]) -> None:
        await self._acknowledge(deliveries)

    async def _read(self, limit: int) -> list[Delivery]:
        self._more = False
        queues = list(self._after)
        afters, befores = list(self._after.values()), [bounds(queue)[1] for queue in queues]
        try:
            rows = await guarded(self._database.fetch(READ, afters, befores, limit, READ_BYTES))
            incarnation = rows.pop()[1]
            if incarnation is None:  # it has crashed; named anew, so that it does not seem the same when it does again
                incarnation = await self._find_incarnation()
        except BaseException:
            self._more = True
            raise
        if self._closed:
            return []
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

    def _begin_again(self, incarnation: int) -> None:
        self._incarnation = incarnation
        self._more = True
        self._again = Again[NumberedDelivery]()
        for queue in self._after:
            self._after[queue] = bounds(queue)[0]
