"""The Kafka transport: one producer and one administrator for all, and a consumer for each topic that is read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence

from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]

from edow.address import Address
from edow.errors import Closed, InvalidInput
from edow.model.message import Message
from edow.transport.contract import Features, Subscriber, Subscription, TopicSpec, TopicStats
from edow.transport.kafka.cluster import Cluster
from edow.transport.kafka.connection import Connection
from edow.transport.kafka.lag import State, stats_of
from edow.transport.kafka.partition import Place, Progress
from edow.transport.kafka.problems import let_in
from edow.transport.kafka.publisher import Record
from edow.transport.kafka.reader import Plan
from edow.transport.kafka.settings import LONGEST_KEY, Clients
from edow.transport.kafka.subscriber import KafkaSubscriber
from edow.transport.sizes import OR_ELSE, check_sizes, key_of

SETTLE_SECONDS = 5.0  # for a new member to be given partitions; where there are more members than those, it gets none


def connect(address: Address, clock: Callable[[], int]) -> KafkaTransport:
    """The transport a kafka:// URL names, not open yet. Raises InvalidInput for options that make no sense."""
    return KafkaTransport(address, clock)


class KafkaTransport:
    """See `edow.transport.contract.Transport`."""

    def __init__(self, address: Address, clock: Callable[[], int]) -> None:
        self._address = str(address)
        self._clock = clock
        self._clients = Clients(address)
        self._settings = settings = self._clients.settings
        self._names = self._clients.names
        self._connection: Connection | None = None
        self._subscribers: set[KafkaSubscriber] = set()
        self.features = Features(
            name="kafka",
            durable=settings.fsync,
            ordered_by_key=True,
            ordered=settings.partitions == 1,
            competing=False,
            delivery_count=False,
            native_delay=False,
            lease_extension=True,
            exclusive=True,
            broadcast=True,
            replay=True,
            waiting=True,
            lag=True,
            partitions=True,
            max_message_bytes=settings.max_message_bytes,
        )

    async def open(self) -> None:
        """Raises TransportUnavailable when no broker answers in time, and InvalidInput for credentials that it does
        not take or options that librdkafka does not know.
        """
        if self._connection is not None:
            return
        connection = Connection(self._clients, self._address)
        try:
            await connection.greet()
        except BaseException:
            await connection.close(0)
            raise
        self._connection = connection

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await asyncio.gather(*(subscriber.close() for subscriber in self._subscribers))
            self._subscribers.clear()
            await connection.close(self._settings.timeout)

    async def ensure(self, topics: Sequence[TopicSpec]) -> None:
        with let_in():
            await self._open().cluster.ensure(topics)

    async def publish(self, messages: Sequence[Message], *, durable: bool = True) -> None:
        """Waits for all in-sync replicas, whatever `durable` says. Messages without a key go to the partitions in
        turn.
        """
        connection = self._open()
        check_sizes(messages, self._settings.max_message_bytes, OR_ELSE)
        with let_in():
            places = {topic: await connection.cluster.places(topic) for topic in {each.topic for each in messages}}
        records = []
        for index, message in enumerate(messages):
            of_topic = places[message.topic]
            key = key_of(index, message, LONGEST_KEY, "surrogateescape")  # as readers make it of any bytes
            number = connection.publisher.turn(message.topic) % len(of_topic) if key is None else -1
            records.append(Record(of_topic[0][0], message.body, key, number))
        if records:
            await connection.publisher.publish(records, self._clock() // 1_000)

    async def subscribe(self, subscription: Subscription) -> Subscriber:
        """Raises InvalidInput for a topic that does not exist or may not be read."""
        connection = self._open()
        if not subscription.topics:
            raise InvalidInput("a subscription needs at least one topic")
        starts = await self._starts(connection, subscription)
        shared = subscription.mode == "shared"
        doing = f"{self._address}: reading {', '.join(repr(topic) for topic in subscription.topics)}"
        lease_seconds = subscription.lease_seconds if shared else None
        plans = self._plans(subscription, starts, connection.cluster)
        subscriber = KafkaSubscriber(plans, lease_seconds, self._settings.prefetch, doing)
        self._subscribers = {each for each in self._subscribers if not each.is_closed} | {subscriber}
        try:
            if shared:
                await subscriber.settle(SETTLE_SECONDS)
        except BaseException:
            await subscriber.close()
            raise
        return subscriber

    async def describe(self, topics: Sequence[str]) -> list[TopicStats]:
        """Members tell the brokers how far they are and what they have in hand a few times a second; our own are asked
        themselves. Raises InvalidInput for a topic that does not exist.
        """
        cluster = self._open().cluster
        found = await cluster.states(topics)
        places = {place for progress in found.values() for place in progress}
        ends = await cluster.offsets(places, OffsetSpec.latest())  # type: ignore[no-untyped-call]
        begins = await cluster.offsets(places, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
        ours = {(group, place): each for one in self._subscribers for group, place, each in one.progress()}
        states: dict[tuple[str, str], list[State]] = {}
        for (topic, group), progress in found.items():
            ids = self._names.members(topic, group), self._names.places(group)
            for place, told in progress.items():
                known = next((ours[id, place] for id in ids if (id, place) in ours), told)
                states.setdefault((topic, group), []).append(State(place, known, begins[place], ends[place]))
        times = await cluster.times({state.spot for each in states.values() for state in each if state.left})
        return [
            TopicStats(topic, [stats_of(key[1], states[key], times) for key in sorted(states) if key[0] == topic])
            for topic in topics
        ]

    async def _starts(self, connection: Connection, subscription: Subscription) -> dict[Place, Progress]:
        cluster, topics = connection.cluster, subscription.topics
        places = [place for topic in topics for place in await cluster.places(topic)]
        if subscription.mode != "broadcast":
            return await cluster.starts(topics, subscription.group)
        ends = await cluster.offsets(places, OffsetSpec.latest())  # type: ignore[no-untyped-call]
        return {place: Progress(offset) for place, offset in ends.items()}

    def _plans(self, subscription: Subscription, starts: Mapping[Place, Progress], cluster: Cluster) -> Iterator[Plan]:
        """A consumer for each topic that is shared; else one for all."""
        settings, group, member = self._settings, subscription.group, subscription.member
        topics = {self._names.topic(topic): topic for topic in subscription.topics}
        if subscription.mode != "shared":
            id, tracked = self._names.places(group), subscription.mode == "exclusive"
            yield Plan(
                self._clients.reader(id, member), id, topics, starts, None, tracked, 0.0, settings.window, cluster
            )
            return
        for name, topic in topics.items():
            id = self._names.members(topic, group)
            config = self._clients.member(id, member)
            yield Plan(config, id, topics, starts, name, True, settings.handover, settings.window, cluster)

    def _open(self) -> Connection:
        if self._connection is None:
            raise Closed(f"the transport on {self._address} is closed")
        return self._connection
