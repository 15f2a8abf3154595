"""What one subscriber holds, and what of it may be handed out. State only; nothing here talks to the service.

Pub/Sub gives messages of a key to one subscriber at a time, several at once and in order. Here they stand in line, and
the next is let through when the one before it is done with.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from math import inf
from typing import Literal

from edow.transport.contract import Delivery

Place = tuple[str, str]
"""A subscription and an ordering key of it."""


class PubsubDelivery(Delivery, eq=False, kw_only=True):
    """`token` is what Pub/Sub calls it in our hands (the ack id); it changes when we are given the message again."""

    path: str  # of the subscription
    id: str
    place: Place | None  # None: it has no order
    served_until: float  # loop time until which the service leaves it to us
    state: Literal["waiting", "handed", "delayed", "gone"] = "waiting"
    ends: float = inf  # loop time at which it is to be given back: the end of a lease, or of a delay

    @property
    def ack_id(self) -> str:
        assert isinstance(self.token, str)
        return self.token


class Held:
    """Iterating gives all of it."""

    def __init__(self) -> None:
        self._all: dict[tuple[str, str], PubsubDelivery] = {}
        self._lines: dict[Place, list[PubsubDelivery]] = {}
        self._busy = 0  # handed out or delayed
        self.ready: deque[PubsubDelivery] = deque()  # may be handed out

    def __iter__(self) -> Iterator[PubsubDelivery]:
        return iter(self._all.values())

    @property
    def waiting(self) -> int:
        """How many have not been handed out."""
        return len(self._all) - self._busy

    def admit(self, deliveries: Iterable[PubsubDelivery]) -> None:
        """They have arrived. One that we hold has only got a new name and more time."""
        for new in deliveries:
            known = self._all.setdefault((new.path, new.id), new)
            if known is not new:
                known.token, known.served_until = new.token, new.served_until
                continue
            line = [] if new.place is None else self._lines.setdefault(new.place, [])
            line.append(new)
            if line[0] is new:
                self.ready.append(new)

    def take(self, limit: int, until: float) -> list[PubsubDelivery]:
        """Hand out what may be, up to the limit, with a lease."""
        taken = [self.ready.popleft() for _ in range(min(limit, len(self.ready)))]
        for each in taken:
            each.state, each.ends = "handed", until
        self._busy += len(taken)
        return taken

    def mine(self, deliveries: Sequence[Delivery]) -> list[PubsubDelivery]:
        """Those that are in our caller's hands still."""
        return [each for each in deliveries if isinstance(each, PubsubDelivery) and each.state == "handed"]

    def done(self, deliveries: Iterable[PubsubDelivery]) -> None:
        """Forget them for good; the next in line may go on."""
        for each in deliveries:
            if not self._has(each):
                continue
            self._drop(each)
            if each.place is not None:
                line = self._lines[each.place]
                line.remove(each)
                if line:
                    self.ready.append(line[0])
                else:
                    del self._lines[each.place]

    def give_up(self, deliveries: Iterable[PubsubDelivery]) -> list[PubsubDelivery]:
        """Forget them and all that stand behind them, which must come again in order. All of those, in order."""
        given: list[PubsubDelivery] = []
        for each in deliveries:
            if not self._has(each):
                continue
            behind = [each] if each.place is None else self._leave(each, each.place)
            for one in behind:
                self._drop(one)
            given += behind
        if given:
            self.ready = deque(each for each in self.ready if each.state != "gone")
        return given

    def _has(self, each: PubsubDelivery) -> bool:
        return self._all.get((each.path, each.id)) is each

    def _leave(self, each: PubsubDelivery, place: Place) -> list[PubsubDelivery]:
        line = self._lines[place]
        at = line.index(each)
        behind = line[at:]
        del line[at:]
        if not line:
            del self._lines[place]
        return behind

    def _drop(self, each: PubsubDelivery) -> None:
        self._busy -= each.state != "waiting"
        each.state = "gone"
        del self._all[each.path, each.id]
