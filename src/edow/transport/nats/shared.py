"""Mode `shared`: a member pulls exactly as many messages as it was asked for, so none waits in a member that is busy.

Where a topic has partitions, a member has a request for one message at each of them, and one for the rest of what it
was asked for where messages have no key. With less room than that it looks first where there are some.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from itertools import islice

from nats.aio.msg import Msg

from edow.errors import EdowError, TransportUnavailable
from edow.transport.contract import Delivery, Subscription
from edow.transport.nats.groups import HOLD_SECONDS
from edow.transport.nats.link import Link
from edow.transport.nats.pulls import PullSubscriber, Slot, Stamp, key_of
from edow.transport.nats.topics import Topics

REQUEST_SECONDS = 2.0  # for which a member that has stopped receiving may still be sent something
PROBE_SECONDS = 0.1  # for which a member without much room waits at one place
TEND_SECONDS = 1.0  # between looks at other members' leases
EARLY = 0.95  # of a lease, after which we hold it lost: before the server, whose clock has begun earlier, does

log = logging.getLogger("edow.transport.nats")


class SharedDelivery(Delivery, eq=False):
    """`token`: the subject to acknowledge at."""

    slot: Slot | None = None
    arrived: float = 0.0
    until: float = 0.0  # end of the lease, on the loop's clock


class SharedSubscriber(PullSubscriber):
    """One member of a group."""

    def __init__(self, link: Link, topics: Topics, subscription: Subscription) -> None:
        super().__init__(link, topics)
        self._group = subscription.group
        self._lease = subscription.lease_seconds
        self._server_lease = HOLD_SECONDS  # the smallest of all members
        self._ready: deque[SharedDelivery] = deque()
        self._held: dict[object, SharedDelivery] = {}
        self._turn = 0
        self._look_at = 0.0
        self._tending: asyncio.Task[None] | None = None

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """See the contract."""
        await self._answer(deliveries, b"")

    async def nack(self, deliveries: Sequence[Delivery], delay_seconds: float = 0.0) -> None:
        """See the contract."""
        await self._answer(deliveries, b'-NAK {"delay": %d}' % (delay_seconds * 1e9) if delay_seconds > 0 else b"-NAK")

    async def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """See the contract."""
        now = asyncio.get_running_loop().time()
        lost: list[Delivery] = []
        for each in deliveries:
            if mine := self._mine(each, now):
                await self._link.send(str(mine.token), b"+WPI")
                mine.until = now + EARLY * self._lease
            else:
                lost.append(each)
        return lost

    # ── receiving ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _begin(self) -> None:
        found = [(topic, await self._groups.share(topic, self._group, self._lease)) for topic in self._reads]
        if not self._slots:
            places = [(topic, consumer) for topic, consumers in found for consumer in consumers]
            self._slots = [Slot(topic, consumer, index) for index, (topic, consumer) in enumerate(places)]
        await self._tend_once()
        if self._tending is None:
            self._tending = asyncio.create_task(self._tend(), name="edow-nats-tend")

    def _arrived(self, slot: Slot, message: Msg, stamp: Stamp) -> None:
        now = asyncio.get_running_loop().time()
        self._ready.append(
            SharedDelivery(
                slot.topic.name, message.data, key_of(message), stamp.times, message.reply, slot=slot, arrived=now
            )
        )

    async def _take(self, limit: int) -> list[Delivery]:
        """What has arrived; its lease begins now, and if it has waited here, at the server too."""
        clock, lease = asyncio.get_running_loop().time, min(self._lease, self._server_lease)
        while self._ready and clock() - self._ready[0].arrived > 0.9 * lease:
            self._ready.popleft()  # it is somebody else's, or about to be
        for each in islice(self._ready, limit):
            if clock() - each.arrived > 0.05 * lease:
                await self._link.send(str(each.token), b"+WPI")
                each.arrived = clock()
        until = clock() + EARLY * self._lease  # from here on nothing is awaited, so that nothing is lost by cancelling
        taken = [self._ready.popleft() for _ in range(min(limit, len(self._ready)))]
        for each in taken:
            each.until = until
            self._held[each.token] = each
        return [*taken]

    async def _ask(self, limit: int) -> float:
        now = asyncio.get_running_loop().time()
        idle = [slot for slot in self._slots if slot.is_idle(now)]
        room = limit - len(self._ready) - sum(slot.left for slot in self._slots)
        places, seconds = idle, REQUEST_SECONDS
        if room <= 0 or not idle:
            return seconds
        if room < len(idle):
            places, seconds = await self._where(idle, room), PROBE_SECONDS
        unkeyed = sum(not slot.is_keyed for slot in places)
        for slot in places:
            more = 0 if slot.is_keyed else (room - len(places)) // unkeyed
            await self._request(slot, 1 + more, seconds)
        return seconds

    async def _where(self, idle: Sequence[Slot], room: int) -> list[Slot]:
        """At most `room` of these: where there are messages; else where some are likely to come."""
        now = asyncio.get_running_loop().time()
        if now >= self._look_at:
            await self._look()
            self._look_at = now + PROBE_SECONDS
        self._turn += 1
        start = self._turn % len(idle)
        turned = [*idle[start:], *idle[:start]]
        turned.sort(key=lambda slot: (slot.is_keyed, not slot.is_busy)[:: 1 if self._turn % 2 else -1])
        return ([slot for slot in turned if slot.backlog] or turned)[:room]

    async def _look(self) -> None:
        for topic in {slot.topic for slot in self._slots}:
            found = {str(name): info for name, info in (await self._groups.consumers(topic)).items()}
            for slot in self._slots:
                if slot.topic == topic and (info := found.get(slot.consumer)):
                    slot.is_busy = bool(info.num_ack_pending)
                    slot.backlog = 0 if slot.is_busy and slot.is_keyed else info.num_pending or 0
                elif slot.topic == topic:
                    slot.suspect = True

    # ── leases ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _mine(self, delivery: Delivery, now: float) -> SharedDelivery | None:
        """It, while it is in our hands."""
        mine = self._held.get(delivery.token)
        return mine if mine is delivery and mine.until >= now else None

    async def _answer(self, deliveries: Sequence[Delivery], answer: bytes) -> None:
        now = asyncio.get_running_loop().time()
        for each in deliveries:
            mine = self._mine(each, now)
            if mine is not None and mine.slot is not None:
                reply = str(mine.token)
                await self._link.send(reply, answer)
                self._held.pop(reply, None)
                mine.slot.answered = reply

    async def _tend(self) -> None:
        """For ever: where our lease is longer than the server's, extend there, up to its end."""
        while True:
            await asyncio.sleep(min(TEND_SECONDS, self._server_lease / 3))
            try:
                await self._tend_once()
            except EdowError as problem:
                log.info("group %s: %s", self._group, problem)  # the next time

    async def _tend_once(self) -> None:
        now = asyncio.get_running_loop().time()
        self._held = {token: each for token, each in self._held.items() if each.until >= now}
        topics = {slot.topic: slot.consumer for slot in reversed(self._slots)}
        self._server_lease = min([await self._groups.lease(topic, consumer) for topic, consumer in topics.items()])
        if self._server_lease < 0.999 * self._lease:
            for token in list(self._held):
                await self._link.send(str(token), b"+WPI")

    async def _leave(self) -> None:
        if self._tending is not None:
            self._tending.cancel()
            await asyncio.gather(self._tending, return_exceptions=True)
        now = asyncio.get_running_loop().time()  # what was lost is somebody else's
        held = [token for token, each in self._held.items() if each.until >= now]
        held += [each.token for each in self._ready if now - each.arrived < 0.9 * min(self._lease, self._server_lease)]
        self._held.clear()
        self._ready.clear()
        try:
            for token in held:
                await self._link.send(str(token), b"-NAK")
        except TransportUnavailable:
            pass  # their leases run out
