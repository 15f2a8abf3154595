"""What an exclusive subscriber was handed back and is to deliver again, and what must stay behind it.

Kept in memory: nothing is lost with it, for the next subscriber begins with whatever was not acknowledged.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import msgspec

from edow.transport.redis.deliveries import RedisDelivery

Place = tuple[str, str]  # queue and key; for a message without a key its id


class _Behind:
    """Messages of one key. Only the first is ever delivered, and the next when that was acknowledged."""

    def __init__(self) -> None:
        self.waiting: list[tuple[tuple[int, int], float, RedisDelivery]] = []
        self.out: RedisDelivery | None = None

    @property
    def due(self) -> float | None:
        if not self.waiting or (self.out is not None and not self.out.done):
            return None
        return self.waiting[0][1]


class Again:
    """False when nothing waits here."""

    def __init__(self) -> None:
        self._places: dict[Place, _Behind] = {}

    def __bool__(self) -> bool:
        return bool(self._places)

    def put(self, delivery: RedisDelivery, due: float) -> None:
        """A later delivery of a copy, so that the one handed out before means nothing any more."""
        copy = msgspec.structs.replace(delivery, count=delivery.count + 1)
        delivery.done = True
        behind = self._places.setdefault(_place(delivery), _Behind())
        if behind.out is delivery:
            behind.out = None
        heapq.heappush(behind.waiting, (copy.order, due, copy))

    def holds_back(self, delivery: RedisDelivery) -> bool:
        """Whether an earlier message of its key must be acknowledged first; then it is kept here."""
        behind = self._places.get(_place(delivery))
        if behind is None or not (behind.waiting or (behind.out is not None and not behind.out.done)):
            return False
        heapq.heappush(behind.waiting, (delivery.order, 0.0, delivery))
        return True

    def take(self, now: float, limit: int) -> Iterator[RedisDelivery]:
        """What may be delivered now."""
        for place, behind in list(self._places.items()):
            due = behind.due
            if due is not None and due <= now and limit > 0:
                limit -= 1
                behind.out = heapq.heappop(behind.waiting)[2]
                yield behind.out
            elif not behind.waiting and behind.out is not None and behind.out.done:
                del self._places[place]

    @property
    def due(self) -> float | None:
        """When something may be delivered."""
        return min((behind.due for behind in self._places.values() if behind.due is not None), default=None)


def _place(delivery: RedisDelivery) -> Place:
    if delivery.key is None:
        return delivery.queue, delivery.id.decode()
    return delivery.queue, "k" + delivery.key
