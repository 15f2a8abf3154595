"""What one subscriber holds, and what of it may be handed out. State only; nothing here talks to the service.

Pub/Sub gives a key's messages to one subscriber at a time, several at once and in order. Here they are let through one
by one (shared), or freely but for those behind one that comes again (exclusive).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from math import inf
from typing import Literal

import msgspec

from edow.transport.contract import Delivery
from edow.transport.pubsub.queue import Queue

Place = tuple[int, str]
"""A subscription and an ordering key of it."""

State = Literal["waiting", "handed", "settling", "delayed", "gone"]


class PubsubDelivery(Delivery, eq=False, kw_only=True):
    """`token` is what Pub/Sub calls it in our hands (the ack id); it changes when we are given the message again."""

    queue: Queue
    id: str
    place: Place | None  # None: it has no order
    state: State = "waiting"
    serial: int = 0
    served_until: float = 0.0  # loop time until which the service leaves it to us
    until: float = inf  # loop time of the lease's end
    due: float = inf  # loop time at which it may be delivered again

    @property
    def ack_id(self) -> str:
        assert isinstance(self.token, str)
        return self.token


class Plan(msgspec.Struct):
    """What has to be done now, and when to look again."""

    ended: list[PubsubDelivery]  # leases that have run out
    due: list[PubsubDelivery]  # delays that are over
    renew: list[PubsubDelivery]  # to be kept, and the service would soon take it back
    at: float


class Hands:
    """`shared`: the next of a key only after the previous is done with."""

    def __init__(self, shared: bool, deadline: float) -> None:
        """`deadline`: for how long the service leaves a message to us, each time."""
        self._shared = shared
        self._deadline = deadline
        self._held: dict[tuple[int, str], PubsubDelivery] = {}
        self._ready: deque[PubsubDelivery] = deque()
        self._first: dict[Place, PubsubDelivery] = {}  # others of its place are kept back
        self._behind: dict[Place, deque[PubsubDelivery]] = {}
        self._serial = count(1)
        self.waiting = 0

    def __iter__(self) -> Iterator[PubsubDelivery]:
        return iter(self._held.values())

    def __len__(self) -> int:
        return len(self._held)

    @property
    def is_ready(self) -> bool:
        return bool(self._ready)

    def admit(self, deliveries: Iterable[PubsubDelivery]) -> None:
        """They have arrived. One that we hold has only got a new name and more time."""
        for new in deliveries:
            known = self._held.get((new.queue.number, new.id))
            if known is not None:
                known.token, known.served_until = new.token, new.served_until
                continue
            new.serial = next(self._serial)
            self._held[new.queue.number, new.id] = new
            self._ready.append(new)
            self.waiting += 1

    def take(self, limit: int, until: float) -> list[PubsubDelivery]:
        """Hand out what may be, up to the limit, with a lease."""
        taken: list[PubsubDelivery] = []
        while self._ready and len(taken) < limit:
            each = self._ready.popleft()
            if each.state != "waiting":
                continue
            if each.place is not None and not self._passes(each, each.place):
                continue
            each.state = "handed"
            each.until = until
            self.waiting -= 1
            taken.append(each)
        return taken

    def mine(self, deliveries: Sequence[Delivery]) -> list[PubsubDelivery]:
        """Those that are in our caller's hands still."""
        return [each for each in deliveries if isinstance(each, PubsubDelivery) and each.state == "handed"]

    def done(self, deliveries: Iterable[PubsubDelivery]) -> None:
        """Forget them for good; what was kept back behind them may go on."""
        for each in deliveries:
            self._drop(each)
            if each.place is not None and self._first.get(each.place) is each:
                self._release(each.place)

    def give_up(self, deliveries: Iterable[PubsubDelivery]) -> list[PubsubDelivery]:
        """Forget them, and those of the same key that have not been handed out: they must come again in order."""
        given: list[PubsubDelivery] = []
        places: set[Place] = set()
        for each in deliveries:
            if each.state != "gone":
                self._drop(each)
                given.append(each)
                if each.place is not None:
                    places.add(each.place)
        for place in places:
            self._first.pop(place, None)
            self._behind.pop(place, None)
        followers = [each for each in self._held.values() if each.state == "waiting" and each.place in places]
        for each in followers:
            self._drop(each)
        return given + followers

    def again(self, delivery: PubsubDelivery, due: float) -> None:
        """Hand it out anew when it is due, and nothing that stands behind it before it is done with (exclusive)."""
        delivery.state = "gone"
        copy = PubsubDelivery(
            delivery.topic,
            delivery.body,
            delivery.key,
            delivery.count,
            delivery.token,
            queue=delivery.queue,
            id=delivery.id,
            place=delivery.place,
            state="delayed",
            serial=delivery.serial,
            served_until=delivery.served_until,
            due=due,
        )
        self._held[copy.queue.number, copy.id] = copy
        if copy.place is not None:
            self._keep_back(copy.place, copy)

    def let_again(self, delivery: PubsubDelivery) -> None:
        """Its delay is over (exclusive)."""
        delivery.due = inf
        delivery.state = "waiting"
        self.waiting += 1
        self._ready.appendleft(delivery)

    def unwanted(self) -> list[PubsubDelivery]:
        """What could be handed out and nobody asks for; not what stands behind a message that is being worked on."""
        return [each for each in self._ready if each.state == "waiting" and each.place not in self._first]

    def plan(self, now: float, longest: float) -> Plan:
        """One look at everything. Leases of what is handed out end (shared); all else is kept as long as we live."""
        plan = Plan([], [], [], now + longest)
        for each in self._held.values():
            if each.state == "settling":
                continue
            if each.state == "handed" and each.until <= now:
                plan.ended.append(each)
            elif each.due <= now:
                plan.due.append(each)
            else:
                plan.at = min(plan.at, each.until if each.state == "handed" else inf, each.due)
                self._plan_renewal(each, now, plan)
        return plan

    def _plan_renewal(self, each: PubsubDelivery, now: float, plan: Plan) -> None:
        """At half of the time. A lease that ends a little later than the service's time is its caller's to renew."""
        wanted = each.until - self._deadline / 8 if each.state == "handed" else inf
        if each.served_until < wanted:
            at = each.served_until - self._deadline / 2
            if at <= now:
                plan.renew.append(each)
            else:
                plan.at = min(plan.at, at)

    def _passes(self, each: PubsubDelivery, place: Place) -> bool:
        """Whether nothing of its place is before it; else it is kept back."""
        first = self._first.get(place)
        if first is not None and first is not each:
            self._behind.setdefault(place, deque()).append(each)
            return False
        if self._shared:
            self._first[place] = each
        return True

    def _keep_back(self, place: Place, delivery: PubsubDelivery) -> None:
        """Let nothing of its place pass, except what was handed out before and comes again, too."""
        first = self._first.get(place)
        if first is not None and first.state != "gone" and first.serial < delivery.serial:
            self._stand_behind(delivery)
            return
        self._first[place] = delivery
        if first is not None and first.state in ("delayed", "waiting"):
            self._stand_behind(first)

    def _stand_behind(self, each: PubsubDelivery) -> None:
        """In the order of arrival; its own delay gives way to that."""
        assert each.place is not None
        if each.state == "delayed":
            self.waiting += 1
        else:
            self._ready.remove(each)
        each.state, each.due = "waiting", inf
        behind = [*self._behind.get(each.place, ()), each]
        self._behind[each.place] = deque(sorted(behind, key=lambda one: one.serial))

    def _release(self, place: Place) -> None:
        """In shared mode the next alone; the one after it would only be kept back again."""
        del self._first[place]
        behind = self._behind.get(place)
        if behind is None:
            return
        if self._shared:
            self._ready.appendleft(behind.popleft())
        else:
            self._ready.extendleft(reversed(behind))
            behind.clear()
        if not behind:
            del self._behind[place]

    def _drop(self, each: PubsubDelivery) -> None:
        if each.state == "waiting":
            self.waiting -= 1
        each.state = "gone"
        self._held.pop((each.queue.number, each.id), None)
