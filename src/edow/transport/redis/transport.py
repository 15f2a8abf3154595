"""The Redis transport. Publishing, subscribing and describing; what it is built from is told in the package."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, cast

import msgspec

from edow.address import Address
from edow.errors import Closed, InvalidInput, PublishFailed, TransportUnavailable
from edow.model.message import Message
from edow.transport.contract import Features, GroupStats, Subscriber, Subscription, TopicSpec, TopicStats
from edow.transport.redis.cursor import BEGINNING, Cursor
from edow.transport.redis.deliveries import encode_key
from edow.transport.redis.link import Argument, Command, Denied, Link, Reply
from edow.transport.redis.settings import Settings, root
from edow.transport.redis.shared import SharedSubscriber
from edow.transport.redis.topics import EVERYBODY, Topics, unknown
from edow.transport.sizes import check_sizes, pieces

BROADCAST_US = 60_000_000  # how long a broadcast message can be read
CALL_MESSAGES = 5_000  # of a larger batch, in one call: the server does nothing else meanwhile
CALL_BYTES = 64 * 1024 * 1024

log = logging.getLogger("edow.transport.redis")


class RedisTransport:
    """See `edow.transport.contract.Transport`."""

    def __init__(self, address: Address, settings: Settings) -> None:
        self._address = address
        self._settings = settings
        self._link = Link(address, settings)
        self._topics = Topics(self._link, root(settings))
        self._subscribers: set[SharedSubscriber | Cursor] = set()
        self._is_open = False
        self._features = Features(
            name="redis",
            durable=False,
            ordered_by_key=True,
            delivery_count=True,
            native_delay=True,
            lease_extension=True,
            exclusive=True,
            broadcast=True,
            replay=False,
            waiting=True,
            lag=True,
            partitions=False,
            max_message_bytes=settings.max_message_bytes,
        )

    @property
    def features(self) -> Features:
        """`durable` is known once open: True when the server syncs its log before it answers."""
        return self._features

    async def open(self) -> None:
        """Raises InvalidInput for wrong credentials, a missing permission, or a server that must not be used as it is;
        TransportUnavailable when none of the servers answers.
        """
        if self._is_open:
            return
        self._link.open()
        try:
            durable = await self._greet()
        except BaseException:
            await self._link.close()
            raise
        self._features = msgspec.structs.replace(self._features, durable=durable)
        self._is_open = True

    async def close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        for subscriber in list(self._subscribers):
            await subscriber.close()
        self._subscribers.clear()
        await self._link.close()

    async def ensure(self, topics: Sequence[TopicSpec]) -> None:
        self._check_open()
        await self._topics.ensure(topics)

    async def publish(self, messages: Sequence[Message], *, durable: bool = True) -> None:
        """See the contract. A batch is one script, which appends all of it or nothing; only one of more than 5,000
        messages or 64 MiB is several. How soon a message is on disk is decided by the server's settings alone.
        """
        self._check_open()
        check_sizes(messages, self._features.max_message_bytes)
        names = list(dict.fromkeys(message.topic for message in messages))
        for first, batch in pieces(messages, CALL_MESSAGES, CALL_BYTES):
            try:
                await self._publish(names, batch)
            except TransportUnavailable as problem:
                raise PublishFailed(str(problem), tuple(range(first, len(messages)))) from problem

    async def subscribe(self, subscription: Subscription) -> Subscriber:
        self._check_open()
        if not subscription.topics:
            raise InvalidInput("a subscription needs at least one topic")
        group = EVERYBODY if subscription.mode == "broadcast" else subscription.group
        queues = await self._topics.queues(list(dict.fromkeys(subscription.topics)), group)
        subscriber = await self._subscriber(subscription, queues)
        self._check_open()
        self._subscribers = {each for each in self._subscribers if not each.is_closed} | {subscriber}
        return subscriber

    async def describe(self, topics: Sequence[str]) -> list[TopicStats]:
        """See the contract. Groups that are read exclusively have nothing in flight: all of it is waiting."""
        self._check_open()
        if not topics:
            return []
        (answer,) = await self._link.run("describe", [self._topics.key], list(topics))
        described = cast("list[list[Any] | None]", answer)
        return [TopicStats(topic, _stats(topic, groups)) for topic, groups in zip(topics, described, strict=True)]

    async def _greet(self) -> bool:
        for attempt in range(1, self._link.servers + 1):
            try:
                return await self._look_at_server()
            except Denied as problem:
                raise InvalidInput(str(problem)) from problem  # nothing will be better by trying again
            except TransportUnavailable:
                if attempt == self._link.servers:
                    raise
        raise AssertionError("there is a server")

    async def _look_at_server(self) -> bool:
        """Refuse what would lose messages. True when what it has answered is on disk."""
        (version,) = await self._link.run("greet", [self._topics.key], [])
        if version is None:
            raise InvalidInput(f"{self._address}: the server is older than Redis 7.0, which is the least that works")
        probe = f"{self._topics.key}:probe"
        await self._link.ask(("LPUSH", probe, 1), ("BLPOP", probe, 1), ("XREAD", "STREAMS", probe, BEGINNING))
        async with self._link.borrowed() as line:  # whoever may not ask does without
            info, policy = await line.ask(("INFO",), ("CONFIG", "GET", "appendfsync"))
        facts = _facts(info)
        evicts = facts.get("maxmemory_policy", "noeviction")
        if evicts.startswith("allkeys") and facts.get("maxmemory", "0") != "0":
            raise InvalidInput(
                f"{self._address}: the server forgets messages when its memory is full (maxmemory-policy {evicts}): "
                "set maxmemory-policy to noeviction, or use another server"
            )
        if facts.get("aof_enabled", "1") == "0":
            log.warning("Redis at %s keeps no append-only file: a restart loses messages", self._link.place)
        return facts.get("aof_enabled") == "1" and isinstance(policy, list) and policy[1:] == [b"always"]

    async def _publish(self, names: Sequence[str], messages: Sequence[Message]) -> None:
        answer = await self._send(names, messages)
        if answer[0] == b"unknown":
            topic = answer[1].decode()
            if not self._topics.knows(topic):
                raise unknown(topic)
            log.warning("Redis has lost topic %s, making it again", topic)
            await self._topics.restore()
            answer = await self._send(names, messages)
        if answer[0] == b"unknown":
            raise TransportUnavailable(
                f"Redis at {self._link.place} loses topic {answer[1].decode()!r} again and again"
            )
        if answer[0] == b"full":
            raise TransportUnavailable(
                f"queue {answer[1].decode()!r} is full: maxlen={self._settings.maxlen} messages of it are not "
                "acknowledged; add workers, or raise maxlen"
            )
        self._topics.remember(names, answer)

    async def _send(self, names: Sequence[str], messages: Sequence[Message]) -> list[bytes]:
        numbers = {name: number for number, name in enumerate(names, 1)}
        call: list[Argument] = [self._settings.maxlen, BROADCAST_US, len(names), *names]
        for message in messages:
            call += (numbers[message.topic], encode_key(message.key), message.body)
        wanted = self._settings.replicas
        after: list[Command] = [("WAIT", wanted, int(self._settings.timeout * 500))] if wanted else []
        answer, *replicas = await self._link.run("publish", [self._topics.key], call, after)
        if replicas and cast("int", replicas[0]) < wanted:
            raise TransportUnavailable(f"only {replicas[0]!r} of {wanted} replicas have the messages")
        return cast("list[bytes]", answer)

    async def _subscriber(
        self, subscription: Subscription, queues: Sequence[tuple[str, str]]
    ) -> SharedSubscriber | Cursor:
        if subscription.mode == "shared":
            return SharedSubscriber(self._link, self._topics, subscription, queues)
        tails = dict.fromkeys((queue for _, queue in queues), BEGINNING)
        if subscription.mode == "broadcast":
            await self._topics.join([topic for topic, _ in queues], EVERYBODY)
            newest = await self._link.ask(*(("XREVRANGE", queue, "+", "-", "COUNT", 1) for queue in tails))
            tails = dict(zip(tails, map(_last, newest), strict=True))
        positions = {queue: (topic, tails[queue]) for topic, queue in queues}
        return Cursor(self._link, self._topics, subscription, positions)

    def _check_open(self) -> None:
        if not self._is_open:
            raise Closed(f"the transport on {self._address} is closed")


def _stats(topic: str, groups: list[Any] | None) -> list[GroupStats]:
    if groups is None:
        raise unknown(topic)
    stats: list[GroupStats] = []
    for group, messages, in_flight, ever, *oldest in groups:
        oldest_at = int(oldest[0].partition(b"-")[0]) * 1000 if oldest and oldest[0] else None
        stats.append(GroupStats(group.decode(), max(0, messages - in_flight), in_flight, oldest_at, ever))
    return stats


def _last(newest: Reply) -> bytes:
    entries = cast("list[tuple[bytes, Any]]", newest)
    return entries[0][0] if entries else BEGINNING


def _facts(info: Reply) -> dict[str, str]:
    """What INFO says; nothing where this user may not ask."""
    if not isinstance(info, bytes):
        return {}
    return dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
