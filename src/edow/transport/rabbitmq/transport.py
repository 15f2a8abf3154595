"""The RabbitMQ transport. How topics and groups become exchanges and queues is told in `names`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from edow.address import Address
from edow.errors import Closed, InvalidInput
from edow.model.message import Message
from edow.transport.contract import Features, Subscriber, Subscription, TopicSpec, TopicStats
from edow.transport.rabbitmq.lane import Lane
from edow.transport.rabbitmq.link import Link
from edow.transport.rabbitmq.names import Names
from edow.transport.rabbitmq.options import Server, read
from edow.transport.rabbitmq.publisher import Publisher
from edow.transport.rabbitmq.subscriber import RabbitSubscriber
from edow.transport.rabbitmq.topology import Topology
from edow.transport.sizes import OR_ELSE, check_sizes, key_of

LONGEST_KEY = 32_000  # bytes: it travels in a frame with all other headers


def connect(address: Address, clock: Callable[[], int]) -> RabbitTransport:
    """The transport an address names, not open yet. Raises InvalidInput for options that cannot be.

    `clock` is not needed: RabbitMQ has no times of its own that ours would have to agree with.
    """
    return RabbitTransport(read(address))


class RabbitTransport:
    """See `edow.transport.contract.Transport`."""

    def __init__(self, server: Server) -> None:
        options = server.options
        self._server = server
        self._features = Features(
            name="rabbitmq",
            durable=True,
            ordered_by_key=options.partitions > 0,
            delivery_count=options.queue == "quorum",
            native_delay=False,
            lease_extension=True,
            exclusive=True,
            broadcast=True,
            replay=False,
            waiting=True,
            lag=False,  # it tells clients neither what is in hand nor since when
            partitions=options.partitions > 0,
            max_message_bytes=options.max_message_bytes,
        )
        self._out = Link(server, "publishing")
        self._in = Link(server, "receiving")
        self._topology = Topology(self._in, Names(options))
        self._publisher = Publisher(self._out, self._topology)
        self._subscribers: set[RabbitSubscriber] = set()
        self._is_open = False
        self._is_closed = False

    @property
    def features(self) -> Features:
        return self._features

    async def open(self) -> None:
        """Raises TransportUnavailable when no host answers; InvalidInput for a wrong password, a virtual host that is
        missing, a permission that is, or a prefix that is in use with other `partitions`.
        """
        if self._is_open:
            return
        if self._is_closed:
            raise Closed(f"the transport to {self._in} is closed")
        try:
            await self._topology.check_layout()
            await self._publisher.channel()
        except BaseException:
            await asyncio.gather(self._in.drop(), self._out.drop())
            raise
        self._is_open = True

    async def close(self) -> None:
        self._is_open, self._is_closed = False, True
        await asyncio.gather(*(subscriber.close() for subscriber in self._subscribers))
        self._subscribers.clear()
        await asyncio.gather(self._in.close(), self._out.close())

    async def ensure(self, topics: Sequence[TopicSpec]) -> None:
        self._check_open()
        await self._topology.ensure(topics)

    async def publish(self, messages: Sequence[Message], *, durable: bool = True) -> None:
        self._check_open()
        check_sizes(messages, self._features.max_message_bytes, OR_ELSE)
        for index, message in enumerate(messages):
            key_of(index, message, LONGEST_KEY)
        if messages:
            await self._publisher.publish(messages)

    async def subscribe(self, subscription: Subscription) -> Subscriber:
        self._check_open()
        if not subscription.topics:
            raise InvalidInput("a subscription needs at least one topic")
        topics = list(dict.fromkeys(subscription.topics))
        lanes: list[Lane] = []
        if subscription.mode == "broadcast":
            await self._topology.look_for(topics)
            lanes = [Lane(topic, "", partition=False, counts=False) for topic in topics]
        else:
            for topic in topics:
                await self._topology.look_for_group(topic, subscription.group)
                lanes += self._lanes(topic, subscription.group)
        subscriber = RabbitSubscriber(self._in, self._topology, subscription, lanes)
        self._subscribers = {each for each in self._subscribers if not each.is_closed} | {subscriber}
        await subscriber.start()
        return subscriber

    def _lanes(self, topic: str, group: str) -> list[Lane]:
        names, counts = self._topology.names, self._features.delivery_count
        return [
            Lane(topic, names.queue(topic, group, key), partition=bool(key), counts=counts)
            for key in names.routing_keys(topic)
        ]

    async def describe(self, topics: Sequence[str]) -> list[TopicStats]:
        """See the contract. What members have fetched and not handed out yet is not counted as waiting."""
        self._check_open()
        await self._topology.look_for(topics)
        return await self._topology.count(topics)

    def _check_open(self) -> None:
        if not self._is_open:
            raise Closed(f"the transport to {self._in} is not open")
