"""A transport that breaks its word: what it acknowledged is lost, comes twice, comes late, or out of order.

Brokers do that (Jepsen has found it in most of them), so a system on such a transport must still bring every execution
to its end. Wrapped around a real driver, and driven by a seeded generator.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from random import Random

import msgspec

from edow.model.message import Message
from edow.transport.contract import Features, Subscriber, Subscription, TopicSpec, TopicStats, Transport


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """Chances from 0 to 1, for each message by itself. `late_seconds`: the longest delay."""

    lost: float = 0.0
    doubled: float = 0.0
    late: float = 0.0
    late_seconds: float = 0.3
    reordered: float = 0.0  # for each batch


class FaultyTransport:
    """`happened` counts what was done to messages, by name of the fault."""

    def __init__(self, inner: Transport, faults: Faults, random: Random) -> None:
        self.happened: Counter[str] = Counter()
        self.faults = faults  # may be changed while it runs
        self._inner = inner
        self._random = random
        self._late: set[asyncio.Task[None]] = set()

    @property
    def features(self) -> Features:
        return self._inner.features

    async def open(self) -> None:
        await self._inner.open()

    async def ensure(self, topics: Sequence[TopicSpec]) -> None:
        await self._inner.ensure(topics)

    async def publish(self, messages: Sequence[Message], *, durable: bool = True) -> None:
        """Says that the broker has them all."""
        now = []
        for message in messages:
            if self._does("lost", self.faults.lost):
                continue
            if self._does("late", self.faults.late):
                self._publish_late(message)
                continue
            now += [message] * (2 if self._does("doubled", self.faults.doubled) else 1)
        if len(now) > 1 and self._does("reordered", self.faults.reordered):
            self._random.shuffle(now)
        if now:
            await self._inner.publish(now, durable=durable)

    async def subscribe(self, subscription: Subscription) -> Subscriber:
        return await self._inner.subscribe(subscription)

    async def describe(self, topics: Sequence[str]) -> list[TopicStats]:
        return await self._inner.describe(topics)

    async def close(self) -> None:
        for task in self._late:
            task.cancel()
        await asyncio.gather(*self._late, return_exceptions=True)
        await self._inner.close()

    def _does(self, fault: str, chance: float) -> bool:
        if self._random.random() >= chance:
            return False
        self.happened[fault] += 1
        return True

    def _publish_late(self, message: Message) -> None:
        async def later() -> None:
            await asyncio.sleep(self._random.random() * self.faults.late_seconds)
            await self._inner.publish([message])

        task = asyncio.create_task(later())
        self._late.add(task)
        task.add_done_callback(self._late.discard)
