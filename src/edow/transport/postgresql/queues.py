"""Topics and their queues: one for each consumer group, one for all broadcast listeners. Publishing is here, too.

What is remembered of the topics is checked in every transaction against the generation in the database, so that a
message published after a group was made reaches it, whichever process made it.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

from edow.model.message import Message
from edow.postgresql import Calls, Database, encoded
from edow.postgresql.problems import TOPICS_CHANGED, code_of
from edow.transport.contract import TopicSpec
from edow.transport.guard import guarded
from edow.transport.numbered import Topics

LONGEST_NAME = 500  # characters of a topic or group


def channel(queue: int) -> str:
    """What a queue's subscribers wait on."""
    return f"queue_{queue}"


def channels(topics: Topics, messages: Sequence[Message]) -> set[str]:
    """Who waits for them."""
    names = {message.topic for message in messages}
    return {channel(queue) for name in names for queue in topics.groups.get(name, {}).values()}


def hash_of(key: bytes | None) -> int | None:
    """By which a key is found; where two have the same, the keys themselves are compared."""
    return zlib.crc32(key) - (1 << 31) if key is not None else None


class Queues:
    """The topics, as one process knows them."""

    def __init__(self, database: Database, sql: Mapping[str, str]) -> None:
        self._database = database
        self._sql = sql
        self.topics = Topics(0, {})

    async def read(self) -> Topics:
        """The topics as they are now."""
        groups: dict[str, dict[str, int]] = {}
        rows = await guarded(self._database.fetch(self._sql["topics_read"]))
        for _, topic, queue, group in rows:
            if topic is not None:
                queues = groups.setdefault(topic, {})
                if queue is not None:
                    queues[group] = queue
        self.topics = Topics(rows[0][0], groups)
        return self.topics

    async def make(self, specs: Sequence[TopicSpec]) -> Topics:
        """Add what is missing."""
        if not (await self.read()).has(specs):
            pairs = [(spec.name, group) for spec in specs for group in spec.groups]
            calls = Calls()
            calls.add("make", [spec.name for spec in specs], [pair[0] for pair in pairs], [pair[1] for pair in pairs])
            await guarded(self._database.call(calls))
            await self.read()
        return self.topics

    async def know(self, messages: Sequence[Message]) -> Topics:
        """Raises InvalidInput if a message's topic does not exist."""
        names = {message.topic for message in messages}
        if not names <= self.topics.groups.keys():
            await self.read()
            for name in names:
                self.topics.groups_of(name)
        return self.topics

    async def publish(self, messages: Sequence[Message], *, lax: bool) -> Topics:
        """Append the messages to every queue of their topics; the topics as they were found."""
        while True:
            topics = await self.know(messages)
            calls = Calls(lax=lax)
            add_messages(calls, topics, messages, self._database.clock())
            try:
                await self._database.call(calls)
            except Exception as problem:
                if code_of(problem) != TOPICS_CHANGED:
                    raise
                await self.read()
            else:
                return topics


def add_messages(calls: Calls, topics: Topics, messages: Sequence[Message], now: int) -> None:
    """What appends them."""
    names = {message.topic for message in messages}
    queues = sorted({queue for name in names for queue in topics.queues(name)})
    place = {queue: number for number, queue in enumerate(queues, 1)}
    counts = [0] * (len(queues) + 1)
    ways = {name: [place[queue] for queue in topics.queues(name)] for name in names}
    places: list[int] = []
    positions: list[int] = []
    copies: list[Message] = []
    for message in messages:
        for way in ways[message.topic]:
            counts[way] = position = counts[way] + 1
            places.append(way)
            positions.append(position)
            copies.append(message)
    keys = [encoded(message.key) for message in copies]
    hashes = [hash_of(key) for key in keys]
    bodies = [message.body for message in copies]
    calls.add("publish", topics.generation, now, queues, counts[1:], places, positions, hashes, keys, bodies)
