"""The PostgreSQL transport: a queue for each topic and consumer group, in a schema of its own or in the store's.

When it shares the store's schema, the store writes messages and acknowledgements in its own transactions
(`participate`), and nothing is ever published that was not committed, or the other way round.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence

from edow.address import Address
from edow.errors import EdowError, InvalidInput, PublishFailed, StoreUnavailable, Unavailable
from edow.model.message import Message
from edow.postgresql import Calls, Database, Group, Schema
from edow.postgresql.problems import closed
from edow.sql import load_queries
from edow.transport.contract import Features, GroupStats, Subscriber, Subscription, TopicSpec, TopicStats
from edow.transport.guard import guarded
from edow.transport.numbered import EVERYBODY, EXACT, Described, NumberedDelivery, Topics, bounds, done
from edow.transport.postgresql.cursor import Cursor
from edow.transport.postgresql.deliveries import add_acks, let_through
from edow.transport.postgresql.guard import opened
from edow.transport.postgresql.queues import LONGEST_NAME, Queues, add_messages, channel, channels
from edow.transport.postgresql.shared import SharedSubscriber
from edow.transport.sizes import check_sizes, pieces

BROADCAST_US = 60_000_000  # how long a broadcast message can be read
CALL_BYTES = 64 * 1024 * 1024  # of a larger batch, in one transaction: a statement may have a GiB, and has a time limit
GROUPED = 2_000  # messages or acknowledgements of several callers in one transaction

log = logging.getLogger("edow.transport.postgresql")


def connect(address: Address, clock: Callable[[], int]) -> PostgresTransport:
    """The transport that a URL names, not open yet. Raises InvalidInput."""
    return PostgresTransport(Database(address, clock))


class PostgresTransport:
    """See `edow.transport.contract.Transport`."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._features = Features(
            name="postgresql",
            durable=True,
            ordered_by_key=True,
            delivery_count=True,
            native_delay=True,
            lease_extension=True,
            exclusive=True,
            broadcast=True,
            replay=False,
            waiting=True,
            lag=True,
            partitions=False,
            max_message_bytes=database.settings.max_message_bytes,
        )
        self._sql = load_queries(__package__)
        self._queues = Queues(database, self._sql)
        self._durable: Group[Sequence[Message], None] = Group(self._publish_durably, len, GROUPED)
        self._lax: Group[Sequence[Message], None] = Group(self._publish_quickly, len, GROUPED)
        self._acks: Group[Sequence[NumberedDelivery], None] = Group(self._acknowledge, len, GROUPED)
        self._subscribers: set[SharedSubscriber | Cursor] = set()
        self._swept = 0
        self._is_open = False

    @property
    def features(self) -> Features:
        return self._features

    async def open(self) -> None:
        """Raises InvalidInput for a server that refuses us, StoreUnusable for one that cannot be used at all."""
        if self._is_open:
            return
        await opened(self.database.open())
        try:
            await opened(self.database.migrate(Schema("transport", __package__)))
            await self._queues.read()
        except BaseException:
            await self.database.close()
            raise
        for group in (self._durable, self._lax, self._acks):
            group.open()
        self._is_open = True

    async def close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        for subscriber in list(self._subscribers):
            try:
                await subscriber.close()
            except Unavailable:
                pass  # what it held comes back when its lease ends
        self._subscribers.clear()
        for group in (self._durable, self._lax, self._acks):
            await group.close()
        await self.database.close()

    async def ensure(self, topics: Sequence[TopicSpec]) -> None:
        self._check_open()
        for spec in topics:
            _check_name("topic", spec.name)
            for group in spec.groups:
                _check_name("group", group)
        if not self._queues.topics.has(topics):
            await self._queues.make(topics)

    async def publish(self, messages: Sequence[Message], *, durable: bool = True) -> None:
        self._check_open()
        check_sizes(messages, self._features.max_message_bytes)
        parts = list(pieces(messages, len(messages), CALL_BYTES))
        if len(parts) > 1:
            await self._queues.know(messages)  # a topic that is not there is told before anything is published
        for first, part in parts:
            try:
                await (self._durable if durable else self._lax).submit(part)
            except StoreUnavailable as problem:
                raise PublishFailed(str(problem), tuple(range(first, len(messages)))) from problem

    async def subscribe(self, subscription: Subscription) -> Subscriber:
        self._check_open()
        if not subscription.topics:
            raise InvalidInput("a subscription needs at least one topic")
        topics = await self._queues.read()
        group = subscription.group
        if subscription.mode == "broadcast":
            group = EVERYBODY
            for name in subscription.topics:
                topics.groups_of(name)
            topics = await self._queues.make([TopicSpec(name, (EVERYBODY,)) for name in subscription.topics])
        queues = [(topic, topics.queue(topic, group)) for topic in subscription.topics]
        await guarded(self.database.listen(channel(queue) for _, queue in queues))
        subscriber = await self._subscriber(subscription, queues)
        if not self._is_open:  # closed meanwhile
            await subscriber.close()
        self._check_open()
        self._subscribers = {each for each in self._subscribers if not each.is_closed} | {subscriber}
        return subscriber

    async def describe(self, topics: Sequence[str]) -> list[TopicStats]:
        self._check_open()
        known = await self._queues.read()
        for topic in topics:
            known.groups_of(topic)
        now = self.database.clock()
        rows = await guarded(self.database.fetch(self._sql["describe"], list(topics), now, EXACT))
        groups: dict[str, list[GroupStats]] = {topic: [] for topic in topics}
        for topic, group, *described in rows:
            groups[topic].append(Described(*described).of(group))
        return [TopicStats(topic, groups[topic]) for topic in topics]

    # in the store's transactions: see edow.store.postgresql.commit.Participant

    async def prepare(self, messages: Sequence[Message], *, again: bool = False) -> None:
        if again:
            await self._queues.read()
        await self._queues.know(messages)

    def participate(
        self, calls: Calls, messages: Sequence[Message], acks: Sequence[object]
    ) -> Callable[[Sequence[object]], None]:
        topics = self._queues.topics
        mine = [each for each in acks if isinstance(each, NumberedDelivery)]
        let = add_acks(calls, mine) if mine else None
        if messages:
            add_messages(calls, topics, messages, self.database.clock())

        def after(answer: Sequence[object]) -> None:
            done(mine)
            self.database.notify(channels(topics, messages) | let_through(answer, let))

        return after

    # how

    async def _publish_durably(self, batches: Sequence[Sequence[Message]]) -> list[None]:
        return await self._publish(batches, lax=False)

    async def _publish_quickly(self, batches: Sequence[Sequence[Message]]) -> list[None]:
        return await self._publish(batches, lax=True)

    async def _publish(self, batches: Sequence[Sequence[Message]], *, lax: bool) -> list[None]:
        messages = [message for batch in batches for message in batch]
        topics = await self._queues.publish(messages, lax=lax)
        self.database.notify(channels(topics, messages))
        await self._sweep(topics, messages)
        return [None] * len(batches)

    async def _sweep(self, topics: Topics, messages: Sequence[Message]) -> None:
        """Now and then, who broadcasts takes away what everybody has had time to read."""
        now = self.database.clock()
        if now - self._swept > BROADCAST_US // 6 and any(
            EVERYBODY in topics.groups.get(name, ()) for name in {message.topic for message in messages}
        ):
            self._swept = now
            try:
                await self.database.write(self._sql["expire"], now - BROADCAST_US)
            except EdowError as problem:  # the messages are published, so nobody must publish them again
                log.warning("old broadcasts were not taken away, they will be later: %s", problem)

    async def _acknowledge(self, batches: Sequence[Sequence[NumberedDelivery]]) -> list[None]:
        """What is lost with the server's memory is delivered again, so nobody waits for the disk."""
        mine = [each for batch in batches for each in batch]
        calls = Calls(lax=True)
        let = add_acks(calls, mine)
        answer = tuple(await self.database.call(calls))
        done(mine)
        self.database.notify(let_through(answer, let))
        return [None] * len(batches)

    async def _subscriber(
        self, subscription: Subscription, queues: Sequence[tuple[str, int]]
    ) -> SharedSubscriber | Cursor:
        if subscription.mode == "shared":
            owner = secrets.randbits(62) + 1
            return SharedSubscriber(self.database, subscription, queues, owner, self._settle)
        incarnation = await self._incarnation(), self._incarnation
        tails: dict[int, int] = {}
        broadcast = subscription.mode == "broadcast"
        if broadcast:
            rows = await guarded(self.database.fetch(self._sql["tails_read"], [queue for _, queue in queues]))
            tails = {row[0]: row[1] for row in rows}
        positions = {queue: (topic, bounds(queue)[0] + tails.get(queue, 0)) for topic, queue in queues}
        return Cursor(self.database, positions, broadcast, incarnation, self._settle)

    async def _settle(self, deliveries: Sequence[NumberedDelivery]) -> None:
        self._check_open()
        await guarded(self._acks.submit(deliveries))

    async def _incarnation(self) -> int:
        """Of the server: how we shall know that it has crashed."""
        await guarded(self.database.write(self._sql["incarnation_begin"], secrets.randbits(62) + 1))
        ((number,),) = await guarded(self.database.fetch(self._sql["incarnation_read"]))
        return int(number)

    def _check_open(self) -> None:
        if not self._is_open:
            raise closed(self.database.place)


def _check_name(what: str, name: str) -> None:
    if not name or len(name) > LONGEST_NAME:
        raise InvalidInput(f"a {what} needs a name of 1 to {LONGEST_NAME} characters, not {name[:50]!r}")
