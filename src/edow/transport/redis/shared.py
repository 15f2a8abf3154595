"""Mode `shared`: members of a group compete for messages by claiming them for the length of a lease.

One script claims, so that order by key and leases are decided in one place, for all members at once. A member that
finds nothing waits at the queues' bells, and the claim travels behind the waiting in the same round trip: what is
published to an idle group is in its member's hands after one answer.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator, Sequence
from typing import Any, Literal, cast

from edow.errors import TransportUnavailable
from edow.transport.contract import Delivery, Subscription
from edow.transport.redis.deliveries import RedisDelivery, by_queue, received
from edow.transport.redis.link import Argument, Command, Link
from edow.transport.redis.reader import SHORTEST_WAIT, Reader
from edow.transport.redis.topics import Topics

CLAIM_BYTES = 32 * 1024 * 1024  # a claim that has so many takes no more
WAKE_MS = 10_000  # after which a wake-up that nobody heard goes away
CLOSE_SECONDS = 1.0  # to be woken

Verb = Literal["ack", "nack", "extend", "leave"]


class SharedSubscriber(Reader):
    """One member of a group. What it holds is given back when it closes."""

    def __init__(
        self, link: Link, topics: Topics, subscription: Subscription, queues: Sequence[tuple[str, str]]
    ) -> None:
        """`queues`: topic and queue."""
        name = f"{subscription.member or 'a member'} of {subscription.group}"
        super().__init__(link, topics, subscription.member, name)
        self._group = subscription.group
        self._queues = list(queues)
        self._lease_us = max(1, round(subscription.lease_seconds * 1_000_000))
        self._owner = f"{self._lease_us}.{secrets.token_hex(8)}"  # scripts read the lease from it
        self._wake = f"{self._queues[0][1]}:wake:{self._owner}"
        self._held: dict[tuple[str, bytes], RedisDelivery] = {}
        self._fetched_at = 0.0

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """See the contract."""
        await self._settle("ack", self._mine(deliveries), 0)

    async def nack(self, deliveries: Sequence[Delivery], delay_seconds: float = 0.0) -> None:
        """See the contract."""
        await self._settle("nack", self._mine(deliveries), round(delay_seconds * 1_000_000))

    async def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """See the contract."""
        mine = self._mine(deliveries)
        lost = {id(each) for each in await self._settle("extend", mine, self._lease_us)}
        kept = {id(each) for each in mine} - lost
        return [each for each in deliveries if id(each) not in kept]

    async def close(self) -> None:
        """See the contract. While Redis is away, leases end by themselves."""
        if self._closed:
            return
        self._closed = True
        self._poke()
        try:
            await self._leave()
        except TransportUnavailable:
            pass
        finally:
            await self._end_fetch()
            self._held.clear()
            self._ready.clear()
            await self._line.close()

    async def _leave(self) -> None:
        """First nobody must be waiting any more: what is given back rings, and could be claimed by us."""
        if self._pause:
            await self._end_fetch()  # it is not waiting inside Redis
        elif self._fetching is not None:
            await self._link.ask(("LPUSH", self._wake, 1), ("PEXPIRE", self._wake, WAKE_MS))
            await self._end_fetch(CLOSE_SECONDS)
        keys = [self._topics.key, *(queue for _, queue in self._queues)]
        await self._link.run("settle", keys, ["leave", self._owner, 0], after=[("DEL", self._wake)])

    async def _fetch(self, limit: int, seconds: float) -> None:
        self._queues.append(self._queues.pop(0))  # each topic has its turn at being first
        queues = list(self._queues)
        bells = [f"{queue}:bell" for _, queue in queues]
        waiting: list[Command] = []
        if seconds >= SHORTEST_WAIT:
            waiting = [("BLPOP", self._wake, *bells, f"{seconds:.3f}")]
        keys = [self._topics.key, *(queue for _, queue in queues)]
        wanted: list[Argument] = [self._owner, self._lease_us, limit, CLAIM_BYTES]
        for topic, _ in queues:
            wanted += (topic, self._group)
        (answer,) = await self._line.run("claim", keys, wanted, before=waiting, within=seconds)
        state, more, due, items = cast("tuple[bytes, int, int, list[Any]]", answer)
        self._fetched_at = asyncio.get_running_loop().time()
        self._more = more == 1
        self._due = None if due < 0 else self._fetched_at + due / 1_000_000
        for delivery in _deliveries(queues, items):
            self._held[delivery.queue, delivery.id] = delivery
            self._ready.append(delivery)
        if state == b"gone":
            await self._gone([topic for topic, _ in queues], self._group)

    def _take(self, limit: int) -> list[Delivery]:
        age = asyncio.get_running_loop().time() - self._fetched_at
        if self._ready and age > self._lease_us / 2_000_000:  # a receive was cancelled, and the next came late
            for delivery in self._ready:
                self._held.pop((delivery.queue, delivery.id), None)
            self._ready.clear()  # nobody will extend them: they come again
        return super()._take(limit)

    def _mine(self, deliveries: Sequence[Delivery]) -> list[RedisDelivery]:
        """Those that are in our hands still, as far as we know."""
        mine = [each for each in deliveries if isinstance(each, RedisDelivery) and self._holds(each)]
        return list(dict.fromkeys(mine))

    def _holds(self, delivery: RedisDelivery) -> bool:
        return self._held.get((delivery.queue, delivery.id)) is delivery

    async def _settle(self, verb: Verb, deliveries: Sequence[RedisDelivery], microseconds: int) -> list[RedisDelivery]:
        """Tell Redis; those that were not ours any more. They are kept in hand when it cannot be told."""
        if not deliveries:
            return []
        queues = by_queue(deliveries)
        wanted: list[Argument] = [verb, self._owner, microseconds]
        for mine in queues.values():
            wanted += [len(mine), *(each.id for each in mine)]
            if verb == "ack":
                wanted += [b"" if each.raw_key is None else b"k" + each.raw_key for each in mine]
        (positions,) = await self._link.run("settle", [self._topics.key, *queues], wanted)
        order = [each for mine in queues.values() for each in mine]
        lost = [order[position] for position in cast("list[int]", positions)]
        for each in lost if verb == "extend" else order:
            if self._holds(each):
                del self._held[each.queue, each.id]
        return lost


def _deliveries(queues: Sequence[tuple[str, str]], items: list[Any]) -> Iterator[RedisDelivery]:
    for number, token, count, key, body in zip(*[iter(items)] * 5, strict=True):
        topic, queue = queues[number]
        yield received(queue, topic, token, count, key, body)
