"""A transport in memory that keeps the contract's promises for one event loop, and can be told to misbehave."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Sequence

from edow.errors import Closed, InvalidInput, PublishFailed
from edow.model.message import Message
from edow.transport.contract import Delivery, Features, Subscription, TopicSpec, TopicStats

FEATURES = Features(
    name="memory",
    durable=False,
    ordered_by_key=True,
    delivery_count=True,
    native_delay=True,
    lease_extension=True,
    exclusive=True,
    broadcast=True,
    replay=False,
    waiting=False,
    lag=False,
    partitions=False,
    max_message_bytes=1_000_000,
)


class Memory:
    """`fail_publish`: errors to raise from the next publications. `published`: what was published, by topic."""

    def __init__(self, features: Features = FEATURES) -> None:
        self.features = features
        self.topics: dict[str, TopicSpec] = {}
        self.published: dict[str, list[bytes]] = defaultdict(list)
        self.queues: dict[str, deque[Delivery]] = defaultdict(deque)
        self.busy_keys: set[tuple[str, str]] = set()
        self.subscribers: list[MemorySubscriber] = []
        self.fail_publish: deque[Exception] = deque()
        self.acked: list[Delivery] = []
        self.nacked: list[tuple[Delivery, float]] = []
        self.extended = 0
        self.change = asyncio.Condition()

    async def open(self) -> None: ...

    async def ensure(self, topics: Sequence[TopicSpec]) -> None:
        self.topics.update({spec.name: spec for spec in topics})

    async def publish(self, messages: Sequence[Message], *, durable: bool = True) -> None:
        failure = self.fail_publish.popleft() if self.fail_publish else None
        if isinstance(failure, PublishFailed):
            await self.publish([one for index, one in enumerate(messages) if index not in failure.indexes])
        if failure is not None:
            raise failure
        for message in messages:
            if message.topic not in self.topics:
                raise InvalidInput(f"topic {message.topic!r} was not ensured")
        for message in messages:
            self.published[message.topic].append(message.body)
            self.queues[message.topic].append(Delivery(message.topic, message.body, message.key, 1, None))
            for subscriber in self.subscribers:
                if subscriber.subscription.mode == "broadcast" and message.topic in subscriber.subscription.topics:
                    subscriber.own.append(Delivery(message.topic, message.body, message.key, 1, None))
        await self.notify()

    async def notify(self) -> None:
        async with self.change:
            self.change.notify_all()

    async def until(self, condition) -> None:
        """Wait on changes of this transport."""
        async with self.change:
            await self.change.wait_for(condition)

    async def subscribe(self, subscription: Subscription) -> MemorySubscriber:
        subscriber = MemorySubscriber(self, subscription)
        self.subscribers.append(subscriber)
        return subscriber

    async def describe(self, topics: Sequence[str]) -> list[TopicStats]:
        return []

    async def close(self) -> None:
        for subscriber in self.subscribers:
            await subscriber.close()


class MemorySubscriber:
    """`lose` holds deliveries that the next extend reports as lost."""

    def __init__(self, transport: Memory, subscription: Subscription) -> None:
        self.transport = transport
        self.subscription = subscription
        self.own: deque[Delivery] = deque()
        self.held: dict[int, Delivery] = {}
        self.lose: list[Delivery] = []
        self.closed = False

    async def receive(self, limit: int, wait_seconds: float) -> list[Delivery]:
        if self.closed:
            raise Closed("subscriber closed")
        if not (found := self._take(limit)):
            try:
                async with asyncio.timeout(wait_seconds), self.transport.change:
                    await self.transport.change.wait_for(lambda: self.closed or self._ready())
            except TimeoutError:
                return []
            found = [] if self.closed else self._take(limit)
        return found

    def _queues(self):
        if self.subscription.mode == "broadcast":
            return [self.own]
        return [self.transport.queues[topic] for topic in self.subscription.topics]

    def _ready(self) -> bool:
        return any(self._free(delivery) for queue in self._queues() for delivery in queue)

    def _free(self, delivery: Delivery) -> bool:
        return delivery.key is None or (delivery.topic, delivery.key) not in self.transport.busy_keys

    def _take(self, limit: int) -> list[Delivery]:
        found: list[Delivery] = []
        for queue in self._queues():
            for _ in range(len(queue)):
                delivery = queue.popleft()
                if len(found) < limit and self._free(delivery):
                    found.append(delivery)
                    if delivery.key is not None:
                        self.transport.busy_keys.add((delivery.topic, delivery.key))
                else:
                    queue.append(delivery)
                if len(found) >= limit and not any(one.key for one in found):
                    break
        self.held.update({id(delivery): delivery for delivery in found})
        return found

    def _release(self, delivery: Delivery) -> None:
        self.held.pop(id(delivery), None)
        if delivery.key is not None:
            self.transport.busy_keys.discard((delivery.topic, delivery.key))

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            if id(delivery) in self.held:
                self._release(delivery)
                self.transport.acked.append(delivery)
        await self.transport.notify()

    async def nack(self, deliveries: Sequence[Delivery], delay_seconds: float = 0.0) -> None:
        for delivery in deliveries:
            if id(delivery) in self.held:
                self._release(delivery)
                self.transport.nacked.append((delivery, delay_seconds))
                again = Delivery(delivery.topic, delivery.body, delivery.key, delivery.count + 1, None)
                self.transport.queues[delivery.topic].appendleft(again)
        await self.transport.notify()

    async def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        self.transport.extended += len(deliveries)
        lost, self.lose = self.lose, []
        await self.transport.notify()
        return lost

    async def close(self) -> None:
        if not self.closed:
            self.closed = True
            await self.nack(list(self.held.values()))
            await self.transport.notify()
