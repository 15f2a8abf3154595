"""How far each group is behind: counted from offsets, and from what members have told of themselves. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edow.transport.contract import GroupStats, PartitionStats
from edow.transport.kafka.cluster import Spot
from edow.transport.kafka.partition import Place, Progress


class State:
    """A group in a partition: where its first message is that is not done, and how many there are."""

    def __init__(self, place: Place, progress: Progress, begin: int, end: int) -> None:
        at = max(begin, progress.offset)  # what was deleted is nobody's
        self.spot: Spot = (place, at)
        self.end = end
        self.left = max(0, end - at - progress.done_from(at))
        self.in_flight = min(self.left, progress.in_flight)


def stats_of(group: str, states: Iterable[State], times: Mapping[Spot, int]) -> GroupStats:
    """`times`: when the messages at spots were published, in microseconds; where there is none, none is left."""
    states = sorted(states, key=lambda state: state.spot)
    for state in states:
        if state.spot not in times:
            state.left = state.in_flight = 0
    in_flight = sum(state.in_flight for state in states)
    return GroupStats(
        group,
        waiting=sum(state.left for state in states) - in_flight,
        in_flight=in_flight,
        oldest_at=min((times[state.spot] for state in states if state.left), default=None),
        published=sum(state.end for state in states),
        partitions=tuple(PartitionStats(str(at.spot[0][1]), at.left - at.in_flight, at.end) for at in states),
    )
