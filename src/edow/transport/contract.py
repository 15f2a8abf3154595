"""What a transport promises: bytes and acknowledgements, nothing else.

A message is published to a topic. Each consumer group of the topic gets every message; within a group each message
goes to one subscriber at a time, until one acknowledges it. Delivery is at least once. What a broker cannot do it
says in `Features`; asking for it raises `Unsupported`. A driver knows no policy: no retries, no dead letters, no
encoding.

Errors: `TransportUnavailable` (try again), `PublishFailed` (names which messages the broker does not have),
`InvalidInput` (message over the limit, bad name), `Unsupported`, `Closed` (anything after close).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from edow.model.message import Message

Mode = Literal["shared", "exclusive", "broadcast"]
Told = Literal["exactly", "about", "nothing"]


class Features(msgspec.Struct, frozen=True, kw_only=True):
    """What this broker can do. The conformance suite and the documentation's matrix read it."""

    name: str
    durable: bool  # publish returns after the message is on disk
    ordered_by_key: bool  # within a group, a key's next message is delivered only after the previous was acked
    delivery_count: bool  # `Delivery.count` is the broker's own; otherwise always 1
    native_delay: bool  # nack(delay) is kept by the broker (else the driver keeps it as long as it lives)
    lease_extension: bool  # `extend` prolongs what the broker would otherwise deliver again
    exclusive: bool  # mode "exclusive" is supported
    broadcast: bool  # mode "broadcast" is supported
    replay: bool  # old messages can be read again
    waiting: bool  # `describe` tells how many messages wait, if only about: to be shown, nothing is decided by it
    lag: bool  # ... and tells exactly what waits, what is in flight and how old the oldest is
    partitions: bool  # keys are spread over partitions that `describe` can tell apart
    max_message_bytes: int
    competing: bool = True  # any member may be given any message; else each has a share of its group's keys to itself
    ordered: bool = True  # a topic's messages without a key keep their order, too, for a member who is alone
    exclusive_ordered: bool = True  # ... and for an exclusive subscriber

    @property
    def told(self) -> Told:
        """How well `describe` knows what waits."""
        return "exactly" if self.lag else "about" if self.waiting else "nothing"


class Delivery(msgspec.Struct, eq=False):
    """A message in a subscriber's hands. Opaque but for these fields; a driver may subclass it."""

    topic: str
    body: bytes
    key: str | None
    count: int  # 1 for the first delivery
    token: object  # the driver's own


class TopicSpec(msgspec.Struct, frozen=True):
    """A topic that will be used, with the consumer groups that must get what is published from now on."""

    name: str
    groups: tuple[str, ...]


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """Who reads what, how.

    shared: members of the group compete; a delivery not acked within `lease_seconds` of being received or extended,
    or whose subscriber has died or closed, goes to another member (or, if members do not compete, from a member that is
    alive to itself again).
    exclusive: the caller guarantees one subscriber at a time (it holds a lease of its own); nothing expires, whatever
    was not acked is delivered again to the next subscriber, in the order of its keys at least.
    broadcast: every subscriber gets what is published after it subscribed; no acks, no redelivery; `group` is ignored.
    """

    topics: tuple[str, ...]
    group: str
    mode: Mode = "shared"
    member: str = ""  # a name for people: host:pid
    lease_seconds: float = 4.0


class PartitionStats(msgspec.Struct, frozen=True):
    """Where a broker spreads a topic over partitions, or keys over queues."""

    partition: str
    waiting: int
    published: int | None = None

    @property
    def weight(self) -> int:
        """Of which it has a share: all that was published, or what waits where the broker does not count that."""
        return self.waiting if self.published is None else self.published


class GroupStats(msgspec.Struct, frozen=True):
    group: str
    waiting: int
    in_flight: int | None  # None: not told
    oldest_at: int | None  # publication time of the oldest message not acked, microseconds; None: none, or not known
    published: int | None = None  # messages ever meant for this group, where the broker counts them: for rates
    partitions: tuple[PartitionStats, ...] = ()  # where keys are spread over several

    @property
    def left(self) -> int:
        """Not acknowledged, as far as it is told."""
        return self.waiting + (self.in_flight or 0)

    @property
    def hottest(self) -> tuple[str, float] | None:
        """The partition with most messages, and its share."""
        total = sum(each.weight for each in self.partitions)
        if not total:
            return None
        found = max(self.partitions, key=lambda each: each.weight)
        return found.partition, round(found.weight / total, 3)


class TopicStats(msgspec.Struct, frozen=True):
    topic: str
    groups: list[GroupStats]


class Subscriber(Protocol):
    """One consumer. Not safe for concurrent `receive`; the other verbs may overlap with it."""

    async def receive(self, limit: int, wait_seconds: float) -> list[Delivery]:
        """At once whatever there is, up to `limit`; else wait for the first message. An empty list after the wait is
        normal.
        """

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Done with. Acking twice, or after the lease was lost, does nothing. May return before it is on disk."""

    async def nack(self, deliveries: Sequence[Delivery], delay_seconds: float = 0.0) -> None:
        """Not done: deliver again, not before the delay. A key's later messages stay behind it."""

    async def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Still working: the lease starts anew. Returns those that were lost meanwhile."""

    async def close(self) -> None:
        """Give back what was not acked, at once. Idempotent; wakes a blocked receive, which returns an empty list."""


class Transport(Protocol):
    @property
    def features(self) -> Features: ...

    async def open(self) -> None: ...

    async def ensure(self, topics: Sequence[TopicSpec]) -> None:
        """Make topics and groups that do not exist yet. Idempotent, safe in several processes at once."""

    async def publish(self, messages: Sequence[Message], *, durable: bool = True) -> None:
        """Returns when the broker has them all, in this order per topic and key. Publishing to a topic nobody has
        ensured is InvalidInput.

        `durable` False: may return before they are on disk, if whatever loses them loses every later acknowledgement of
        the same caller as well. That is enough for an answer that is followed by its question's acknowledgement.
        """

    async def subscribe(self, subscription: Subscription) -> Subscriber: ...

    async def describe(self, topics: Sequence[str]) -> list[TopicStats]:
        """What waits in each group of these topics. Raises InvalidInput for one that does not exist, and Unsupported
        where `features` say that nothing is told.
        """

    async def close(self) -> None:
        """Idempotent; closes its subscribers."""
