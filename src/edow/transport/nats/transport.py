"""The NATS JetStream transport: puts its parts together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from edow.address import Address
from edow.errors import Closed, InvalidInput
from edow.model.message import Message
from edow.transport.contract import Features, Subscriber, Subscription, TopicSpec, TopicStats
from edow.transport.nats.groups import Groups
from edow.transport.nats.link import Link
from edow.transport.nats.options import NatsOptions, read
from edow.transport.nats.publisher import Publisher
from edow.transport.nats.pulls import PullSubscriber
from edow.transport.nats.readers import BroadcastReader, ExclusiveReader
from edow.transport.nats.shared import SharedSubscriber
from edow.transport.nats.topics import Topics


def connect(address: Address, clock: Callable[[], int]) -> NatsTransport:
    """The transport at a nats:// address, not open yet. The broker's clock is the one that counts."""
    return NatsTransport(address, read(address))


class NatsTransport:
    """See `edow.transport.contract.Transport`."""

    def __init__(self, address: Address, options: NatsOptions) -> None:
        self._address = address
        self._options = options
        self._subscribers: set[PullSubscriber] = set()
        self._is_open = False
        self._build()

    @property
    def features(self) -> Features:
        """`max_message_bytes` is the server's own limit once the transport is open."""
        return Features(
            name="nats",
            durable=self._options.storage == "file",
            ordered_by_key=self._options.partitions > 0,
            delivery_count=True,
            native_delay=True,
            lease_extension=True,
            exclusive=True,
            broadcast=True,
            replay=False,
            waiting=True,
            lag=True,
            partitions=self._options.partitions > 0,
            max_message_bytes=self._publisher.max_message_bytes,
        )

    async def open(self) -> None:
        """Raises TransportUnavailable when no server answers; InvalidInput when it refuses us or has no JetStream."""
        if not self._is_open:
            await self._link.open()
            self._is_open = True

    async def close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        subscribers, self._subscribers = self._subscribers, set()
        await asyncio.gather(*(each.close() for each in subscribers))
        await self._link.close()
        self._build()

    async def ensure(self, topics: Sequence[TopicSpec]) -> None:
        await self._ready()
        await self._topics.ensure(topics)

    async def publish(self, messages: Sequence[Message], *, durable: bool = True) -> None:
        self._check_open()
        await self._publisher.publish(messages)

    async def subscribe(self, subscription: Subscription) -> Subscriber:
        if not subscription.topics:
            raise InvalidInput("a subscription needs at least one topic")
        await self._ready()
        found = await self._topics.find(subscription.topics)
        subscriber = self._subscriber(subscription)
        try:
            await subscriber.open([found[name] for name in dict.fromkeys(subscription.topics)])
        except BaseException:
            for name in subscription.topics:
                self._topics.forget(name)  # it may not be there any more, or not as it was
            await subscriber.close()
            raise
        self._subscribers = {each for each in self._subscribers if not each.is_closed} | {subscriber}
        return subscriber

    async def describe(self, topics: Sequence[str]) -> list[TopicStats]:
        await self._ready()
        found = await self._topics.find(topics)
        await asyncio.gather(*(each.settle() for each in self._subscribers if not each.is_closed))
        stats = await asyncio.gather(*(self._topics.groups.describe(found[name]) for name in topics))
        return [TopicStats(name, groups) for name, groups in zip(topics, stats, strict=True)]

    def _subscriber(self, subscription: Subscription) -> SharedSubscriber | ExclusiveReader | BroadcastReader:
        if subscription.mode == "exclusive":
            return ExclusiveReader(self._link, self._topics, subscription.group)
        if subscription.mode == "broadcast":
            return BroadcastReader(self._link, self._topics)
        return SharedSubscriber(self._link, self._topics, subscription)

    def _build(self) -> None:
        """Also after closing: a closed client cannot be opened again."""
        self._link = Link(self._address, self._options)
        self._topics = Topics(self._link, Groups(self._link))
        self._link.on_resume = self._topics.ensure_again
        self._publisher = Publisher(self._link, self._topics)

    async def _ready(self) -> None:
        self._check_open()
        await self._link.ready(self._options.request_timeout)

    def _check_open(self) -> None:
        if not self._is_open:
            raise Closed(f"the transport on {self._address} is closed")
