"""The SQLite transport: a queue for each topic and consumer group, in a file of its own or in the store's.

When it shares the store's file, the store writes messages and acknowledgements in its own transactions
(`participate`), and nothing is ever published that was not committed, or the other way round.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Callable, Sequence

from edow.errors import Closed, InvalidInput, PublishFailed, StoreUnavailable
from edow.model.message import Message
from edow.sqlite import Schema, SqliteFile
from edow.transport.contract import Features, GroupStats, Subscriber, Subscription, TopicSpec, TopicStats
from edow.transport.guard import guarded
from edow.transport.numbered import EVERYBODY, EXACT, Described, NumberedDelivery, Topics, bounds, done
from edow.transport.sizes import check_sizes
from edow.transport.sqlite.cursor import Cursor, Ranges
from edow.transport.sqlite.deliveries import acknowledge
from edow.transport.sqlite.queues import Published, Queues
from edow.transport.sqlite.shared import FEW, Claimer, SharedSubscriber

MAX_MESSAGE_BYTES = 8 * 1024 * 1024  # a payload of 2 MiB and what surrounds it, with room
MOST_MESSAGE_BYTES = 32 * 1024 * 1024  # a connection does not handle values of twice that size
BROADCAST_US = 60_000_000  # how long a broadcast message can be read


def _now() -> int:
    return time.time_ns() // 1000


class SqliteTransport:
    """See `edow.transport.contract.Transport`."""

    def __init__(
        self,
        file: SqliteFile,
        *,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        clock: Callable[[], int] = _now,
    ) -> None:
        if not 0 < max_message_bytes <= MOST_MESSAGE_BYTES:
            raise InvalidInput(f"max_message_bytes {max_message_bytes} is not between 1 and {MOST_MESSAGE_BYTES:,}")
        self.file = file
        self._clock = clock
        self._features = Features(
            name="sqlite",
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
            max_message_bytes=max_message_bytes,
        )
        self._queues = queues = Queues()
        self._claimer = Claimer(queues)
        self._ranges = Ranges(queues)
        self._subscribers: set[SharedSubscriber | Cursor] = set()
        self._swept = 0
        self._is_open = False

    @property
    def features(self) -> Features:
        return self._features

    async def open(self) -> None:
        """Raises StoreUnusable for a file that cannot be used at all."""
        if self._is_open:
            return
        await guarded(self.file.open())
        try:
            await guarded(self.file.migrate(Schema("transport", __package__)))
            self._queues.remember(await guarded(self.file.read(self._queues.read)))
        except BaseException:
            await self.file.close()
            raise
        self._is_open = True

    async def close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        for subscriber in list(self._subscribers):
            await subscriber.close()
        self._subscribers.clear()
        await self.file.close()

    async def ensure(self, topics: Sequence[TopicSpec]) -> None:
        self._check_open()
        for spec in topics:
            _check_name("topic", spec.name)
            for group in spec.groups:
                _check_name("group", group)
        if not self._queues.topics.has(topics):
            await self._make(topics)

    async def publish(self, messages: Sequence[Message], *, durable: bool = True) -> None:
        self._check_open()
        check_sizes(messages, self._features.max_message_bytes)
        if not messages:
            return
        try:
            await self.file.write(
                lambda connection: self._publish(connection, messages),
                disk="before" if durable else "later",
                small=len(messages) <= FEW,
                after=self._committed,
            )
        except StoreUnavailable as problem:
            raise PublishFailed(str(problem), tuple(range(len(messages)))) from problem

    async def subscribe(self, subscription: Subscription) -> Subscriber:
        self._check_open()
        if not subscription.topics:
            raise InvalidInput("a subscription needs at least one topic")
        group = EVERYBODY if subscription.mode == "broadcast" else subscription.group
        topics = await guarded(self.file.read(self._queues.read))
        self._queues.remember(topics)
        if subscription.mode == "broadcast":
            specs = [TopicSpec(name, (EVERYBODY,)) for name in subscription.topics]
            for name in subscription.topics:
                topics.queues(name)
            if not topics.has(specs):
                topics = await self._make(specs)
        queues = [(topic, topics.queue(topic, group)) for topic in subscription.topics]
        subscriber = await self._subscriber(subscription, queues)
        if not self._is_open:  # closed meanwhile
            await subscriber.close()
        self._check_open()
        self._subscribers = {each for each in self._subscribers if not each.is_closed} | {subscriber}
        return subscriber

    async def describe(self, topics: Sequence[str]) -> list[TopicStats]:
        self._check_open()
        now = self._clock()

        def read(connection: sqlite3.Connection) -> list[TopicStats]:
            known = self._queues.read(connection)
            return [TopicStats(topic, self._group_stats(connection, known, topic, now)) for topic in topics]

        return await guarded(self.file.read(read))

    def participate(
        self, connection: sqlite3.Connection, messages: Sequence[Message], acks: Sequence[object]
    ) -> Callable[[], None]:
        """See `edow.store.sqlite.commit.Participant`."""
        published = self._publish(connection, messages) if messages else Published(self._queues.topics, set())
        mine = [each for each in acks if isinstance(each, NumberedDelivery)]
        let = acknowledge(connection, self._queues.sql, mine)

        def after() -> None:
            done(mine)
            self._committed(published)
            self.file.notify(let)

        return after

    def _publish(self, connection: sqlite3.Connection, messages: Sequence[Message]) -> Published:
        now = self._clock()
        published = self._queues.publish(connection, messages, now)
        if now - self._swept > BROADCAST_US // 6:
            self._swept = now
            connection.execute(self._queues.sql["expire"], (now - BROADCAST_US,))
        return published

    def _committed(self, published: Published) -> None:
        self._queues.remember(published.topics)
        self.file.notify(published.channels)

    async def _make(self, specs: Sequence[TopicSpec]) -> Topics:
        return await guarded(
            self.file.write(lambda connection: self._queues.make(connection, specs), after=self._queues.remember)
        )

    async def _subscriber(
        self, subscription: Subscription, queues: Sequence[tuple[str, int]]
    ) -> SharedSubscriber | Cursor:
        if subscription.mode == "shared":
            owner = secrets.randbits(62) + 1
            return SharedSubscriber(self.file, self._claimer, subscription, queues, (owner, self._clock))
        tails = {queue: 0 for _, queue in queues}
        broadcast = subscription.mode == "broadcast"
        if broadcast:
            tails = await guarded(self.file.read(lambda connection: self._queues.tails(connection, list(tails))))
        positions = {queue: (topic, bounds(queue)[0] + tails[queue]) for topic, queue in queues}
        return Cursor(self.file, self._ranges, positions, broadcast, self._clock)

    def _group_stats(self, connection: sqlite3.Connection, topics: Topics, topic: str, now: int) -> list[GroupStats]:
        topics.queues(topic)
        stats: list[GroupStats] = []
        for group, queue in topics.groups[topic].items():
            if group == EVERYBODY:
                continue
            parameters = {"queue": queue, "now": now, "exact": EXACT}
            described = connection.execute(self._queues.sql["describe"], parameters).fetchone()
            stats.append(Described(*described).of(group))
        return stats

    def _check_open(self) -> None:
        if not self._is_open:
            raise Closed(f"the transport on {self.file.path} is closed")


def _check_name(what: str, name: str) -> None:
    if not name:
        raise InvalidInput(f"a {what} needs a name, not {name!r}")
