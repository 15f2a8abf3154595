"""How far each group is behind: what `describe` tells."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]

from edow.errors import InvalidInput
from edow.transport.contract import GroupStats, TopicStats
from edow.transport.kafka.cluster import Cluster
from edow.transport.kafka.partition import Place, Progress
from edow.transport.kafka.problems import Lines
from edow.transport.kafka.settings import Config, Names

PEEK_POLL_SECONDS = 0.1

Spot = tuple[str, int, int]  # a topic as Kafka knows it, a partition and an offset


class Lag:
    """Counts from offsets and from what members have told of themselves. `peek`: configuration of a consumer that
    looks at single messages.
    """

    def __init__(self, cluster: Cluster, names: Names, peek: Config, seconds: float) -> None:
        self._cluster = cluster
        self._names = names
        self._peek = peek
        self._seconds = seconds

    async def describe(self, topics: Sequence[str]) -> list[TopicStats]:
        """See the contract. Raises InvalidInput for a topic that does not exist."""
        groups = await self._cluster.groups(topics)
        pairs = [(topic, group) for topic in topics for group in groups[topic]]
        found = await asyncio.gather(*(self._cluster.progress(topic, group) for topic, group in pairs))
        places = [place for topic in topics for place in await self._places(topic)]
        latest, earliest = OffsetSpec.latest(), OffsetSpec.earliest()  # type: ignore[no-untyped-call]
        ends = await self._cluster.offsets(places, latest)
        begins = await self._cluster.offsets(places, earliest)
        states = {
            pair: self._states(pair[0], progress, begins, ends) for pair, progress in zip(pairs, found, strict=True)
        }
        first = {spot for state in states.values() for spot in _behind(state)}
        times = await asyncio.to_thread(self._times, first) if first else {}
        return [
            TopicStats(topic, [_stats(group, states[topic, group], times) for group in groups[topic]])
            for topic in topics
        ]

    async def _places(self, topic: str) -> list[Place]:
        size = await self._cluster.size(topic)
        if size is None:
            raise InvalidInput(f"there is no topic {topic!r}: make it with transport.ensure() first")
        return [(self._names.topic(topic), number) for number in range(size)]

    def _states(
        self, topic: str, found: Mapping[int, Progress | None], begins: Mapping[Place, int], ends: Mapping[Place, int]
    ) -> list[State]:
        name = self._names.topic(topic)
        states = []
        for number, progress in found.items():
            begin = begins[name, number]
            at = max(begin, progress.offset) if progress is not None else begin  # what was deleted is nobody's
            states.append(State((name, number, at), ends[name, number], progress or Progress(at)))
        return states

    def _times(self, spots: Iterable[Spot]) -> dict[Spot, int]:
        """When the messages there were published, in microseconds; on a thread."""
        times: dict[Spot, int] = {}
        deadline = time.monotonic() + self._seconds
        consumer = Consumer(self._peek, logger=Lines())
        try:
            rest = set(spots)
            while rest:
                now = {(topic, number): offset for topic, number, offset in sorted(rest)}  # one of each partition
                rest -= {(*place, offset) for place, offset in now.items()}
                consumer.assign([TopicPartition(*place, offset) for place, offset in now.items()])
                while now and time.monotonic() < deadline:
                    message = consumer.poll(PEEK_POLL_SECONDS)
                    if message is None or message.error() is not None:
                        continue
                    place = (message.topic() or "", message.partition() or 0)
                    if (offset := now.pop(place, None)) is not None:
                        times[(*place, offset)] = message.timestamp()[1] * 1_000
        finally:
            consumer.close()
        return times


class State:
    """A group in a partition."""

    def __init__(self, spot: Spot, end: int, progress: Progress) -> None:
        self.spot = spot
        self.left = max(0, end - spot[2] - sum(progress.is_done(offset) for offset in range(spot[2], progress.end)))
        self.in_flight = min(self.left, progress.in_flight)


def _behind(states: Iterable[State]) -> list[Spot]:
    return [state.spot for state in states if state.left]


def _stats(group: str, states: Sequence[State], times: Mapping[Spot, int]) -> GroupStats:
    in_flight = sum(state.in_flight for state in states)
    left = sum(state.left for state in states)
    oldest = min((times[spot] for spot in _behind(states) if spot in times), default=None)
    return GroupStats(group, left - in_flight, in_flight, oldest)
