"""Modes `exclusive` and `broadcast`: one reader, everything in order, read ahead as far as it likes.

exclusive: the server is told how far everything is done, one acknowledgement for a whole batch. What is nacked is kept
here until it is due.
broadcast: a consumer that nobody keeps. Where it may have missed something it is made anew, behind the last message.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from datetime import datetime
from secrets import token_hex

from nats.aio.msg import Msg

from edow.errors import EdowError, TransportUnavailable
from edow.transport.again import Again, OrderedDelivery
from edow.transport.contract import Delivery
from edow.transport.nats.link import Link
from edow.transport.nats.names import Topic
from edow.transport.nats.pulls import PullSubscriber, Slot, Stamp, key_of
from edow.transport.nats.topics import Topics

AHEAD = 2_000  # messages that are read ahead, of all topics together,
LEAST_AHEAD = 20  # ... and of each at least
REQUEST_SECONDS = 5.0
TRIM_SECONDS = 5.0  # between removals of what was acknowledged in mode exclusive

log = logging.getLogger("edow.transport.nats")


class ReaderDelivery(OrderedDelivery, eq=False):
    """`seq`: its number in the stream."""

    seq: int = 0

    @property
    def order(self) -> tuple[int, ...]:
        return (self.seq,)


class Reader(PullSubscriber):
    """What both have in common."""

    def __init__(self, link: Link, topics: Topics) -> None:
        super().__init__(link, topics)
        self._ready: deque[ReaderDelivery] = deque()
        self._unread: Counter[str] = Counter()  # of these, by topic
        self._last: dict[str, int] = {}  # by topic: number of the last message that arrived
        self._again = Again[ReaderDelivery]()

    async def open(self, topics: Sequence[Topic]) -> None:
        """Raises InvalidInput, TransportUnavailable."""
        self._slots = [Slot(topic, "", index) for index, topic in enumerate(topics)]
        await super().open(topics)

    async def _ask(self, limit: int) -> float:
        """Read on wherever little is left."""
        now, ahead = asyncio.get_running_loop().time(), max(LEAST_AHEAD, AHEAD // len(self._slots))
        for slot in self._slots:
            missing = ahead - self._unread[slot.topic.name]
            if missing > ahead // 2 and slot.is_idle(now):
                await self._request(slot, missing, REQUEST_SECONDS)
        due = self._again.due
        return REQUEST_SECONDS if due is None else due - now

    async def _take(self, limit: int) -> list[Delivery]:
        taken: list[Delivery] = [*self._again.take(asyncio.get_running_loop().time(), limit)]
        while self._ready and len(taken) < limit:
            delivery = self._ready.popleft()
            self._unread[delivery.topic] -= 1
            if not self._again.holds_back(delivery):
                taken.append(delivery)
        return taken

    def _put(self, topic: str, message: Msg, stamp: Stamp) -> None:
        self._last[topic] = stamp.seq
        self._unread[topic] += 1
        self._ready.append(
            ReaderDelivery(topic, message.data, key_of(message), stamp.times, message.reply, seq=stamp.seq)
        )


class ExclusiveReader(Reader):
    """Whoever subscribes next takes over from this one, whose `receive` says so then."""

    def __init__(self, link: Link, topics: Topics, group: str) -> None:
        super().__init__(link, topics)
        self._group = group
        self._open: dict[str, dict[int, str]] = {}  # by topic, in order: number of what is not done -> where to tell
        self._done: set[tuple[str, int]] = set()  # what is, though something before it is not
        self._owed: dict[str, str] = {}  # by topic: how far all is done, as the server has still to hear
        self._untrimmed: set[Topic] = set()  # where something was acknowledged since
        self._trimming: asyncio.Task[None] | None = None
        self._trim_at = 0.0

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """See the contract. While there is no connection it is kept for when there is."""
        for each in self._mine(deliveries):
            each.done = True
            todo = self._open[each.topic]
            self._done.add((each.topic, each.seq))
            while todo and (first := (each.topic, next(iter(todo)))) in self._done:
                self._done.discard(first)
                self._owed[each.topic] = todo.pop(first[1])
        self._woken.set()  # something may have waited behind it
        await self._pay()

    async def nack(self, deliveries: Sequence[Delivery], delay_seconds: float = 0.0) -> None:
        """See the contract."""
        for each in self._mine(deliveries):
            self._again.put(each, asyncio.get_running_loop().time() + delay_seconds)
        self._woken.set()

    def _mine(self, deliveries: Sequence[Delivery]) -> Iterator[ReaderDelivery]:
        """Those that are not done."""
        for each in deliveries:
            if isinstance(each, ReaderDelivery) and not each.done and each.seq in self._open.get(each.topic, ()):
                yield each

    async def _begin(self) -> None:
        await asyncio.gather(*(self._take_over(slot) for slot in self._slots))

    async def _take_over(self, slot: Slot) -> None:
        name = slot.topic.name
        taken = await self._groups.take_over(slot.topic, self._group, slot.consumer)
        if taken is None:
            raise TransportUnavailable(
                f"another subscriber reads topic {name!r} for group {self._group!r} now, or the server has lost it: "
                "subscribe again"
            )
        slot.consumer, slot.answered = taken, ""  # nobody hears what is said of the former any more
        self._owed.pop(name, None)  # the new consumer delivers it again
        self._open.setdefault(name, {})

    def _arrived(self, slot: Slot, message: Msg, stamp: Stamp) -> None:
        name = slot.topic.name
        todo, is_new = self._open[name], stamp.seq > self._last.get(name, 0)
        if is_new or stamp.seq in todo:
            todo[stamp.seq] = message.reply
        elif not todo or stamp.seq < next(iter(todo)):
            self._owed[name] = message.reply
        if is_new and not self._closed:
            self._put(name, message, stamp)

    async def _ask(self, limit: int) -> float:
        await self._pay()
        now = asyncio.get_running_loop().time()
        if self._untrimmed and now >= self._trim_at and (self._trimming is None or self._trimming.done()):
            self._trim_at = now + TRIM_SECONDS
            self._trimming = asyncio.create_task(self._trim(), name="edow-nats-trim")
        return await super()._ask(limit)

    async def _pay(self) -> None:
        if self._owed and self._link.client.is_connected:
            for slot in self._slots:
                if reply := self._owed.pop(slot.topic.name, ""):
                    slot.answered = reply
                    self._untrimmed.add(slot.topic)
                    await self._link.send(reply)

    async def settle(self) -> None:
        """Also off the disk."""
        await super().settle()
        await self._trim()

    async def _trim(self) -> None:
        topics, self._untrimmed = self._untrimmed, set()
        try:
            for topic in topics:
                await self._groups.trim(topic)
        except EdowError as problem:
            self._untrimmed |= topics
            log.debug("trimming %s: %s", ", ".join(topic.name for topic in topics), problem)

    async def _leave(self) -> None:
        if self._trimming is not None:
            await asyncio.gather(self._trimming, return_exceptions=True)


class BroadcastReader(Reader):
    """Nothing is acknowledged."""

    def __init__(self, link: Link, topics: Topics) -> None:
        super().__init__(link, topics)
        self._name = f"edow-{token_hex(8)}"
        self._born: dict[str, datetime | None] = {}  # by topic: when its stream was made

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Not needed."""

    async def nack(self, deliveries: Sequence[Delivery], delay_seconds: float = 0.0) -> None:
        """Nothing is delivered again."""

    async def _begin(self) -> None:
        for slot in self._slots:
            slot.consumer, name = self._name, slot.topic.name
            made, last = await self._topics.state(slot.topic)
            if self._born.setdefault(name, made) != made:
                self._born[name], self._last[name] = made, 0  # all that is there is new
            await self._groups.listen(slot.topic, self._name, 1 + self._last.setdefault(name, last))

    def _arrived(self, slot: Slot, message: Msg, stamp: Stamp) -> None:
        if stamp.seq > self._last[slot.topic.name]:
            self._put(slot.topic.name, message, stamp)

    async def _leave(self) -> None:
        try:
            await asyncio.gather(*(self._groups.delete(slot.topic, self._name) for slot in self._slots))
        except EdowError as problem:
            log.debug("the server forgets the listener %s by itself: %s", self._name, problem)
