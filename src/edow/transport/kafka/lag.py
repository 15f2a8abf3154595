"""How far each group is behind: what `describe` tells."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]

from edow.errors import TransportUnavailable
from edow.transport.contract import GroupStats, TopicStats
from edow.transport.kafka.cluster import Cluster
from edow.transport.kafka.desk import Desk
from edow.transport.kafka.partition import Place, Progress

POLL_SECONDS = 0.1

Spot = tuple[Place, int]  # a partition and an offset


class Lag:
    """Counts from offsets and from what members have told of themselves."""

    def __init__(self, cluster: Cluster, desk: Desk, group: str, seconds: float) -> None:
        """`group`: an id that may be used to look at single messages; nothing is committed."""
        self._cluster = cluster
        self._desk = desk
        self._group = group
        self._seconds = seconds

    async def describe(self, topics: Sequence[str]) -> list[TopicStats]:
        """See the contract. Raises InvalidInput for a topic that does not exist."""
        found = await self._cluster.states(topics)
        places = {place for progress in found.values() for place in progress}
        ends = await self._cluster.offsets(places, OffsetSpec.latest())  # type: ignore[no-untyped-call]
        begins = await self._cluster.offsets(places, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
        states = {
            key: [State(place, each, begins[place], ends[place]) for place, each in progress.items()]
            for key, progress in found.items()
        }
        spots = {state.spot for each in states.values() for state in each if state.left}
        times = await self._desk.use(self._group, lambda consumer: self._times(consumer, spots)) if spots else {}
        return [
            TopicStats(topic, [_stats(key[1], states[key], times) for key in sorted(states) if key[0] == topic])
            for topic in topics
        ]

    def _times(self, consumer: Consumer, spots: Iterable[Spot]) -> dict[Spot, int]:
        """When the messages there were published, in microseconds; of each partition one after the other."""
        times: dict[Spot, int] = {}
        deadline = time.monotonic() + self._seconds
        rest = sorted(spots)
        while rest:
            now = dict(rest)
            rest = [(place, offset) for place, offset in rest if now[place] != offset]
            consumer.assign([TopicPartition(*place, offset) for place, offset in now.items()])
            while now:
                if time.monotonic() > deadline:  # no answer must not look like an empty queue
                    raise TransportUnavailable(f"partition {min(now)} did not show its oldest message in time")
                message = consumer.poll(POLL_SECONDS)
                if message is None or message.error() is not None:
                    continue
                place = (message.topic() or "", message.partition() or 0)
                if (offset := now.pop(place, None)) is not None:
                    times[place, offset] = message.timestamp()[1] * 1_000
        return times


class State:
    """A group in a partition: where its first message is that is not done, and how many there are."""

    def __init__(self, place: Place, progress: Progress, begin: int, end: int) -> None:
        at = max(begin, progress.offset)  # what was deleted is nobody's
        self.spot = (place, at)
        self.left = max(0, end - at - progress.done_from(at))
        self.in_flight = min(self.left, progress.in_flight)


def _stats(group: str, states: Sequence[State], times: Mapping[Spot, int]) -> GroupStats:
    in_flight = sum(state.in_flight for state in states)
    left = sum(state.left for state in states)
    oldest = min((times[state.spot] for state in states if state.spot in times), default=None)
    return GroupStats(group, left - in_flight, in_flight, oldest)
