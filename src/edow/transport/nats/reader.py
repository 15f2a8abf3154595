"""Modes `exclusive` and `broadcast`: one reader, everything in order, read ahead as far as it likes.

exclusive: the server is told how far everything is done, one acknowledgement for a whole batch. What is nacked is kept
here until it is due.
broadcast: a consumer that nobody keeps. Where it may have missed something it is made anew, from the last message on.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from secrets import token_hex

from nats.aio.msg import Msg

from edow.errors import Closed, TransportUnavailable, Unavailable
from edow.transport.contract import Delivery
from edow.transport.nats.again import Again, ReaderDelivery
from edow.transport.nats.groups import Groups
from edow.transport.nats.link import Link
from edow.transport.nats.pulls import Puller, Slot, Stamp, key_of
from edow.transport.nats.topics import Topic

AHEAD = 2_000  # messages that are read ahead, of all topics together,
LEAST_AHEAD = 20  # ... and of each at least
REQUEST_SECONDS = 5.0
LEAST_SECONDS = 0.001

log = logging.getLogger("edow.transport.nats")


class Reader:
    """What both have in common."""

    def __init__(self, link: Link, groups: Groups, prefix: str) -> None:
        self._link = link
        self._groups = groups
        self._puller = Puller(link, prefix, self._arrived)
        self._ready: dict[int, deque[ReaderDelivery]] = {}  # by slot; the first has its turn
        self._again = Again()
        self._ahead = LEAST_AHEAD
        self._closed = False
        self._closing: asyncio.Task[None] | None = None

    async def open(self, topics: Sequence[Topic]) -> None:
        """Raises InvalidInput, TransportUnavailable."""
        self._ahead = max(LEAST_AHEAD, AHEAD // len(topics))
        for topic, consumer in zip(topics, await self._begin(topics), strict=True):
            self._ready[self._puller.add(topic, consumer).index] = deque()
        await self._puller.open()
        self._link.on_resume(self._resume)
        await self._ask()

    async def receive(self, limit: int, wait_seconds: float) -> list[Delivery]:
        """See the contract."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + wait_seconds
        if self._closed:
            raise Closed("this subscriber is closed: subscribe again")
        await asyncio.sleep(0)  # what has reached this process is worth having in the batch
        while not self._closed:
            await self._ask()
            if taken := self._take(limit):
                return taken
            now = clock()
            if now >= deadline:
                break
            due = self._again.next_due()
            pause = REQUEST_SECONDS if due is None else due - now
            await self._puller.wait(max(LEAST_SECONDS, min(deadline - now, pause)))
        return []

    async def close(self) -> None:
        """See the contract."""
        self._closed = True
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="edow-nats-close")
        await asyncio.shield(self._closing)

    @property
    def is_closed(self) -> bool:
        return self._closed

    async def _begin(self, topics: Sequence[Topic]) -> list[str]:
        """The consumers to read from."""
        raise NotImplementedError

    def _arrived(self, slot: Slot, message: Msg, stamp: Stamp) -> None:
        raise NotImplementedError

    async def _doubt(self, slot: Slot) -> None:
        """The server has answered as if there were no such consumer."""
        raise NotImplementedError

    async def _resume(self, fresh: bool) -> None:
        await self._puller.open(fresh)

    async def _close(self) -> None:
        self._link.off_resume(self._resume)
        self._puller.woken.set()
        await self._puller.close()
        self._ready.clear()

    async def _ask(self) -> None:
        """Read on wherever little is left."""
        if not self._link.up.is_set():
            return
        now = asyncio.get_running_loop().time()
        for slot in self._puller.slots:
            if not slot.is_idle(now):
                continue
            if slot.suspect:
                await self._doubt(slot)
            missing = self._ahead - len(self._ready.get(slot.index, ()))
            if missing > self._ahead // 2:
                await self._puller.ask(slot, missing, REQUEST_SECONDS)

    def _take(self, limit: int) -> list[Delivery]:
        taken: list[Delivery] = [*self._again.take(asyncio.get_running_loop().time(), limit)]
        for index in list(self._ready):
            ready = self._ready[index]
            while ready and len(taken) < limit:
                delivery = ready.popleft()
                if not self._again.holds_back(delivery):
                    taken.append(delivery)
        if self._ready:
            first = next(iter(self._ready))
            self._ready[first] = self._ready.pop(first)
        return taken


class _Ledger:
    """What was delivered of a topic and is not done, in order: number -> where to acknowledge it."""

    def __init__(self) -> None:
        self.entries: dict[int, str] = {}
        self.owed = ""  # the acknowledgement that the server is to get, for all up to there,
        self.paid = True  # ... and whether it was sent
        self._done: dict[int, str] = {}
        self._seq = 0
        self._time = 0

    def is_reborn(self, stamp: Stamp) -> bool:
        """Whether the server has lost messages, and gives their numbers to later ones."""
        return stamp.seq <= self._seq and stamp.time > self._time

    def note(self, stamp: Stamp, reply: str) -> bool:
        """Whether it is new. The server repeats itself when it has lost the latest acknowledgements in a crash."""
        if self.is_reborn(stamp):
            self.entries.clear()
            self._done.clear()
            self.owed, self.paid = "", True
        elif stamp.seq <= self._seq:
            if not self.entries or stamp.seq < next(iter(self.entries)):
                self.owed, self.paid = reply, False
            return False
        self._seq, self._time = stamp.seq, stamp.time
        self.entries[stamp.seq] = reply
        return True

    def holds(self, delivery: ReaderDelivery) -> bool:
        """Whether it is not done yet."""
        return delivery.seq not in self._done and self.entries.get(delivery.seq) == delivery.token

    def done(self, delivery: ReaderDelivery) -> bool:
        """Whether it was not, before."""
        if not self.holds(delivery):
            return False
        self._done[delivery.seq] = self.entries[delivery.seq]
        while self.entries and (first := next(iter(self.entries))) in self._done:
            del self.entries[first]
            self.owed, self.paid = self._done.pop(first), False
        return True


