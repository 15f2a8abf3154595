"""What transports in a database share: deliveries with a number in their queue, and the patience of readers who claim
nothing.

Knows nothing of how messages are stored.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from itertools import count
from typing import Protocol

from edow.transport.contract import Delivery

POLL_SECONDS = 1.0  # safety net behind pushed wake-ups


class Poked(Protocol):
    """A reader that can be told to look again."""

    def poke(self) -> None: ...


class NumberedDelivery(Delivery, eq=False):
    """`token` is the message's number. `owner`: the subscriber that has claimed it; 0 where nobody claims."""

    owner: int = 0
    at: int = 0  # when it was published; with the number it is a message's only one
    cursor: Poked | None = None  # the reader to tell that it was acknowledged, when that matters to it
    done: bool = False

    @property
    def seq(self) -> int:
        seq = self.token
        assert isinstance(seq, int)
        return seq


class Again:
    """What was not acknowledged and is to be delivered again, and what must stay behind it."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, NumberedDelivery]] = []
        self._first: dict[tuple[str, str], NumberedDelivery] = {}
        self._behind: dict[tuple[str, str], deque[NumberedDelivery]] = {}
        self._serial = count()

    def put(self, delivery: NumberedDelivery, due: int) -> None:
        """A later delivery of a copy, so that the one handed out before means nothing any more."""
        again = NumberedDelivery(
            delivery.topic,
            delivery.body,
            delivery.key,
            delivery.count + 1,
            delivery.token,
            at=delivery.at,
            cursor=delivery.cursor,
        )
        delivery.done = True
        if delivery.key is not None:
            place = (delivery.topic, delivery.key)
            first = self._first.get(place)
            if first is not None and not first.done and first.seq < again.seq:
                self._behind.setdefault(place, deque()).append(again)
                return
            self._first[place] = again
        heapq.heappush(self._heap, (due, next(self._serial), again))

    def holds_back(self, delivery: NumberedDelivery) -> bool:
        """Whether an earlier message of its key must be acknowledged first; then it is kept here."""
        if delivery.key is None or not self._first:
            return False
        place = (delivery.topic, delivery.key)
        if place not in self._first:
            return False
        self._behind.setdefault(place, deque()).append(delivery)
        return True

    def take(self, now: int, limit: int) -> list[Delivery]:
        """What may be delivered now."""
        if not self._heap and not self._first:
            return []
        for place in [place for place, first in self._first.items() if first.done]:
            self._release(place)
        taken: list[Delivery] = []
        while self._heap and self._heap[0][0] <= now and len(taken) < limit:
            taken.append(heapq.heappop(self._heap)[2])
        return taken

    def seconds(self, now: int) -> float:
        """Until something may be delivered."""
        return max(0.0, (self._heap[0][0] - now) / 1_000_000) if self._heap else POLL_SECONDS

    def _release(self, place: tuple[str, str]) -> None:
        del self._first[place]
        waiting = self._behind.pop(place, None)
        if waiting:
            following = min(waiting, key=lambda each: each.seq)
            waiting.remove(following)
            self._first[place] = following
            if waiting:
                self._behind[place] = waiting
            heapq.heappush(self._heap, (0, next(self._serial), following))


def done(deliveries: Sequence[NumberedDelivery]) -> None:
    """They were acknowledged: what waited behind them may go on. Any thread."""
    for delivery in deliveries:
        delivery.done = True
        if delivery.cursor is not None:
            delivery.cursor.poke()
