"""What transports in a database share: topics with their queues, and deliveries that have a number in theirs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from edow.errors import InvalidInput
from edow.transport.again import OrderedDelivery
from edow.transport.contract import GroupStats, TopicSpec

# Between two looks of somebody whom nobody wakes. News are pushed: what is found by looking was written by a process
# that died before it told of it, so that need be no sooner than others take over what that process had.
POLL_SECONDS = 3.0
LONGEST_POLL_SECONDS = 15.0
SHIFT = 43  # bits of a message's number that count within its queue
EVERYBODY = ""  # the group of a broadcast queue
EXACT = 10_000  # an exclusive queue's messages are counted up to so many, and estimated beyond


def bounds(queue: int) -> tuple[int, int]:
    """Every message of the queue lies strictly between these numbers."""
    return queue << SHIFT, queue + 1 << SHIFT


class Topics(NamedTuple):
    """The topics as they were at a generation. `groups`: topic -> group -> queue."""

    generation: int
    groups: Mapping[str, Mapping[str, int]]

    def queues(self, topic: str) -> Iterable[int]:
        """Where a message to the topic goes."""
        return self.groups_of(topic).values()

    def groups_of(self, topic: str) -> Mapping[str, int]:
        """Raises InvalidInput for an unknown topic."""
        groups = self.groups.get(topic)
        if groups is None:
            raise InvalidInput(f"topic {topic!r} does not exist: make it with transport.ensure() first")
        return groups

    def queue(self, topic: str, group: str) -> int:
        """From which the group reads. Raises InvalidInput for an unknown topic or group."""
        queue = self.groups_of(topic).get(group)
        if queue is None:
            raise InvalidInput(f"topic {topic!r} has no group {group!r}: make it with transport.ensure() first")
        return queue

    def has(self, specs: Sequence[TopicSpec]) -> bool:
        """Whether all of them were made before."""
        return all(spec.name in self.groups and self.groups[spec.name].keys() >= {*spec.groups} for spec in specs)


class Described(NamedTuple):
    """What the query `describe` tells of a group's queue, in numbers within it. `tail`: the last message's; `head`: how
    far claims have looked; `first`: of what is there; `counted`: how much is, up to the head or EXACT.
    """

    tail: int
    head: int
    oldest_at: int | None
    first: int | None
    counted: int
    in_flight: int

    def of(self, group: str) -> GroupStats:
        """What there is beyond those that were counted is estimated by the numbers."""
        beyond = 0 if self.first is None else max(0, self.tail - max(self.head, EXACT, self.first - 1))
        waiting = max(0, self.counted + beyond - self.in_flight)
        return GroupStats(group, waiting, self.in_flight, self.oldest_at, self.tail)


class Wakeups(Protocol):
    """What a subscriber waits on."""

    async def wait(self, seconds: float) -> bool: ...
    def take(self) -> bool: ...
    def poke(self) -> None: ...
    def close(self) -> None: ...


class Poked(Protocol):
    """A reader that can be told to look again."""

    def poke(self) -> None: ...


class NumberedDelivery(OrderedDelivery, eq=False):
    """`token` is the message's number. `owner`: the subscriber that has claimed it; 0 where nobody claims."""

    owner: int = 0
    at: int = 0  # when it was published; with the number it is a message's only one
    cursor: Poked | None = None  # the reader to tell that it was acknowledged, when that matters to it

    @property
    def seq(self) -> int:
        seq = self.token
        assert isinstance(seq, int)
        return seq

    @property
    def order(self) -> tuple[int, ...]:
        return (self.seq,)


def done(deliveries: Sequence[NumberedDelivery]) -> None:
    """They were acknowledged: what waited behind them may go on. Any thread."""
    for delivery in deliveries:
        delivery.done = True
        if delivery.cursor is not None:
            delivery.cursor.poke()
