"""What a Kafka URL says: EDOW's own options, and those of librdkafka (they have a dot in their name)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from edow.address import Address
from edow.errors import InvalidInput
from edow.model import topics
from edow.transport.contract import TopicSpec

DEFAULT_HOST = "localhost:9092"
OVERHEAD = 48_000  # bytes of a batch beside the body: key, headers, lengths
LONGEST_KEY = 32_000  # bytes
HEARTBEATS = 10  # in a session
LONGEST_POLL = 60.0  # seconds that an event loop may be stuck before its member is taken for dead
SOCKET_MS = (2_000, 60_000)  # an answer to a fetch may be half a second in coming, and librdkafka wants a second more
LEGAL_NAME = re.compile(r"[a-zA-Z0-9._-]+")
LONGEST_NAME = 249
RESULTS = topics.result_topic(0).rstrip("0")

SHARE_GROUPS = (
    "they can neither prolong the lease of a long task nor keep the order of keys. Members of a consumer group work on "
    "many messages of a partition at once without them"
)

Value = str | int | float | bool
Config = dict[str, Value]

# What the driver's promises rest on.
EDOWS = (
    "acks",
    "request.required.acks",
    "enable.idempotence",
    "partitioner",
    "transactional.id",
    "delivery.report.only.error",
    "group.id",
    "group.instance.id",
    "group.remote.assignor",
    "partition.assignment.strategy",
    "heartbeat.interval.ms",
    "max.poll.interval.ms",
    "auto.offset.reset",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "allow.auto.create.topics",
)
FIXED = {
    "bootstrap.servers": "name the brokers as the URL's hosts",
    "sasl.username": "write it before the host: kafka://USER:PASSWORD@HOST",
    "sasl.password": "write it before the host: kafka://USER:PASSWORD@HOST",
    "session.timeout.ms": "use session_timeout=SECONDS",
    "message.timeout.ms": "use timeout=SECONDS",
    "delivery.timeout.ms": "use timeout=SECONDS",
    "message.max.bytes": "use max_message_bytes=BYTES",
    **dict.fromkeys(EDOWS, "EDOW sets it"),
}


Seconds = Annotated[float, Meta(ge=0.1)]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Options of the URL; times in seconds."""

    prefix: Annotated[str, Meta(pattern="^[a-zA-Z0-9._-]*$")] = ""  # goes before the names of topics and groups
    partitions: Annotated[int, Meta(ge=1)] = 12  # of a new task topic: as many members of a group can share it
    replicas: Annotated[int, Meta(ge=1)] | None = None  # of a new topic's messages; None: as the brokers are configured
    retention: Seconds = 7 * 86_400.0  # of a new topic: after this a message is gone, read or not
    fsync: bool = False  # a new topic's messages are on every replica's disk before they are acknowledged
    max_message_bytes: Annotated[int, Meta(ge=1, le=50_000_000)] = 3 * 1024 * 1024  # 2 MiB and what surrounds them
    session_timeout: Seconds = 6.0  # a dead member's partitions go to others after this
    handover: Annotated[float, Meta(ge=0, le=30)] = 2.0  # for work in hand when its partition goes to another member
    window: Annotated[int, Meta(ge=100)] = 10_000  # offsets from the first that is not done to the last fetched
    prefetch: Annotated[int, Meta(ge=1)] = 2_000  # messages that a subscriber keeps ready
    timeout: Seconds = 10.0  # for an answer of the brokers


