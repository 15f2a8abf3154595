"""The transport over Amazon SQS and SNS, or servers that speak their language. See `edow.transport.contract`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from edow.address import Address
from edow.errors import Closed, InvalidInput, Unsupported
from edow.model.message import Message
from edow.transport.contract import Features, GroupStats, Subscriber, Subscription, TopicSpec, TopicStats
from edow.transport.sqs.broadcast import Listening
from edow.transport.sqs.catalog import Catalog
from edow.transport.sqs.names import Names
from edow.transport.sqs.options import Options
from edow.transport.sqs.publishing import Publisher
from edow.transport.sqs.service import Missing, Rejected, Service, gather
from edow.transport.sqs.setup import Setup
from edow.transport.sqs.subscriber import Reading, Source, SqsSubscriber

COUNTS = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesDelayed", "ApproximateNumberOfMessagesNotVisible")


class SqsTransport:
    """See `edow.transport.contract.Transport`."""

    def __init__(self, address: Address, options: Options, clock: Callable[[], int]) -> None:
        self._address = address
        self._options = options
        self._clock = clock
        self._features = Features(
            name="sqs",
            durable=True,
            ordered_by_key=options.fifo,
            delivery_count=True,
            native_delay=True,
            lease_extension=True,
            exclusive=True,
            broadcast=options.sns != "none",
            replay=False,
            lag=False,  # SQS counts approximately, and does not tell the age of what it holds
            partitions=False,
            max_message_bytes=options.max_message_bytes,
            competing=True,
            ordered=False,
        )
        names = Names(options)
        self._service = Service(address, options, names.prefix)
        self._catalog = Catalog(self._service, names, options)
        self._setup = Setup(self._service, self._catalog, options, clock)
        self._publisher = Publisher(self._service, self._catalog, options)
        self._subscribers: set[SqsSubscriber] = set()
        self._polls: set[asyncio.Task[None]] = set()
        self._is_open = False

    @property
    def features(self) -> Features:
        return self._features

    async def open(self) -> None:
        """Raises InvalidInput for credentials that are wrong or may not do this, TransportUnavailable when SQS is
        away.
        """
        if not self._is_open:
            await self._service.open()
            self._is_open = True

    async def close(self) -> None:
        """See the contract. Polls under way are broken off: what SQS answers to them comes again after a lease."""
        if not self._is_open:
            return
        self._is_open = False
        await asyncio.gather(*(subscriber.close() for subscriber in self._subscribers))
        self._subscribers.clear()
        polls = list(self._polls)
        for poll in polls:
            poll.cancel()
        await asyncio.gather(*polls, return_exceptions=True)
        await self._service.close()

    async def ensure(self, topics: Sequence[TopicSpec]) -> None:
        """See the contract. Adding a group to a topic that has others takes a little longer than the option `refresh`,
        unless all goes through SNS.
        """
        self._check_open()
        await self._setup.ensure(topics)

    async def publish(self, messages: Sequence[Message], *, durable: bool = True) -> None:
        self._check_open()
        if messages:
            await self._publisher.publish(messages)

    async def subscribe(self, subscription: Subscription) -> Subscriber:
        self._check_open()
        if not subscription.topics:
            raise InvalidInput("a subscription needs at least one topic")
        try:
            await self._catalog.know(subscription.topics)
            subscriber = await self._subscriber(subscription)
        except Rejected as problem:
            raise InvalidInput(f"cannot subscribe to {', '.join(subscription.topics)}: {problem}") from problem
        self._subscribers = {each for each in self._subscribers if not each.is_closed} | {subscriber}
        return subscriber

    async def describe(self, topics: Sequence[str]) -> list[TopicStats]:
        """See the contract. The numbers are SQS's approximations; it does not tell how old the oldest message is."""
        self._check_open()
        await self._catalog.know(topics)
        return [TopicStats(topic, await self._group_stats(topic)) for topic in topics]

    async def _subscriber(self, subscription: Subscription) -> SqsSubscriber:
        reading = Reading.of(subscription)
        if subscription.mode == "broadcast":
            return await self._listener(subscription, reading)
        sources = [Source(topic, self._catalog.queue(topic, subscription.group)) for topic in subscription.topics]
        return SqsSubscriber(self._service, self._options, sources, reading, self._polls)

    async def _listener(self, subscription: Subscription, reading: Reading) -> SqsSubscriber:
        if not self._features.broadcast:
            raise Unsupported("broadcasts go through SNS, and sns=none is to go without: leave it out")
        listening = Listening(self._service, self._catalog, self._setup, self._clock)
        try:
            await gather(listening.sweep(topic) for topic in subscription.topics)
            sources = await gather(listening.begin(topic) for topic in subscription.topics)
        except BaseException:
            await listening.end()
            raise
        return SqsSubscriber(self._service, self._options, sources, reading, self._polls, listening)

    async def _group_stats(self, topic: str) -> list[GroupStats]:
        groups = self._catalog.topic(topic).groups
        return await gather(self._stats(group, url) for group, url in groups.items())

    async def _stats(self, group: str, url: str) -> GroupStats:
        try:
            answer = await self._service.request("sqs", "get_queue_attributes", QueueUrl=url, AttributeNames=[*COUNTS])
        except Missing:
            self._catalog.forget()
            raise
        waiting, delayed, in_flight = (
            int(msgspec.convert(answer["Attributes"], dict[str, str])[name]) for name in COUNTS
        )
        return GroupStats(group, waiting + delayed, in_flight, None)

    def _check_open(self) -> None:
        if not self._is_open:
            raise Closed(f"the transport on {self._address} is closed")
