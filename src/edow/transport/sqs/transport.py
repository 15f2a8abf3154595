"""The transport over Amazon SQS and SNS, or servers that speak their language. See `edow.transport.contract`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from edow.address import Address
from edow.errors import Closed, InvalidInput, Unsupported
from edow.model.message import Message
from edow.transport.contract import Features, GroupStats, Subscriber, Subscription, TopicSpec, TopicStats
from edow.transport.sqs.listening import Listening
from edow.transport.sqs.options import Options
from edow.transport.sqs.publisher import Publisher
from edow.transport.sqs.service import Rejected, Service
from edow.transport.sqs.subscriber import Source, SqsSubscriber
from edow.transport.sqs.topics import Topics

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
            waiting=True,
            lag=False,  # SQS counts approximately, and does not tell the age of what it holds
            partitions=False,
            max_message_bytes=options.max_message_bytes,
            competing=True,
            ordered=False,
        )
        self._service = Service(address, options)
        self._topics = Topics(self._service, options)
        self._publisher = Publisher(self._service, self._topics, options)
        self._subscribers: set[SqsSubscriber] = set()
        self._is_open = False

    @property
    def features(self) -> Features:
        return self._features

    async def open(self) -> None:
        """Raises InvalidInput for credentials that are wrong or may not do this, TransportUnavailable when SQS is
        away.
        """
        if not self._is_open:
            await self._service.open(self._topics.names.prefix)
            self._is_open = True

    async def close(self) -> None:
        """See the contract. Polls under way are broken off: what SQS answers to them comes again after a lease."""
        self._is_open = False
        await asyncio.gather(*(subscriber.close() for subscriber in self._subscribers))
        await self._service.close()

    async def ensure(self, topics: Sequence[TopicSpec]) -> None:
        """See the contract. Adding a group to a topic that has others takes a little longer than the option
        `refresh`.
        """
        self._check_open()
        await self._topics.ensure(topics)

    async def publish(self, messages: Sequence[Message], *, durable: bool = True) -> None:
        self._check_open()
        if messages:
            await self._publisher.publish(messages)

    async def subscribe(self, subscription: Subscription) -> Subscriber:
        self._check_open()
        if not subscription.topics:
            raise InvalidInput("a subscription needs at least one topic")
        try:
            subscriber = await self._subscriber(subscription)
        except Rejected as problem:
            raise InvalidInput(f"cannot subscribe to {', '.join(subscription.topics)}: {problem}") from problem
        if not self._is_open:  # closed meanwhile
            await subscriber.close()
        self._check_open()
        self._subscribers = {each for each in self._subscribers if not each.is_closed} | {subscriber}
        return subscriber

    async def describe(self, topics: Sequence[str]) -> list[TopicStats]:
        """See the contract. The numbers are SQS's approximations; it does not tell how old the oldest message is."""
        self._check_open()
        await self._topics.know(topics)
        try:
            stats = await asyncio.gather(*map(self._group_stats, topics))
        except Rejected as problem:
            self._topics.forget(topics)
            raise InvalidInput(f"cannot count what waits in {', '.join(topics)}: {problem}") from problem
        return [TopicStats(topic, groups) for topic, groups in zip(topics, stats, strict=True)]

    async def _subscriber(self, subscription: Subscription) -> SqsSubscriber:
        topics, listening = subscription.topics, None
        await self._topics.know(topics)
        if subscription.mode != "broadcast":
            sources = [Source(topic, self._topics.queue(topic, subscription.group)) for topic in topics]
        elif not self._features.broadcast:
            raise Unsupported("broadcasts go through SNS, and sns=none is to go without: leave it out")
        else:
            listening = Listening(self._service, self._topics, self._clock)
            try:
                sources = [Source(topic, await listening.begin(topic)) for topic in topics]
            except BaseException:
                await listening.end()
                raise
        return SqsSubscriber(self._service, self._options, subscription, sources, listening)

    async def _group_stats(self, topic: str) -> list[GroupStats]:
        return await asyncio.gather(*(self._stats(group, url) for group, url in self._topics.queues(topic).items()))

    async def _stats(self, group: str, url: str) -> GroupStats:
        answer = await self._service.call("sqs", "get_queue_attributes", QueueUrl=url, AttributeNames=[*COUNTS])
        waiting, delayed, in_flight = (int(answer["Attributes"][name]) for name in COUNTS)
        return GroupStats(group, waiting + delayed, in_flight, None)

    def _check_open(self) -> None:
        if not self._is_open:
            raise Closed(f"the transport on {self._address} is closed")
