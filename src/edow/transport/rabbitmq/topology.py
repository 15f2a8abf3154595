"""Making exchanges and queues, and looking whether they are there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from time import monotonic

from aiormq.abc import AbstractChannel
from aiormq.exceptions import ChannelNotFoundEntity
from pamqp.common import FieldTable

from edow.errors import InvalidInput, TransportUnavailable
from edow.model.topics import groups_of
from edow.transport.contract import GroupStats, PartitionStats, TopicSpec, TopicStats
from edow.transport.rabbitmq.link import Link, close_channel
from edow.transport.rabbitmq.names import NO_KEY, Names

BROADCAST_MOST = 10_000  # messages that wait for a listener that does not listen; the oldest are dropped beyond that

# Before what somebody has deleted is made again. RabbitMQ tells channels that a queue is gone a little later (0.03 s).
# If there is one of its name again by then, it takes the readers there by itself, forgets that it did, and what it
# delivers to them reaches nobody; what is published by such a channel may be confirmed and lost.
SETTLE_SECONDS = 1.0

log = logging.getLogger("edow.transport.rabbitmq")


class Topology:
    """What this transport was asked to make, which it makes again when something is missing."""

    def __init__(self, link: Link, names: Names) -> None:
        self.names = names
        self._link = link
        self._wanted: dict[str, set[str]] = {}  # groups by topic
        self._known: set[str] = set()  # topics made by others that were there when we looked
        self._in_doubt = False
        self._settled_at = 0.0  # when what was found missing may be made again

    def doubt(self, *, deleted: bool) -> None:
        """A server may come back without what was made, or somebody may have deleted it: make it again, and look."""
        if deleted:
            self._settled_at = monotonic() + SETTLE_SECONDS
        self._in_doubt = bool(self._wanted or self._known)

    def knows(self, topic: str) -> bool:
        return not self._in_doubt and (topic in self._wanted or topic in self._known)

    def must_be_routed(self, topic: str) -> bool:
        """Whether a message that no queue takes is an error: always, unless we know that the topic has no group."""
        return bool(self._wanted.get(topic, True))

    async def check_layout(self) -> None:
        """Raises InvalidInput when the prefix is in use with another number of partitions."""
        name, arguments = self.names.layout, self.names.layout_arguments
        async with self._channel("comparing option partitions") as channel:
            await channel.exchange_declare(name, exchange_type="fanout", durable=True, arguments=arguments)

    async def ensure(self, specs: Iterable[TopicSpec]) -> None:
        """Raises InvalidInput for a name that the server does not take, or what was made with other settings."""
        new = [spec for spec in specs if not self._has(spec)]
        await self._make(new)
        for spec in new:
            self._wanted.setdefault(spec.name, set()).update(spec.groups)

    async def make_group_again(self, topics: Iterable[str], group: str) -> None:
        """Somebody has deleted it, of these topics."""
        await asyncio.sleep(SETTLE_SECONDS)
        await self._make([TopicSpec(topic, (group,)) for topic in topics])

    async def make_listener(self, topic: str) -> str:
        """A queue of the connection's own that gets what is published from now on; its name."""
        arguments: FieldTable = {"x-max-length": BROADCAST_MOST}
        async with self._channel(f"listening to topic {topic!r}") as channel:
            name = (await channel.queue_declare(exclusive=True, auto_delete=True, arguments=arguments)).queue or ""
        await self.bind_listener(topic, name)
        return name

    async def bind_listener(self, topic: str, queue: str) -> None:
        """No error when it is bound: nobody tells a listener that its topic was deleted."""
        async with self._channel(f"listening to topic {topic!r}") as channel:
            await channel.exchange_declare(self.names.exchange(topic), exchange_type="direct", durable=True)
            for routing_key in self.names.routing_keys(topic):
                await channel.queue_bind(queue, self.names.exchange(topic), routing_key)

    async def look_for(self, topics: Iterable[str]) -> None:
        """Raises InvalidInput for a topic that nobody has made."""
        if self._in_doubt:
            await asyncio.sleep(max(0.0, self._settled_at - monotonic()))
            await self._make_again()
        for topic in topics:
            if not self.knows(topic):
                exchange = self.names.exchange(topic)
                async with self._channel(f"looking for topic {topic!r}") as channel:
                    await channel.exchange_declare(exchange, passive=True)
                self._known.add(topic)

    async def look_for_group(self, topic: str, group: str) -> None:
        """Raises InvalidInput for a group that nobody has made."""
        queue = self.names.queue(topic, group)
        async with self._channel(f"looking for group {group!r} of topic {topic!r}") as channel:
            await channel.queue_declare(queue, passive=True)

    async def count(self, topics: Sequence[str]) -> list[TopicStats]:
        """How many messages wait in the queues of each group. RabbitMQ does not say which groups a topic has: counted
        are those that were made here, or else EDOW's own. Raises InvalidInput for one that is not there.
        """
        channel = await self._link.channel()  # of its own: the server closes it when there is no such queue
        try:
            return [TopicStats(topic, await self._count(channel, topic)) for topic in topics]
        finally:
            await close_channel(channel)

    async def _count(self, channel: AbstractChannel, topic: str) -> list[GroupStats]:
        groups = sorted(self._wanted.get(topic) or groups_of(topic))
        return [await self._count_of(channel, topic, group) for group in groups]

    async def _count_of(self, channel: AbstractChannel, topic: str, group: str) -> GroupStats:
        waiting: dict[str, int] = {}
        async with self._link.answer(f"counting what waits for group {group!r} of topic {topic!r}"):
            for key in self.names.routing_keys(topic):
                found = await channel.queue_declare(self.names.queue(topic, group, key), passive=True)
                waiting[key] = found.message_count or 0
        partitions = [PartitionStats(key.removeprefix("k"), count) for key, count in waiting.items() if key != NO_KEY]
        return GroupStats(group, sum(waiting.values()), None, None, partitions=tuple(partitions))

    async def _make_again(self) -> None:
        self._known.clear()
        for topic, groups in list(self._wanted.items()):
            try:
                await self._make([TopicSpec(topic, tuple(sorted(groups)))])
            except InvalidInput as problem:  # told to whoever publishes there; others have nothing to do with it
                log.warning("topic %s cannot be made again: %s", topic, problem)
                del self._wanted[topic]
        self._in_doubt = False

    def _has(self, spec: TopicSpec) -> bool:
        return spec.name in self._wanted and self._wanted[spec.name].issuperset(spec.groups)

    async def _make(self, specs: Iterable[TopicSpec]) -> None:
        names = self.names
        for topic, groups in ((spec.name, spec.groups) for spec in specs):
            exchange, keys = names.exchange(topic), names.routing_keys(topic)
            asking = [names.asking(topic, group) for group in groups]
            queues = [(names.queue(topic, group, key), key) for group in groups for key in keys]
            async with self._channel(f"making topic {topic!r}") as channel:
                try:
                    await channel.exchange_declare(exchange, exchange_type="direct", durable=True)
                    for queue, key in queues:
                        await channel.queue_declare(queue, durable=True, arguments=names.queue_arguments(key))
                        await channel.queue_bind(queue, exchange, key)
                    for queue in asking:
                        await channel.queue_declare(queue, durable=True)
                except ChannelNotFoundEntity as problem:  # which is no fault of who needs it
                    raise TransportUnavailable(f"topic {topic!r} is deleted while it is made: {problem}") from problem

    @asynccontextmanager
    async def _channel(self, doing: str) -> AsyncIterator[AbstractChannel]:
        channel = await self._link.channel()
        try:
            async with self._link.answer(doing):
                yield channel
        finally:
            await close_channel(channel)