class ExclusiveReader(Reader):
    """Whoever subscribes next takes over from this one, whose `receive` says so then."""

    def __init__(self, link: Link, groups: Groups, prefix: str, group: str) -> None:
        super().__init__(link, groups, prefix)
        self._group = group
        self._ledgers: dict[int, _Ledger] = {}
        self._shut_out = ""

    async def receive(self, limit: int, wait_seconds: float) -> list[Delivery]:
        """See the contract. Raises TransportUnavailable when another subscriber has taken over: subscribe again."""
        if self._shut_out and not self._closed:
            raise TransportUnavailable(self._shut_out)
        return await super().receive(limit, wait_seconds)

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """See the contract. While there is no connection it is kept for when there is."""
        for each, ledger in self._mine(deliveries):
            if ledger.done(each):
                self._again.done(each)
        if self._again.next_due() is not None:
            self._puller.woken.set()
        await self._pay()

    async def nack(self, deliveries: Sequence[Delivery], delay_seconds: float = 0.0) -> None:
        """See the contract."""
        due = asyncio.get_running_loop().time() + delay_seconds
        for each, ledger in self._mine(deliveries):
            if ledger.holds(each):
                self._again.put(each, due)
        self._puller.woken.set()

    async def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Nothing expires here."""
        return []

    async def settle(self) -> None:
        """Returns when the server has dealt with all acknowledgements so far."""
        owed = [ledger.owed for ledger in self._ledgers.values() if ledger.owed]
        await asyncio.gather(*(self._link.request(reply, b"+WPI") for reply in owed))

    async def _begin(self, topics: Sequence[Topic]) -> list[str]:
        names = await asyncio.gather(*(self._groups.take_over(topic, self._group) for topic in topics))
        self._ledgers = {index: _Ledger() for index in range(len(topics))}
        return list(names)

    def _arrived(self, slot: Slot, message: Msg, stamp: Stamp) -> None:
        ledger = self._ledgers[slot.index]
        if ledger.is_reborn(stamp):
            self._again.forget(slot.topic.name)
            self._ready[slot.index].clear()
        if ledger.note(stamp, message.reply) and not self._closed:
            self._ready[slot.index].append(
                ReaderDelivery(
                    slot.topic.name, message.data, key_of(message), stamp.times, message.reply, slot=slot, seq=stamp.seq
                )
            )

    async def _doubt(self, slot: Slot) -> None:
        if await self._groups.exists(slot.topic, slot.consumer):
            slot.suspect = False
            return
        self._shut_out = f"another subscriber reads topic {slot.topic.name!r} for group {self._group!r} now"
        raise TransportUnavailable(self._shut_out)

    async def _resume(self, fresh: bool) -> None:
        await super()._resume(fresh)
        for ledger in self._ledgers.values():
            ledger.paid = not ledger.owed  # it may have been on its way
        await self._pay()

    def _mine(self, deliveries: Sequence[Delivery]) -> list[tuple[ReaderDelivery, _Ledger]]:
        return [
            (each, self._ledgers[each.slot.index])
            for each in deliveries
            if isinstance(each, ReaderDelivery) and each.slot is not None and not each.superseded
        ]

    async def _pay(self) -> None:
        try:
            for ledger in self._ledgers.values():
                if not ledger.paid:
                    await self._link.send(ledger.owed)
                    ledger.paid = True
        except TransportUnavailable:
            pass  # `_resume` does it


class BroadcastReader(Reader):
    """Nothing is acknowledged."""

    def __init__(self, link: Link, groups: Groups, prefix: str) -> None:
        super().__init__(link, groups, prefix)
        self._name = f"edow-{token_hex(8)}"
        self._since: dict[int, str] = {}  # by slot: when to begin a consumer that is made anew
        self._last: dict[int, int] = {}  # ... and the time of the last message, nanoseconds

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Not needed."""

    async def nack(self, deliveries: Sequence[Delivery], delay_seconds: float = 0.0) -> None:
        """Nothing is delivered again."""

    async def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Nothing expires."""
        return []

    async def settle(self) -> None:
        """Nothing is acknowledged."""

    async def _begin(self, topics: Sequence[Topic]) -> list[str]:
        births = await asyncio.gather(*(self._groups.listen(topic, self._name, "") for topic in topics))
        self._since = dict(enumerate(births))
        return [self._name] * len(topics)

    def _arrived(self, slot: Slot, message: Msg, stamp: Stamp) -> None:
        if stamp.time > self._last.get(slot.index, 0) and not self._closed:
            self._last[slot.index] = stamp.time
            self._ready[slot.index].append(
                ReaderDelivery(slot.topic.name, message.data, key_of(message), 1, message.reply, slot=slot)
            )

    async def _doubt(self, slot: Slot) -> None:
        last = self._last.get(slot.index)
        since = self._since[slot.index] if last is None else _iso(last)
        await self._groups.listen(slot.topic, self._name, since)
        slot.suspect = False

    async def _resume(self, fresh: bool) -> None:
        await super()._resume(fresh)
        for slot in self._puller.slots:
            slot.suspect = True  # what was on its way counts as delivered

    async def _close(self) -> None:
        await super()._close()
        try:
            await asyncio.gather(*(self._groups.unlisten(slot.topic, self._name) for slot in self._puller.slots))
        except Unavailable as problem:
            log.debug("the server forgets the listener %s by itself: %s", self._name, problem)


def _iso(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
