"""The NATS JetStream transport: puts its parts together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from edow.address import Address
from edow.errors import Closed, InvalidInput
from edow.model.message import Message
from edow.transport.contract import Features, Subscriber, Subscription, TopicSpec, TopicStats
from edow.transport.nats.api import Api
from edow.transport.nats.groups import Groups
from edow.transport.nats.link import Link
from edow.transport.nats.options import NatsOptions, read
from edow.transport.nats.publisher import Publisher
from edow.transport.nats.reader import BroadcastReader, ExclusiveReader
from edow.transport.nats.shared import SharedSubscriber
from edow.transport.nats.topics import Topics

DEFAULT_MAX_PAYLOAD = 1024 * 1024  # the server's, unless it says otherwise


def connect(address: Address, clock: Callable[[], int]) -> NatsTransport:
    """The transport at a nats:// address, not open yet. The broker's clock is the one that counts."""
    return NatsTransport(address, read(address))


class NatsTransport:
    """See `edow.transport.contract.Transport`."""

    def __init__(self, address: Address, options: NatsOptions) -> None:
        self._address = address
        self._options = options
        self._build()
        self._subscribers: set[SharedSubscriber | ExclusiveReader | BroadcastReader] = set()
        self._is_open = False

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
            lag=True,
            partitions=self._options.partitions > 0,
            max_message_bytes=self._publisher.max_message_bytes,
        )

    async def open(self) -> None:
        """Raises TransportUnavailable when no server answers; InvalidInput when it refuses us or has no JetStream."""
        if self._is_open:
            return
        await self._link.open()
        try:
            await self._api.check()
            await self._publisher.open()
        except BaseException:
            await self._link.close()
            self._build()
            raise
        self._link.on_resume(self._topics.ensure_again)
        self._link.on_resume(self._publisher.open)
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
            await subscriber.close()
            raise
        self._subscribers = {each for each in self._subscribers if not each.is_closed} | {subscriber}
        return subscriber

    async def describe(self, topics: Sequence[str]) -> list[TopicStats]:
        await self._ready()
        found = await self._topics.find(topics)
        await asyncio.gather(*(each.settle() for each in self._subscribers if not each.is_closed))
        stats = await asyncio.gather(*(self._groups.describe(found[name]) for name in topics))
        return [TopicStats(name, groups) for name, groups in zip(topics, stats, strict=True)]

    def _subscriber(self, subscription: Subscription) -> SharedSubscriber | ExclusiveReader | BroadcastReader:
        if subscription.mode == "exclusive":
            return ExclusiveReader(self._link, self._groups, self._api.prefix, subscription.group)
        if subscription.mode == "broadcast":
            return BroadcastReader(self._link, self._groups, self._api.prefix)
        return SharedSubscriber(self._link, self._groups, self._api.prefix, subscription)

    def _build(self) -> None:
        """Also after closing: a closed client cannot be opened again."""
        self._link = Link(self._address, self._options)
        self._api = Api(self._link)
        self._topics = Topics(self._api, self._options)
        self._groups = Groups(self._api, self._topics)
        self._publisher = Publisher(self._link, self._topics)

    async def _ready(self) -> None:
        self._check_open()
        await self._link.ready(self._options.request_timeout)

    def _check_open(self) -> None:
        if not self._is_open:
            raise Closed(f"the transport on {self._address} is closed")
