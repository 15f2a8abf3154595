"""Modes `exclusive` and `broadcast`: reading on from a position kept in memory, claiming nothing.

Exclusive: a new subscriber begins with the oldest message that was not acknowledged, for acknowledged ones are deleted.
Broadcast: it begins behind the newest. Both read the stream itself, waiting inside the read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, cast

from edow.transport.again import Again
from edow.transport.contract import Delivery, Subscription
from edow.transport.redis.deliveries import RedisDelivery, by_queue, order_of, received
from edow.transport.redis.link import Argument, Command, Link
from edow.transport.redis.reader import SHORTEST_WAIT, Reader
from edow.transport.redis.topics import EVERYBODY, Topics, has_group

BEGINNING = b"0-0"
FIRST_READ = 64  # messages, before it is known how large they are
READ_BYTES = 32 * 1024 * 1024


class Cursor(Reader):
    """A subscriber of either mode. `positions`: topic by queue, and after which message to begin."""

    def __init__(
        self, link: Link, topics: Topics, subscription: Subscription, positions: Mapping[str, tuple[str, bytes]]
    ) -> None:
        name = f"{subscription.member or 'the reader'} of {subscription.group or 'a broadcast'}"
        super().__init__(link, topics, subscription.member, name)
        self._broadcast = subscription.mode == "broadcast"
        self._group = EVERYBODY if self._broadcast else subscription.group
        self._topic_of = {queue: topic for queue, (topic, _) in positions.items()}
        self._after = {queue: after for queue, (_, after) in positions.items()}
        self._busy = 1  # queues that had something the last time
        self._room = FIRST_READ  # messages that are read at once: as many as are not too many bytes
        self._again = Again[RedisDelivery]()
        self._made = 0  # which connection was looked at

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """See the contract."""
        mine = [each for each in deliveries if isinstance(each, RedisDelivery) and not each.done]
        if self._broadcast or not mine:
            return
        commands: list[Command] = [
            ("XDEL", queue, *(each.id for each in of_queue)) for queue, of_queue in by_queue(mine).items()
        ]
        await self._link.ask(*commands)
        for each in mine:
            each.done = True
        if self._again:
            self._poke()

    async def nack(self, deliveries: Sequence[Delivery], delay_seconds: float = 0.0) -> None:
        """See the contract. The delay is kept here, as long as this subscriber lives."""
        if self._broadcast or self._closed:
            return
        due = asyncio.get_running_loop().time() + delay_seconds
        for each in deliveries:
            if isinstance(each, RedisDelivery) and not each.done:
                self._again.put(each, due)
        self._poke()

    async def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Nothing expires here."""
        return []

    async def close(self) -> None:
        """See the contract."""
        if self._closed:
            return
        self._closed = True
        self._poke()
        await self._end_fetch()
        self._ready.clear()
        await self._line.close()

    def _take(self, limit: int) -> list[Delivery]:
        again: list[Delivery] = []
        if self._again:
            again = [*self._again.take(asyncio.get_running_loop().time(), limit)]
        while self._ready and len(again) < limit:
            delivery = self._ready.popleft()
            if not self._again or not self._again.holds_back(delivery):
                again.append(delivery)
        return again

    async def _rest(self, seconds: float) -> None:
        due = self._again.due
        if due is not None:
            seconds = min(seconds, max(0.0, due - asyncio.get_running_loop().time()))
        await super()._rest(seconds)

    async def _fetch(self, limit: int, seconds: float) -> None:
        await self._look_back()
        first = next(iter(self._after))  # each topic has its turn at being first
        self._after[first] = self._after.pop(first)
        wait: tuple[Argument, ...] = ("BLOCK", round(seconds * 1000)) if seconds >= SHORTEST_WAIT else ()
        count = max(1, min(limit, self._room) // self._busy)
        places: list[Argument] = [*self._after, *self._after.values()]
        read, known = await self._line.ask(
            ("XREAD", "COUNT", count, *wait, "STREAMS", *places),
            ("HMGET", self._topics.key, *self._topic_of.values()),
            within=seconds,
        )
        self._line.checked([read, known])
        streams = cast("list[tuple[bytes, list[Any]]]", read or [])
        for queue, entries in streams:
            self._add(queue.decode(), entries)
        self._learn(len(self._ready), sum(len(each.body) for each in self._ready))
        self._busy = max(1, len(streams))
        self._more = bool(streams)
        if not all(has_group(groups, self._group) for groups in cast("list[bytes | None]", known)):
            self._after = dict.fromkeys(self._after, BEGINNING)
            await self._gone(self._topic_of.values(), self._group)

    def _learn(self, count: int, size: int) -> None:
        """So many messages were so many bytes."""
        if size > READ_BYTES:
            self._room = max(1, count * READ_BYTES // size)
        elif 2 * count >= self._room and 2 * size <= READ_BYTES:
            self._room *= 2

    async def _look_back(self) -> None:
        """After a reconnection: a server that has lost the newest messages, or everything, and whose clock is late,
        gives ids that lie before our position. Then nothing would ever be read again, so we begin anew.
        """
        made = self._line.made
        if made == self._made and made:
            return
        answers = await self._line.ask(*(("XINFO", "STREAM", queue) for queue in self._after))
        for queue, answer in zip(self._after, answers, strict=True):
            if not isinstance(answer, list):
                self._after[queue] = BEGINNING  # there is no such stream
                continue
            facts = dict(zip(answer[::2], answer[1::2], strict=True))
            if order_of(cast("bytes", facts[b"last-generated-id"])) < order_of(self._after[queue]):
                self._after[queue] = BEGINNING
        self._made = self._line.made

    def _add(self, queue: str, entries: list[Any]) -> None:
        topic = self._topic_of[queue]
        for token, fields in entries:
            found = dict(zip(fields[::2], fields[1::2], strict=True))
            body = found.get(b"b")
            if body is None:  # somebody else has put it there: poison
                body = b" ".join(fields)
            self._ready.append(received(queue, topic, token, 1, found.get(b"k"), body))
        self._after[queue] = entries[-1][0]
