"""The transport over Google Pub/Sub."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from edow.address import Address
from edow.errors import InvalidInput, Unsupported
from edow.model.message import Message
from edow.transport.contract import Features, Subscriber, Subscription, TopicSpec, TopicStats
from edow.transport.pubsub.link import Link
from edow.transport.pubsub.listener import Listener
from edow.transport.pubsub.names import Names
from edow.transport.pubsub.options import PubsubOptions
from edow.transport.pubsub.publisher import Publisher
from edow.transport.pubsub.queue import Queue
from edow.transport.pubsub.subscriber import PubsubSubscriber
from edow.transport.pubsub.topics import Topics


class PubsubTransport:
    """See `edow.transport.contract.Transport`."""

    def __init__(self, address: Address, project: str, options: PubsubOptions) -> None:
        self._address = address
        self._options = options
        self._link = Link(address, project, options)
        names = Names(project, options)
        self._topics = Topics(self._link, names, options)
        self._publisher = Publisher(self._link, names, self._topics, options)
        self._subscribers: set[PubsubSubscriber] = set()
        self._features = Features(
            name="pubsub",
            durable=True,
            ordered_by_key=options.ordering,
            ordered=False,
            delivery_count=False,
            native_delay=False,
            lease_extension=True,
            exclusive=True,
            broadcast=True,
            replay=False,
            lag=False,
            partitions=False,
            max_message_bytes=options.max_message_bytes,
        )

    @property
    def features(self) -> Features:
        return self._features

    async def open(self) -> None:
        """Raises InvalidInput for wrong credentials or a permission that is missing, TransportUnavailable."""
        if not self._link.is_open:
            await self._link.open()

    async def close(self) -> None:
        if not self._link.is_open:
            return
        subscribers, self._subscribers = self._subscribers, set()
        await asyncio.gather(*(each.close() for each in subscribers))
        await asyncio.gather(*(each.end() for each in subscribers))
        await self._link.close()

    async def ensure(self, topics: Sequence[TopicSpec]) -> None:
        """Raises InvalidInput also for a subscription that exists and was made without what is promised here."""
        self._link.check_open()
        await self._topics.ensure(topics)

    async def publish(self, messages: Sequence[Message], *, durable: bool = True) -> None:
        """What Pub/Sub has accepted is on disk in several places; `durable` changes nothing."""
        self._link.check_open()
        if messages:
            await self._publisher.publish(messages)

    async def subscribe(self, subscription: Subscription) -> Subscriber:
        self._link.check_open()
        if not subscription.topics:
            raise InvalidInput("a subscription needs at least one topic")
        subscriber = await (
            self._listen(subscription) if subscription.mode == "broadcast" else self._read(subscription)
        )
        self._subscribers = {each for each in self._subscribers if not each.has_ended} | {subscriber}
        return subscriber

    async def describe(self, topics: Sequence[str]) -> list[TopicStats]:
        """Unsupported: only Google Cloud Monitoring knows it, minutes late."""
        self._link.check_open()
        raise Unsupported(
            f"{self._address}: Pub/Sub does not tell what waits in a subscription; see "
            "subscription/num_undelivered_messages in Cloud Monitoring"
        )

    async def _read(self, subscription: Subscription) -> PubsubSubscriber:
        group = subscription.group
        paths = await asyncio.gather(*(self._topics.find(topic, group) for topic in subscription.topics))
        subscriber = PubsubSubscriber(self._link, self._options, subscription)
        subscriber.begin(
            [
                Queue(self._link, topic, path, number, partial(self._topics.heal, topic, group))
                for number, (topic, path) in enumerate(zip(subscription.topics, paths, strict=True))
            ]
        )
        return subscriber

    async def _listen(self, subscription: Subscription) -> PubsubSubscriber:
        paths = await asyncio.gather(*(self._topics.make_own(topic) for topic in subscription.topics))
        subscriber = Listener(self._link, self._options, subscription, self._topics.delete_own)
        subscriber.begin(
            [
                Queue(self._link, topic, path, number, partial(self._listen_again, topic, path))
                for number, (topic, path) in enumerate(zip(subscription.topics, paths, strict=True))
            ]
        )
        return subscriber

    async def _listen_again(self, topic: str, path: str) -> bool:
        await self._topics.heal(topic, None)
        await self._topics.make_own(topic, path)
        return True
