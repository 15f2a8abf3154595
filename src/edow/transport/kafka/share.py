"""What one consumer brings: its partitions, and what is to be told the broker of them. On the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from confluent_kafka import KafkaError, Message, TopicPartition

from edow.transport.kafka.feed import Orders
from edow.transport.kafka.partition import Partition, Place, Progress, read_progress

COMMIT_SECONDS = 0.2  # between two commits
REFRESH_SECONDS = 3_600.0  # between two of the same: brokers forget what a group without members has not said for days
HELD_BYTES = 128 * 1024 * 1024  # of bodies, before nothing more is fetched


class Rules(NamedTuple):
    """`gated` and `tracked` as in Partition; `window` and `prefetch` as in Settings."""

    gated: bool
    tracked: bool
    window: int
    prefetch: int


class Hub(Protocol):
    """The subscriber, with one share or several."""

    def offer(self, partition: Partition) -> None:
        """It has something to hand out."""

    def withdraw(self, partition: Partition) -> None:
        """It has nothing to hand out any more; if it is gone, nothing of it matters any more."""

    def ready(self) -> int:
        """How many messages of all its shares can be handed out now."""

    def settled(self) -> None:
        """A share has had partitions."""

    def troubled(self, error: KafkaError) -> None:
        """A consumer reports an error."""


class Share:
    """See `edow.transport.kafka.feed.Sink`. `topics`: EDOW's names by Kafka's."""

    def __init__(self, hub: Hub, rules: Rules, topics: Mapping[str, str], starts: Mapping[Place, Progress]) -> None:
        """`starts`: where to begin, unless the group has committed something else."""
        self.settled = False  # it has had partitions
        self._hub = hub
        self._rules = rules
        self._topics = topics
        self._starts = starts
        self._partitions: dict[Place, Partition] = {}
        self._committed_at = 0.0
        self._refreshed_at = asyncio.get_running_loop().time()
        self._flush: asyncio.Future[None] | None = None

    def flush(self) -> asyncio.Future[None]:
        """When what is known now is with the broker, if the broker is there at all."""
        if self._flush is None or self._flush.done():
            self._flush = asyncio.get_running_loop().create_future()
        return self._flush

    # -- Sink --

    def arrived(self, messages: Sequence[Message]) -> Orders:
        find, offer = self._partitions.get, self._hub.offer
        for message in messages:
            partition = find((message.topic() or "", message.partition() or 0))
            if partition is None:
                continue  # it went to another member meanwhile
            key = message.key()
            text = None if key is None else key.decode("utf-8", "surrogateescape")
            if partition.add(message.offset() or 0, text, message.value() or b""):
                offer(partition)
        flush, self._flush = self._flush, None
        return Orders(self._room(), self._full(), self._due(flush is not None), flush)

    def positions(self) -> list[TopicPartition]:
        if not self._partitions:
            self._partitions = {place: self._partition(place, progress) for place, progress in self._starts.items()}
        return [_position(partition) for partition in self._partitions.values()]

    def assigned(self, places: Sequence[TopicPartition]) -> list[TopicPartition]:
        positions = []
        for each in places:
            place = (each.topic, each.partition)
            known = each.offset >= 0 and each.error is None
            start = read_progress(each.offset, each.metadata) if known else self._starts.get(place, Progress(0))
            self._partitions[place] = partition = self._partition(place, start)
            partition.changed = not known  # what a group with members has committed does not expire
            positions.append(_position(partition))
        self.settled = True
        self._hub.settled()
        return positions

    def leaving(self, places: Sequence[TopicPartition]) -> bool:
        ours = self._find(places)
        for partition in ours:
            partition.leaving = True
            self._hub.withdraw(partition)
        return any(partition.in_flight for partition in ours)

    def revoked(self, places: Sequence[TopicPartition] | None) -> Sequence[TopicPartition]:
        ours = list(self._partitions.values()) if places is None else self._find(places)
        for partition in ours:
            partition.leaving = partition.gone = True
            partition.in_flight = 0
            self._hub.withdraw(partition)
            del self._partitions[partition.place]
        return _commits(ours)

    def uncommitted(self) -> None:
        for partition in self._partitions.values():
            partition.changed = True

    def troubled(self, error: KafkaError) -> None:
        self._hub.troubled(error)

    # -- its own --

    def _partition(self, place: Place, start: Progress) -> Partition:
        rules = self._rules
        return Partition(self._topics[place[0]], place, start, gated=rules.gated, tracked=rules.tracked)

    def _find(self, places: Sequence[TopicPartition]) -> list[Partition]:
        found = (self._partitions.get((each.topic, each.partition)) for each in places)
        return [partition for partition in found if partition is not None]

    def _room(self) -> int:
        held = sum(partition.bytes for partition in self._partitions.values())
        return self._rules.prefetch - self._hub.ready() if held < HELD_BYTES else 0

    def _full(self) -> frozenset[Place]:
        """Partitions that are far ahead of their first message that is not done; until they are less so."""
        window = self._rules.window
        for partition in self._partitions.values():
            span = partition.span
            partition.full = span >= window or (partition.full and 4 * span >= 3 * window)
        return frozenset(place for place, partition in self._partitions.items() if partition.full)

    def _due(self, at_once: bool) -> Sequence[TopicPartition]:
        now = asyncio.get_running_loop().time()
        if not at_once and now - self._committed_at < COMMIT_SECONDS:
            return ()
        self._committed_at = now
        if now - self._refreshed_at > REFRESH_SECONDS and self._rules.tracked:
            self._refreshed_at = now
            self.uncommitted()
        return _commits(self._partitions.values())


def _commits(partitions: Iterable[Partition]) -> list[TopicPartition]:
    commits = []
    for partition in partitions:
        if partition.changed:
            partition.changed = False
            offset, metadata = partition.progress()
            commits.append(TopicPartition(*partition.place, offset, metadata))
    return commits


def _position(partition: Partition) -> TopicPartition:
    return TopicPartition(*partition.place, partition.next)
