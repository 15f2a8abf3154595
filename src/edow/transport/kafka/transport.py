"""The Kafka transport: one producer and one administrator for all, and a consumer for each topic that is read."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from edow.address import Address
from edow.errors import Closed, EdowError, InvalidInput
from edow.model.message import Message
from edow.transport.contract import Features, Subscriber, Subscription, TopicSpec, TopicStats
from edow.transport.kafka.cluster import Cluster
from edow.transport.kafka.desk import Desk
from edow.transport.kafka.feed import Plan
from edow.transport.kafka.lag import Lag
from edow.transport.kafka.partition import Place, Progress
from edow.transport.kafka.problems import Lines, log, translate
from edow.transport.kafka.publisher import Publisher, Record
from edow.transport.kafka.settings import LONGEST_KEY, Clients, Names
from edow.transport.kafka.share import Rules
from edow.transport.kafka.subscriber import KafkaSubscriber

PUMP_SECONDS = 0.2
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
        self._names = Names(settings.prefix)
        self._features = Features(
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
            lag=True,
            partitions=True,
            max_message_bytes=settings.max_message_bytes,
        )
        self._connection: Connection | None = None
        self._subscribers: set[KafkaSubscriber] = set()

    @property
    def features(self) -> Features:
        return self._features

    async def open(self) -> None:
        """Raises TransportUnavailable when no broker answers in time, and InvalidInput for credentials that it does
        not take or options that librdkafka does not know.
        """
        if self._connection is not None:
            return
        connection = Connection(self._clients, self._names, self._address)
        try:
            await connection.greet()
        except BaseException:
            await connection.close(0)
            raise
        self._connection = connection

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        await asyncio.gather(*(subscriber.close() for subscriber in self._subscribers))
        self._subscribers.clear()
        await connection.close(self._settings.timeout)

    async def ensure(self, topics: Sequence[TopicSpec]) -> None:
        await self._open().cluster.ensure(topics)

    async def publish(self, messages: Sequence[Message], *, durable: bool = True) -> None:
        """Waits for all in-sync replicas, whatever `durable` says. Messages without a key go to the partitions in
        turn.
        """
        connection = self._open()
        sizes = await self._sizes(connection.cluster, {message.topic for message in messages})
        turn = connection.publisher.turn
        records = []
        for index, message in enumerate(messages):
            self._check_size(index, message)
            name, size = sizes[message.topic]
            key = message.key
            if key is None:
                records.append(Record(name, message.body, None, turn(name, size)))
            else:
                records.append(Record(name, message.body, _encode(index, message, key), -1))
        if records:
            await connection.publisher.publish(records, self._clock() // 1_000)

    async def subscribe(self, subscription: Subscription) -> Subscriber:
        """Raises InvalidInput for a topic that does not exist or may not be read."""
        connection = self._open()
        if not subscription.topics:
            raise InvalidInput("a subscription needs at least one topic")
        await self._sizes(connection.cluster, set(subscription.topics))
        subscriber = await self._subscriber(connection, subscription)
        self._subscribers = {each for each in self._subscribers if not each.is_closed} | {subscriber}
        try:
            if subscription.mode == "shared":
                await subscriber.settle(SETTLE_SECONDS)
        except BaseException:
            await subscriber.close()
            raise
        return subscriber

    async def describe(self, topics: Sequence[str]) -> list[TopicStats]:
        """Members tell how far they are and what they have in hand a few times a second; our own are asked first."""
        connection = self._open()
        await asyncio.gather(*(subscriber.flush() for subscriber in self._subscribers))
        return await connection.lag.describe(topics)

    async def _subscriber(self, connection: Connection, subscription: Subscription) -> KafkaSubscriber:
        settings, names, mode, group = self._settings, self._names, subscription.mode, subscription.group
        if mode == "broadcast":
            starts = await connection.ends(subscription.topics)
        else:
            starts = await connection.cluster.starts(subscription.topics, group)
        shared = mode == "shared"
        rules = Rules(shared, mode != "broadcast", settings.window, settings.prefetch)
        topics = {names.topic(topic): topic for topic in subscription.topics}
        doing = f"{self._address}: reading {', '.join(repr(topic) for topic in subscription.topics)}"
        subscriber = KafkaSubscriber(rules, subscription.lease_seconds if shared else None, doing)
        if not shared:
            plan = Plan(self._clients.reader(names.places(group), subscription.member))
            subscriber.add(plan, topics, starts, subscription.topics[0])
            return subscriber
        for name, topic in topics.items():
            config = self._clients.member(names.members(topic, group), subscription.member)
            subscriber.add(Plan(config, name, settings.handover), {name: topic}, starts, topic)
        return subscriber

    async def _sizes(self, cluster: Cluster, topics: set[str]) -> dict[str, tuple[str, int]]:
        """Names and partitions. Raises InvalidInput if there is no such topic."""
        sizes = {}
        for topic in topics:
            sizes[topic] = (self._names.topic(topic), len(await cluster.places(topic)))
        return sizes

    def _open(self) -> Connection:
        if self._connection is None:
            raise Closed(f"the transport on {self._address} is closed")
        return self._connection

    def _check_size(self, index: int, message: Message) -> None:
        most = self._features.max_message_bytes
        if len(message.body) > most:
            raise InvalidInput(
                f"message {index} to {message.topic!r} has {len(message.body):,} bytes, the limit is {most:,}: "
                "store the payload elsewhere and send a reference"
            )


class Connection:
    """The clients of an open transport, and the thread on which they tell what they have to tell."""

    def __init__(self, clients: Clients, names: Names, address: str) -> None:
        """Raises InvalidInput for options that librdkafka does not take."""
        settings = clients.settings
        self._address = address
        self._loop = asyncio.get_running_loop()
        self._refused: asyncio.Future[None] = self._loop.create_future()
        self._ending = threading.Event()
        self._lines = Lines()
        self._producing = clients.producer
        try:
            self._admin = AdminClient({**clients.admin, "error_cb": self._on_error}, logger=self._lines)  # type: ignore[dict-item]
            self.publisher = Publisher(self._producer, address, self._gone)
        except KafkaException as problem:
            raise InvalidInput(f"{address}: {problem.args[0].str()}") from problem
        desk = Desk(clients.reader, settings.timeout, address)
        self.cluster = Cluster(self._admin, desk, names, settings, address)
        self.lag = Lag(self.cluster, desk, names.places("lag"), settings.timeout)
        self._pump = threading.Thread(target=self._poll, name="edow-kafka-reports", daemon=True)
        self._pump.start()

    async def greet(self) -> None:
        """Raises what the first answer is, unless it is a good one."""
        greeting = asyncio.ensure_future(self.cluster.greet())
        await asyncio.wait([greeting, self._refused], return_when=asyncio.FIRST_COMPLETED)
        if greeting.done():
            return await greeting
        greeting.cancel()
        await asyncio.wait([greeting])
        return self._refused.result()

    async def close(self, seconds: float) -> None:
        """What is being published gets this long."""
        await self.publisher.close(seconds)
        self._ending.set()
        await asyncio.to_thread(self._pump.join)

    async def ends(self, topics: Sequence[str]) -> dict[Place, Progress]:
        """The ends of all partitions of the topics."""
        places = [place for topic in topics for place in await self.cluster.places(topic)]
        ends = await self.cluster.offsets(places, OffsetSpec.latest())  # type: ignore[no-untyped-call]
        return {place: Progress(offset) for place, offset in ends.items()}

    def _producer(self, on_error: Callable[[KafkaError], None]) -> Producer:
        return Producer({**self._producing, "error_cb": on_error}, logger=self._lines)

    def _poll(self) -> None:
        while not self._ending.is_set():
            try:
                self.publisher.poll(PUMP_SECONDS)
                self._admin.poll(0)
            except Exception:  # whatever it is, the next batch's reports must come in
                log.exception("%s: polling failed in an unexpected way", self._address)
                self._ending.wait(PUMP_SECONDS)

    def _gone(self, name: str) -> None:
        self.cluster.forget(name)

    def _on_error(self, error: KafkaError) -> None:
        """Called by the pump. Only what is refused before anything else has worked is of interest."""
        trouble = translate(error, f"{self._address}: connecting")
        if isinstance(trouble, InvalidInput):
            try:
                self._loop.call_soon_threadsafe(self._refuse, trouble)
            except RuntimeError:
                pass

    def _refuse(self, trouble: EdowError) -> None:
        if not self._refused.done():
            self._refused.set_exception(trouble)
            self._refused.exception()  # that nobody may have asked is no fault


def _encode(index: int, message: Message, key: str) -> bytes:
    try:
        encoded = key.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as problem:
        raise InvalidInput(f"message {index} to {message.topic!r} has a key that is no text: {key!r}") from problem
    if len(encoded) > LONGEST_KEY:
        raise InvalidInput(f"message {index} to {message.topic!r} has a key over the limit of {LONGEST_KEY:,} bytes")
    return encoded