class Names:
    """EDOW's topics and groups as Kafka knows them.

    The members that share a topic are a group of that topic alone, so that they do not disturb those of another. Where
    a group begins in each topic, and how far it is where it shares a topic with nobody, is kept under an id that has no
    members at all: a broker lets only members commit where there are any.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def topic(self, name: str) -> str:
        """Raises InvalidInput for a name that Kafka does not take."""
        full = self._prefix + name
        if not LEGAL_NAME.fullmatch(full) or len(full) > LONGEST_NAME or full in {".", ".."}:
            raise InvalidInput(
                f"{full!r} cannot be a Kafka topic: use up to {LONGEST_NAME} letters, digits, '.', '_' and '-'"
            )
        return full

    def members(self, topic: str, group: str) -> str:
        return f"{self.topic(topic)}:{group}"

    def places(self, group: str) -> str:
        return f"{self._prefix}edow:{group}"

    def groups(self, ids: Iterable[str], topics: Iterable[str]) -> set[str]:
        """Those whose places are kept under one of the ids, or whose members share one of the topics under it."""
        starts = (self.places(""), *(self.members(topic, "") for topic in topics))
        return {id.removeprefix(start) for id in ids for start in starts if id.startswith(start)} - {""}


def partitions(spec: TopicSpec, settings: Settings) -> int:
    """Results, dead letters and broadcasts are read by one reader in order, so they need one partition only."""
    alone = spec.name.startswith(RESULTS) or spec.name == topics.DEAD or not spec.groups
    return 1 if alone else settings.partitions


def topic_config(settings: Settings) -> dict[str, str]:
    config = {
        "retention.ms": str(_ms(settings.retention)),
        "cleanup.policy": "delete",
        "max.message.bytes": str(settings.max_message_bytes + OVERHEAD),
    }
    return {**config, "flush.messages": "1"} if settings.fsync else config


class Clients:
    """The configurations of librdkafka's clients, without loggers and callbacks."""

    def __init__(self, address: Address) -> None:
        """Raises InvalidInput for an option that nobody knows or that must stay as EDOW sets it."""
        self.settings, self._own = address.settings(Settings, lambda name: "." in name)
        self.names = Names(self.settings.prefix)
        if address.path:
            raise InvalidInput(f"{address}: a Kafka URL has no path; a prefix for names is an option: ?prefix=mine.")
        for name in self._own:
            if name in FIXED:
                raise InvalidInput(f"{address}: option {name!r} cannot be set: {FIXED[name]}")
        if any(name.startswith("share.") for name in self._own) or self._own.get("group.protocol") == "share":
            raise InvalidInput(f"{address}: share groups are not used: {SHARE_GROUPS}")
        patience = min(max(_ms(self.settings.timeout), SOCKET_MS[0]), SOCKET_MS[1])
        self._shared: Config = {
            "bootstrap.servers": ",".join(address.hosts) or DEFAULT_HOST,
            "client.id": "edow",
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1_000,
            # Whoever was cut off without a word waits neither for answers that were lost nor for TCP's own patience.
            "socket.timeout.ms": patience,
            "socket.connection.setup.timeout.ms": patience,
            "socket.keepalive.enable": True,
            "socket.nagle.disable": True,
            "log.connection.close": False,
            "topic.metadata.propagation.max.ms": 2_000,  # after this, a topic that is not known is not waited for
            **_login(address, self._own),
        }

    @property
    def admin(self) -> Config:
        return {**self._shared, **self._own}

    @property
    def producer(self) -> Config:
        settings = self.settings
        return {
            **self._shared,
            "linger.ms": 0,
            "queue.buffering.max.kbytes": 262_144,
            **self._own,
            "acks": "all",
            "enable.idempotence": True,
            "partitioner": "murmur2_random",  # as clients in Java do it
            "message.timeout.ms": _ms(settings.timeout),
            "message.max.bytes": settings.max_message_bytes + OVERHEAD,
        }

    def reader(self, group: str, member: str = "") -> Config:
        """For consumers that are told which partitions to read."""
        return {
            **self._shared,
            "client.id": member or "edow",
            "queued.min.messages": 10_000,
            "queued.max.messages.kbytes": 16_384,
            "fetch.queue.backoff.ms": 10,
            **self._own,
            "group.id": group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "allow.auto.create.topics": False,
        }

    def member(self, group: str, member: str = "") -> Config:
        """For consumers that share a topic's partitions with others."""
        session = _ms(self.settings.session_timeout)
        config = self.reader(group, member)
        config["max.poll.interval.ms"] = max(_ms(LONGEST_POLL), session)
        if self._own.get("group.protocol", "").lower() == "consumer":
            return config  # then the broker decides about sessions and who gets which partition
        return {
            **config,
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": session,
            "heartbeat.interval.ms": max(1, session // HEARTBEATS),
        }


def _login(address: Address, own: Mapping[str, str]) -> Config:
    """A user in the URL logs in with SASL; over TLS, unless the URL says that it may go without."""
    if address.user is None:
        return {}
    if not address.user or not address.password:
        raise InvalidInput(f"{address}: give both user and password: kafka://USER:PASSWORD@HOST")
    login: Config = {"sasl.username": address.user, "sasl.password": address.password}
    if "security.protocol" not in own:
        login["security.protocol"] = "SASL_SSL"
    if not own.keys() & {"sasl.mechanism", "sasl.mechanisms"}:
        login["sasl.mechanism"] = "PLAIN"
    return login


def _ms(seconds: float) -> int:
    return round(seconds * 1_000)
