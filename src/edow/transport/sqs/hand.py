"""What a subscriber has in hand: what it may hand out, what waits behind another of its key, what it has handed out.

SQS gives out the messages of a FIFO group together, up to ten, and then none until all of them are settled. So their
order among themselves is kept here: the next of a key is handed out when the previous was acknowledged.
Nothing here waits or calls anybody; times are those of the event loop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Literal

from edow.transport.contract import Delivery
from edow.transport.sqs.names import FIFO

State = Literal["ready", "behind", "out", "gone"]


class SqsDelivery(Delivery, eq=False):
    """`token` is its receipt. `until`: when the lease ends, with some reserve."""

    queue: str  # the URL
    until: float
    state: State = "ready"

    @property
    def in_line(self) -> bool:
        """There is an order in which it comes."""
        return self.key is not None and self.queue.endswith(FIFO)

    @property
    def receipt(self) -> str:
        receipt = self.token
        assert isinstance(receipt, str)
        return receipt


class Hand:
    """Whatever `give_up`, `lose`, `forsaken` and `give_back` return is no longer in hand."""

    def __init__(self) -> None:
        self._all: dict[str, SqsDelivery] = {}  # by receipt
        self._ready: deque[SqsDelivery] = deque()
        self._lines: dict[tuple[str, str | None], deque[SqsDelivery]] = {}  # of a queue and key, the first ready or out

    def __len__(self) -> int:
        return len(self._all)

    @property
    def ready(self) -> int:
        """How many may be handed out; a few of them may have been lost."""
        return len(self._ready)

    def arrive(self, deliveries: Sequence[SqsDelivery]) -> None:
        """Received together, in order."""
        new: dict[tuple[str, str | None], deque[SqsDelivery]] = {}
        for delivery in deliveries:
            self._all[delivery.receipt] = delivery
            if not delivery.in_line:
                self._ready.append(delivery)
                continue
            place = _place(delivery)
            if place not in new:
                self._void(place)  # SQS gives out no more of a key unless what we had of it was lost
                new[place] = self._lines[place] = deque()
                self._ready.append(delivery)
            else:
                delivery.state = "behind"
            new[place].append(delivery)

    def take(self, limit: int, now: float) -> list[Delivery]:
        """Hand out what is not lost."""
        taken: list[Delivery] = []
        while self._ready and len(taken) < limit:
            delivery = self._ready.popleft()
            if delivery.state != "ready":
                continue
            if delivery.until <= now:
                self._drop(delivery)
                continue
            delivery.state = "out"
            taken.append(delivery)
        return taken

    def done(self, deliveries: Iterable[Delivery], now: float) -> list[SqsDelivery]:
        """Acknowledged: those that were still ours. What waited behind them is ready."""
        mine = self.out(deliveries, now)
        for delivery in mine:
            line = self._line(delivery)
            self._forget(delivery)
            if line is None:
                continue
            line.popleft()
            if not line:
                del self._lines[_place(delivery)]
                continue
            line[0].state = "ready"
            line[0].count = 1  # what SQS has counted before are the deliveries of those ahead of it
            self._ready.append(line[0])
        return mine

    def give_up(self, deliveries: Iterable[Delivery], now: float) -> tuple[list[SqsDelivery], list[SqsDelivery]]:
        """Not done: those that were still ours, and what has waited behind them."""
        mine = self.out(deliveries, now)
        behind = [follower for delivery in mine for follower in self._drop(delivery)]
        return mine, behind

    def out(self, deliveries: Iterable[Delivery], now: float) -> list[SqsDelivery]:
        """Those that are handed out and not lost, each once."""
        found: dict[int, SqsDelivery] = {}
        for each in deliveries:
            if isinstance(each, SqsDelivery) and each.state == "out" and each.until > now:
                found[id(each)] = each
        return list(found.values())

    def lose(self, delivery: SqsDelivery) -> list[SqsDelivery]:
        """It is somebody else's now; what has waited behind it."""
        return self._drop(delivery)

    def forsaken(self, now: float) -> list[SqsDelivery]:
        """What waits behind a message whose lease has ended in somebody's hands."""
        lost = [each for each in self._all.values() if each.until <= now]
        return [follower for each in lost if each.state != "gone" for follower in self._drop(each)]

    def kept(self, out_too: bool) -> list[SqsDelivery]:
        """What nobody but us can prolong."""
        return [each for each in self._all.values() if out_too or each.state != "out"]

    def give_back(self, out_too: bool) -> list[SqsDelivery]:
        """What was not handed out, nor waits behind what was; or everything."""
        found = [
            each
            for each in self._all.values()
            if out_too
            or each.state == "ready"
            or (each.state == "behind" and self._lines[_place(each)][0].state != "out")
        ]
        for each in found:
            self._drop(each)
        return found

    def _drop(self, delivery: SqsDelivery) -> list[SqsDelivery]:
        """It is not in hand any more, nor what waits behind it, which is returned."""
        line = self._line(delivery)
        self._forget(delivery)
        if line is None or delivery not in line:
            return []
        behind: list[SqsDelivery] = []
        while (last := line.pop()) is not delivery:
            self._forget(last)
            behind.append(last)
        if not line:
            del self._lines[_place(delivery)]
        return behind[::-1]

    def _void(self, place: tuple[str, str | None]) -> None:
        if place in self._lines:
            self._drop(self._lines[place][0])

    def _line(self, delivery: SqsDelivery) -> deque[SqsDelivery] | None:
        return self._lines.get(_place(delivery)) if delivery.in_line else None

    def _forget(self, delivery: SqsDelivery) -> None:
        delivery.state = "gone"
        self._all.pop(delivery.receipt, None)


def _place(delivery: SqsDelivery) -> tuple[str, str | None]:
    return delivery.queue, delivery.key or ""
