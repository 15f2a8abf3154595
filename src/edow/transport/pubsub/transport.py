"""The transport over Google Pub/Sub."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from edow.address import Address
from edow.errors import InvalidInput, Unsupported
from edow.model.message import Message
from edow.transport.contract import Features, Subscription, TopicSpec, TopicStats
from edow.transport.pubsub.link import Link
from edow.transport.pubsub.names import Names
from edow.transport.pubsub.options import PubsubOptions
from edow.transport.pubsub.publisher import MOST_BYTES, Publisher
from edow.transport.pubsub.subscriber import PubsubSubscriber
from edow.transport.pubsub.topics import Topics


class PubsubTransport:
    """See `edow.transport.contract.Transport`."""

    features = Features(
        name="pubsub",
        durable=True,
        ordered_by_key=True,
        ordered=False,
        exclusive_ordered=False,
        delivery_count=False,
        native_delay=False,
        lease_extension=True,
        exclusive=True,
        broadcast=True,
        replay=False,
        waiting=False,
        lag=False,
        partitions=False,
        max_message_bytes=MOST_BYTES,
    )

    def __init__(self, address: Address, project: str, options: PubsubOptions) -> None:
        self._address = address
        self._options = options
        self._link = Link(address, project, options)
        self._topics = Topics(self._link, Names(project, options.prefix), options)
        self._publisher = Publisher(self._link, self._topics)
        self._subscribers: list[PubsubSubscriber] = []

    async def open(self) -> None:
        """Raises InvalidInput for wrong credentials or a permission that is missing, TransportUnavailable."""
        if not self._link.is_open:
            await self._link.open()

    async def close(self) -> None:
        if self._link.is_open:
            self._link.is_open = False
            await asyncio.gather(*(each.close() for each in self._subscribers))
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

    async def subscribe(self, subscription: Subscription) -> PubsubSubscriber:
        self._link.check_open()
        if not subscription.topics:
            raise InvalidInput("a subscription needs at least one topic")
        group = None if subscription.mode == "broadcast" else subscription.group
        sources = await asyncio.gather(*(self._topics.source(topic, group) for topic in subscription.topics))
        self._link.check_open()
        subscriber = PubsubSubscriber(self._link, self._topics, self._options, subscription, sources)
        self._subscribers = [*(each for each in self._subscribers if not each.is_closed), subscriber]
        return subscriber

    async def describe(self, topics: Sequence[str]) -> list[TopicStats]:
        """Unsupported: only Google Cloud Monitoring knows it, minutes late."""
        self._link.check_open()
        raise Unsupported(
            f"{self._address}: Pub/Sub does not tell what waits in a subscription; see "
            "subscription/num_undelivered_messages in Cloud Monitoring"
        )
