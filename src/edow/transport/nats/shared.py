"""Mode `shared`: a member pulls exactly as many messages as it was asked for, so none waits in a member that is busy.

Where a group has a consumer for each partition, a member has a request for one message at each of them, and the rest of
what it was asked for at the first. A member with less room than that looks where there is something (`_probe`).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from itertools import islice

from nats.aio.msg import Msg

from edow.errors import Closed, EdowError, TransportUnavailable
from edow.transport.contract import Delivery, Subscription
from edow.transport.nats.groups import Groups
from edow.transport.nats.link import Link
from edow.transport.nats.pulls import Puller, Slot, Stamp, key_of
from edow.transport.nats.topics import Topic

TEND_SECONDS = 5.0  # between looks at what other members have changed
REQUEST_SECONDS = 1.0  # for which a member that has stopped receiving may still be sent something
PROBE_SECONDS = 0.1  # for which a member without much room waits at one place
PATIENCE = 8  # probes between looks at partitions that seem to be taken
LEAST_SECONDS = 0.001
FEW = 8  # asked for beside partitions, where little comes
EARLY = 0.95  # of a lease, after which we hold it lost: before the server, whose clock has begun earlier, does

log = logging.getLogger("edow.transport.nats")


class SharedDelivery(Delivery, eq=False):
    """`token`: the subject to acknowledge at."""

    slot: Slot | None = None
    arrived: float = 0.0
    until: float = 0.0  # end of the lease, on the loop's clock

    @property
    def reply(self) -> str:
        assert isinstance(self.token, str)
        return self.token


class SharedSubscriber:
    """One member of a group."""

    def __init__(self, link: Link, groups: Groups, prefix: str, subscription: Subscription) -> None:
        self._link = link
        self._groups = groups
        self._group = subscription.group
        self._lease = subscription.lease_seconds
        self._term = EARLY * self._lease
        self._wait = self._lease  # the server's: the smallest lease of all members
        self._tend_now = asyncio.Event()
        self._puller = Puller(link, prefix, self._arrived, self._tend_now.set)
        self._topics: list[Topic] = []
        self._ready: deque[SharedDelivery] = deque()
        self._held: dict[str, SharedDelivery] = {}
        self._answered: dict[Slot | None, str] = {}  # the last reply at each consumer since `settle`
        self._keyed: list[tuple[Topic, str]] = []  # messages with a key that came before there were partitions
        self._tasks: list[asyncio.Task[None]] = []
        self._turn = 0
        self._closed = False
        self._closing: asyncio.Task[None] | None = None

    async def open(self, topics: Sequence[Topic]) -> None:
        """Raises InvalidInput, TransportUnavailable."""
        self._topics = list(topics)
        await self._adopt()
        await self._puller.open()
        self._link.on_resume(self._resume)
        self._tasks = [asyncio.create_task(self._tend(), name="edow-nats-tend")]
        if self._lease > self._wait * 1.001:
            self._keep()

    async def receive(self, limit: int, wait_seconds: float) -> list[Delivery]:
        """See the contract."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + wait_seconds
        if self._closed:
            raise Closed("this subscriber is closed: subscribe again")
        while not self._closed:
            if taken := await self._take(limit):
                return taken
            left = deadline - clock()
            pause = await self._ask(limit, min(REQUEST_SECONDS, max(PROBE_SECONDS, left)))
            if left <= 0:
                break
            await self._puller.wait(max(LEAST_SECONDS, min(left, pause)))
        return []

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
            mine = self._mine(each, now)
            if mine is None:
                lost.append(each)
                continue
            await self._link.send(mine.reply, b"+WPI")
            mine.until = now + self._term
        return lost

    async def close(self) -> None:
        """See the contract."""
        self._closed = True
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="edow-nats-close")
        await asyncio.shield(self._closing)

    @property
    def is_closed(self) -> bool:
        return self._closed

    async def settle(self) -> None:
        """Returns when the server has dealt with all answers so far."""
        answered, self._answered = list(self._answered.values()), {}
        await asyncio.gather(*(self._link.request(reply, b"+WPI") for reply in answered))

    # ── receiving ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _arrived(self, slot: Slot, message: Msg, stamp: Stamp) -> None:
        topic = slot.topic
        if slot.index < len(self._topics) and topic.is_keyed(message.subject):
            self._keyed.append((topic, message.reply))
            self._tend_now.set()
            return
        now = asyncio.get_running_loop().time()
        self._ready.append(
            SharedDelivery(
                topic.name, message.data, key_of(message), stamp.times, message.reply, slot=slot, arrived=now
            )
        )

    async def _take(self, limit: int) -> list[Delivery]:
        """What has arrived; its lease begins now, and if it has waited here, at the server too."""
        clock = asyncio.get_running_loop().time
        while self._ready and clock() - self._ready[0].arrived > 0.9 * self._wait:
            self._ready.popleft()  # it is somebody else's, or about to be
        for each in islice(self._ready, limit):
            if clock() - each.arrived > 0.05 * self._wait:
                await self._link.send(each.reply, b"+WPI")
                each.arrived = clock()
        until = clock() + self._term  # from here on nothing is awaited, so that nothing is lost by a cancellation
        taken = [self._ready.popleft() for _ in range(min(limit, len(self._ready)))]
        for each in taken:
            each.until = until
            self._held[each.reply] = each
        return [*taken]

    async def _ask(self, limit: int, seconds: float) -> float:
        """Request what is missing to the limit, for so long; for how long to wait then."""
        now = asyncio.get_running_loop().time()
        slots = self._puller.slots
        idle = [slot for slot in slots if slot.is_idle(now)]
        free = limit - sum(slot.left for slot in slots)
        if self._keyed:
            return PROBE_SECONDS  # they will come from partitions, at which nothing is asked for yet
        if not self._link.up.is_set() or free <= 0 or not idle:
            return PROBE_SECONDS if free > 0 else seconds
        if len(idle) > free:
            return await self._probe(idle, free)
        main = sum(slot.index < len(self._topics) for slot in idle)
        for slot in idle:
            batch = 1 if slot.index >= len(self._topics) else 1 + self._share(slot, (free - len(idle)) // main)
            await self._puller.ask(slot, batch, seconds)
        return seconds

    def _share(self, slot: Slot, most: int) -> int:
        """What to ask for without a key: beside partitions, only as much more as has come before."""
        if len(self._puller.slots) == len(self._topics):
            return most
        return min(most, 4 * slot.asked if slot.used else FEW)

    async def _probe(self, idle: Sequence[Slot], free: int) -> float:
        """There is room for less than a message from each: ask first where there are some."""
        topics = {slot.topic.stream: slot.topic for slot in idle}
        states = await asyncio.gather(*(self._groups.state(topic) for topic in topics.values()))
        known = {(stream, info.name): info for stream, infos in zip(topics, states, strict=True) for info in infos}
        self._turn += 1
        turned = [idle[(self._turn + n) % len(idle)] for n in range(len(idle))]

        def rank(slot: Slot) -> int:
            info = known.get((slot.topic.stream, slot.consumer))
            if info is None:
                return 3
            taken = info.num_ack_pending if slot.index >= len(self._topics) else 0
            if self._turn % PATIENCE == 0:
                return 0 if info.num_pending or info.num_ack_pending else 1
            return 0 if info.num_pending and not taken else 1 if info.num_ack_pending else 2

        for slot in sorted(turned, key=rank)[:free]:
            await self._puller.ask(slot, 1, PROBE_SECONDS)
        return PROBE_SECONDS

    # ── acknowledging ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _mine(self, delivery: Delivery, now: float) -> SharedDelivery | None:
        """It, while it is in our hands."""
        if not isinstance(delivery, SharedDelivery) or self._held.get(delivery.reply) is not delivery:
            return None
        if delivery.until < now:
            del self._held[delivery.reply]
            return None
        return delivery

    async def _answer(self, deliveries: Sequence[Delivery], answer: bytes) -> None:
        now = asyncio.get_running_loop().time()
        for each in deliveries:
            mine = self._mine(each, now)
            if mine is not None:
                await self._link.send(mine.reply, answer)
                self._held.pop(mine.reply, None)
                self._answered[mine.slot] = mine.reply

    def _keep(self) -> None:
        """Our lease is longer than the server's: extend there, up to its end."""
        if len(self._tasks) == 1:
            self._tasks.append(asyncio.create_task(self._keep_forever(), name="edow-nats-keep"))

    async def _keep_forever(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(self._wait / 3)
            now = clock()
            try:
                for reply, each in list(self._held.items()):
                    if each.until >= now:
                        await self._link.send(reply, b"+WPI")
            except TransportUnavailable:
                pass  # the next time

    # ── what others do ────────────────────────────────────────────────────────────────────────────────────────────────

    async def _adopt(self) -> None:
        found = await asyncio.gather(*(self._groups.share(topic, self._group, self._lease) for topic in self._topics))
        for topic, shared in zip(self._topics, found, strict=True):
            self._puller.add(topic, shared.consumers[0])
        known = len(self._puller.slots)
        for topic, shared in zip(self._topics, found, strict=True):
            for consumer in shared.consumers[1:]:
                self._puller.add(topic, consumer)
        if len(self._puller.slots) > known and self._tasks:
            await self._puller.renew()  # all that was asked for was asked for elsewhere
        self._wait = min(shared.ack_wait for shared in found)
        for topic, shared in zip(self._topics, found, strict=True):
            if shared.changed:
                await self._puller.notify(topic)

    async def _tend(self) -> None:
        """For ever: partitions when they are needed, and what other members have changed."""
        while True:
            try:
                async with asyncio.timeout(TEND_SECONDS):
                    await self._tend_now.wait()
            except TimeoutError:
                pass
            self._tend_now.clear()
            try:
                await self._tend_once()
            except EdowError as problem:
                log.warning("group %s of %s: %s", self._group, ", ".join(each.name for each in self._topics), problem)
                await asyncio.sleep(PROBE_SECONDS)

    async def _tend_once(self) -> None:
        if not self._link.up.is_set():
            return
        now = asyncio.get_running_loop().time()
        self._held = {reply: each for reply, each in self._held.items() if each.until >= now}
        keyed = list(self._keyed)
        for topic in {topic.name: topic for topic, _ in keyed}.values():
            await self._groups.split(topic, self._group)
            await self._puller.notify(topic)
        await self._adopt()
        for _, reply in keyed:
            await self._link.send(reply)  # it comes again, from its partition
        del self._keyed[: len(keyed)]
        self._puller.woken.set()
        if self._lease > self._wait * 1.001:
            self._keep()

    async def _resume(self, fresh: bool) -> None:
        await self._puller.open(fresh)
        self._tend_now.set()

    async def _close(self) -> None:
        self._link.off_resume(self._resume)
        self._puller.woken.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._puller.close()
        held = [*self._held, *(each.reply for each in self._ready), *(reply for _, reply in self._keyed)]
        self._held.clear()
        self._ready.clear()
        try:
            for reply in held:
                await self._link.send(reply, b"-NAK")
        except TransportUnavailable:
            pass  # their leases run out
