"""What an exclusive subscriber was handed back and is to deliver again, and what must stay behind it.

For transports that read on from a position. Kept in memory: nothing is lost with it, for the next subscriber begins
with whatever was not acknowledged. Knows nothing of how messages are stored.
"""

from __future__ import annotations

import heapq
from typing import Generic, TypeVar

import msgspec

from edow.transport.contract import Delivery


class OrderedDelivery(Delivery, eq=False):
    """`done`: acknowledged, or handed back; what is said of it then means nothing any more."""

    done: bool = False

    @property
    def order(self) -> tuple[int, ...]:
        """Which of two messages of a topic came first."""
        raise NotImplementedError


Held = TypeVar("Held", bound=OrderedDelivery)


class Behind(Generic[Held]):
    """Messages of one key. Only the first is ever delivered, and the next when that was acknowledged."""

    def __init__(self) -> None:
        self.waiting: list[tuple[tuple[int, ...], float, Held]] = []
        self.out: Held | None = None

    @property
    def is_out(self) -> bool:
        return self.out is not None and not self.out.done


class Again(Generic[Held]):
    """False when nothing waits here. Times are those of whatever clock the subscriber uses."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, object], Behind[Held]] = {}

    def __bool__(self) -> bool:
        return bool(self._places)

    def put(self, delivery: Held, due: float) -> None:
        """A later delivery of a copy, so that the one handed out before means nothing any more."""
        copy = msgspec.structs.replace(delivery, count=delivery.count + 1)
        delivery.done = True
        behind = self._places.setdefault(_place(delivery), Behind())
        heapq.heappush(behind.waiting, (copy.order, due, copy))

    def holds_back(self, delivery: Held) -> bool:
        """Whether an earlier message of its key must be acknowledged first; then it is kept here."""
        if not self._places:
            return False
        behind = self._places.get(_place(delivery))
        if behind is None or not (behind.waiting or behind.is_out):
            return False
        heapq.heappush(behind.waiting, (delivery.order, 0.0, delivery))
        return True

    def take(self, now: float, limit: int) -> list[Held]:
        """What may be delivered now."""
        taken: list[Held] = []
        for place, behind in list(self._places.items()):
            if behind.is_out or len(taken) == limit:
                continue
            if not behind.waiting:
                del self._places[place]
            elif behind.waiting[0][1] <= now:
                behind.out = heapq.heappop(behind.waiting)[2]
                taken.append(behind.out)
        return taken

    @property
    def due(self) -> float | None:
        """When something may be delivered."""
        free = (behind for behind in self._places.values() if behind.waiting and not behind.is_out)
        return min((behind.waiting[0][1] for behind in free), default=None)


def _place(delivery: OrderedDelivery) -> tuple[str, object]:
    return delivery.topic, delivery.order if delivery.key is None else delivery.key
