"""Making exchanges and queues, and looking whether they are there. Every error of a channel is told in EDOW's words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from aiormq.abc import AbstractChannel
from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity, ChannelPreconditionFailed

from edow.errors import InvalidInput, TransportUnavailable
from edow.transport.contract import TopicSpec
from edow.transport.rabbitmq.link import BROKEN, Link
from edow.transport.rabbitmq.names import Names, unique
from edow.transport.rabbitmq.options import Server

ANSWER_SECONDS = 15.0  # that a server under load may take for a few calls
BROADCAST_MOST = 10_000  # messages that wait for a listener that does not listen; the oldest are dropped beyond that


class Topology:
    """What this transport was asked to make, which it makes again after every reconnection."""

    def __init__(self, server: Server) -> None:
        self.names = Names(server.options)
        self._server = server
        self._wanted: dict[str, set[str]] = {}  # groups by topic
        self._known: set[str] = set()  # topics made by others that were there when we looked

    def want(self, specs: Iterable[TopicSpec]) -> list[TopicSpec]:
        """Remember them; those that are new. Raises InvalidInput for a name that the server does not take."""
        specs = list(specs)
        for spec in specs:
            self.names.exchange(spec.name)
            for group in spec.groups:
                for routing_key in self.names.routing_keys(spec.name):
                    self.names.queue(spec.name, group, routing_key)
                self.names.asking(spec.name, group)
        new = [spec for spec in specs if not self._wanted.get(spec.name, set()).issuperset(spec.groups)]
        return new + [spec for spec in specs if spec.name not in self._wanted and not spec.groups]

    def made(self, specs: Iterable[TopicSpec]) -> None:
        for spec in specs:
            self._wanted.setdefault(spec.name, set()).update(spec.groups)

    def knows(self, topic: str) -> bool:
        return topic in self._wanted or topic in self._known

    def must_be_routed(self, topic: str) -> bool:
        """Whether a message that no queue takes is an error: always, unless we know that the topic has no group."""
        return bool(self._wanted.get(topic, True))

    def doubt(self) -> None:
        """The server has said that something is missing: look again."""
        self._known.clear()

    async def make_again(self, channel: AbstractChannel) -> None:
        """Everything that was asked for: a server may come back without it."""
        await self.make(channel, [TopicSpec(name, tuple(sorted(groups))) for name, groups in self._wanted.items()])

    async def make(self, channel: AbstractChannel, specs: Iterable[TopicSpec]) -> None:
        """Raises InvalidInput when they exist with other settings, or we may not."""
        for spec in specs:
            async with self.errors(f"making topic {spec.name!r}"):
                await self._make(channel, spec)

    async def make_layout(self, channel: AbstractChannel) -> None:
        """Raises InvalidInput when the prefix is in use with another number of partitions."""
        names = self.names
        async with self.errors("comparing option partitions"):
            await channel.exchange_declare(
                names.layout, exchange_type="fanout", durable=True, arguments=names.layout_arguments
            )

    async def look_for(self, link: Link, topics: Iterable[str]) -> None:
        """Raises InvalidInput for a topic that nobody has made."""
        for topic in unique(topics):
            if not self.knows(topic):
                await self._passively(link, f"topic {topic!r}", exchange=self.names.exchange(topic))
                self._known.add(topic)

    async def look_for_group(self, link: Link, topic: str, group: str) -> None:
        """Raises InvalidInput for a topic or a group that nobody has made."""
        await self.look_for(link, [topic])
        queue = self.names.queue(topic, group, "")
        await self._passively(link, f"group {group!r} of topic {topic!r}", queue=queue)

    async def make_listener(self, channel: AbstractChannel, topic: str) -> str:
        """A queue of the connection's own that gets what is published from now on; its name."""
        async with self.errors(f"listening to topic {topic!r}"):
            answer = await channel.queue_declare(
                exclusive=True, auto_delete=True, arguments={"x-max-length": BROADCAST_MOST}
            )
            name = answer.queue or ""
            for routing_key in self.names.routing_keys(topic):
                await channel.queue_bind(name, self.names.exchange(topic), routing_key)
        return name

    @asynccontextmanager
    async def errors(self, doing: str) -> AsyncIterator[None]:
        """Around calls on a channel, which are given ANSWER_SECONDS together."""
        server = self._server
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                yield
        except ChannelPreconditionFailed as problem:
            raise InvalidInput(
                f"{server.address}: {doing}: made before with other settings ({problem}): use the options it was made "
                "with, or another prefix"
            ) from problem
        except ChannelAccessRefused as problem:
            raise InvalidInput(
                f"{server.address}: {doing}: user {server.user!r} may not ({problem}): `rabbitmqctl set_permissions "
                f"-p {server.vhost} {server.user} '.*' '.*' '.*'`"
            ) from problem
        except ChannelNotFoundEntity:
            raise
        except BROKEN as problem:
            raise TransportUnavailable(f"{server.address}: {doing}: {str(problem) or 'no answer in time'}") from problem

    async def _make(self, channel: AbstractChannel, spec: TopicSpec) -> None:
        exchange = self.names.exchange(spec.name)
        await channel.exchange_declare(exchange, exchange_type="direct", durable=True)
        for group in spec.groups:
            for routing_key in self.names.routing_keys(spec.name):
                await self._make_queue(channel, spec.name, group, routing_key)
            await channel.queue_declare(self.names.asking(spec.name, group), durable=True)

    async def _make_queue(self, channel: AbstractChannel, topic: str, group: str, routing_key: str) -> None:
        queue = self.names.queue(topic, group, routing_key)
        await channel.queue_declare(queue, durable=True, arguments=self.names.queue_arguments(routing_key))
        await channel.queue_bind(queue, self.names.exchange(topic), routing_key)

    async def _passively(self, link: Link, what: str, *, exchange: str = "", queue: str = "") -> None:
        channel = await link.channel()
        try:
            async with self.errors(f"looking for {what}"):
                if exchange:
                    await channel.exchange_declare(exchange, passive=True)
                else:
                    await channel.queue_declare(queue, passive=True)
        except ChannelNotFoundEntity as problem:
            raise InvalidInput(f"{what} does not exist: make it with transport.ensure() first") from problem
        finally:
            await close_channel(channel)


async def close_channel(channel: AbstractChannel) -> None:
    """What was delivered on it and not acknowledged goes back to its place. No error: then it is closed already."""
    try:
        async with asyncio.timeout(2.0):
            await channel.close()
    except BROKEN:
        pass
