"""Topics and their queues: one for each consumer group, one for all broadcast listeners. Publishing is here, too.

What is remembered of the topics is checked in every transaction against the generation in the database, so that a
message published after a group was made reaches it, whichever process made it. Only what is on disk is remembered: a
transaction may yet be rolled back, and another thread must not rely on what it has not committed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from threading import Lock
from typing import NamedTuple

import msgspec

from edow.model.message import Message
from edow.sql import load_queries
from edow.sqlite import Bulk
from edow.transport.contract import TopicSpec
from edow.transport.numbered import SHIFT, Topics

_encode = msgspec.json.Encoder().encode
_decode_topics = msgspec.json.Decoder(list[tuple[str, int | None, str | None]]).decode
_decode_tails = msgspec.json.Decoder(dict[int, int]).decode


def to_json(value: object) -> str:
    """For `json_each`: SQLite wants text."""
    return _encode(value).decode()


def channel(queue: int) -> str:
    """What a queue's subscribers wait on."""
    return f"queue-{queue}"


class Published(NamedTuple):
    """The topics as they were found, and who waits for what was published: see `channel`."""

    topics: Topics
    channels: set[str]


class Queues:
    """Its functions run on the file's threads, on the connection they are given."""

    def __init__(self) -> None:
        self.sql = sql = load_queries(__package__)
        self._publish = Bulk(sql["publish"], 4)
        self._gate = Lock()
        self.topics = Topics(0, {})

    def remember(self, topics: Topics) -> None:
        """They are on disk. Any thread; what it knows already, or is older than that, changes nothing."""
        with self._gate:
            if topics.generation > self.topics.generation:
                self.topics = topics

    def read(self, connection: sqlite3.Connection) -> Topics:
        """The topics as this transaction sees them."""
        known = self.topics
        (generation,) = connection.execute(self.sql["generation_read"]).fetchone()
        if generation == known.generation:
            return known
        groups: dict[str, dict[str, int]] = {}
        (text,) = connection.execute(self.sql["topics_read"]).fetchone()
        for topic, queue, group in _decode_topics(text):
            queues = groups.setdefault(topic, {})
            if queue is not None and group is not None:
                queues[group] = queue
        return Topics(generation, groups)

    def make(self, connection: sqlite3.Connection, specs: Sequence[TopicSpec]) -> Topics:
        """Add what is missing."""
        if not self.read(connection).has(specs):
            connection.executemany(self.sql["topics_make"], [(spec.name,) for spec in specs])
            pairs = [(spec.name, group) for spec in specs for group in spec.groups]
            connection.executemany(self.sql["queues_make"], pairs)
            connection.execute(self.sql["generation_raise"])
        return self.read(connection)

    def publish(self, connection: sqlite3.Connection, messages: Sequence[Message], now: int) -> Published:
        """Append the messages to every queue of their topics. Raises InvalidInput for an unknown topic."""
        topics, where, tails = self._tails(connection, {message.topic for message in messages})
        values: list[object] = []
        for message in messages:
            for queue in where[message.topic]:
                tail = tails[queue] = tails[queue] + 1
                values += ((queue << SHIFT) + tail, message.key, now, message.body)
        if values:
            self._publish.run(connection, values)
            connection.execute(self.sql["tails_set"], (to_json(tails),))
        return Published(topics, set(map(channel, tails)))

    def _tails(
        self, connection: sqlite3.Connection, names: Iterable[str]
    ) -> tuple[Topics, dict[str, Iterable[int]], dict[int, int]]:
        topics = self.topics
        while True:
            unknown = [name for name in names if name not in topics.groups]
            where = {name: topics.queues(name) for name in names if name in topics.groups}
            wanted = to_json([queue for queues in where.values() for queue in queues])
            generation, tails = connection.execute(self.sql["tails_read"], (wanted,)).fetchone()
            if generation == topics.generation:
                for name in unknown:
                    topics.queues(name)
                return topics, where, _decode_tails(tails)
            topics = self.read(connection)

    def tails(self, connection: sqlite3.Connection, queues: Sequence[int]) -> dict[int, int]:
        """Position of the newest message ever published to each of the queues."""
        return _decode_tails(connection.execute(self.sql["tails_read"], (to_json(queues),)).fetchone()[1])
