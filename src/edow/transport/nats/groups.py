"""Groups: the durable consumers of a topic's stream, by what a group is used for.

A group begins as one consumer of the whole stream, which holds every message until its mode is known.

shared: members pull from that consumer. When the first message with a key turns up there, the group gets a consumer for
each partition, of which the server gives out one message at a time (max_ack_pending 1): that is the order by key, also
across nacks and lost leases, whichever member gets what. From then on the first consumer has the messages without a
key.

exclusive: each subscriber makes a consumer of its own that begins where the former's acknowledgements end, and deletes
the former. So what was not acknowledged is delivered again, in order, and a reader that was only slow is shut out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from edow.errors import InvalidInput, TransportUnavailable
from edow.transport.contract import GroupStats, PartitionStats
from edow.transport.nats.api import (
    CONSUMER_EXISTS,
    CONSUMER_NOT_FOUND,
    SECOND,
    STREAM_NOT_FOUND,
    Api,
    Config,
    ConsumerInfo,
    Refused,
)
from edow.transport.nats.names import (
    ConsumerName,
    group_name,
    group_of,
    parse_consumer,
    partition_subject,
)
from edow.transport.nats.topics import Topic, Topics

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Shared(NamedTuple):
    """How a group's messages are to be pulled. `consumers`: the first, then those of the partitions if it has them."""

    consumers: list[str]
    ack_wait: float
    changed: bool  # others must know


class Groups:
    """Errors: InvalidInput for a group that was not ensured or is used in another mode, TransportUnavailable."""

    def __init__(self, api: Api, topics: Topics) -> None:
        self._api = api
        self._topics = topics

    async def share(self, topic: Topic, group: str, lease_seconds: float) -> Shared:
        """Make the group ready for a member with this lease. The smallest lease of all members is the server's; a
        member with a longer one extends its own in time.
        """
        info = await self._first(topic, group)
        wait = min(_number(info.config, "ack_wait"), round(lease_seconds * SECOND))
        names = [info.name]
        if _is_split(info, topic):
            names += [str(each) for each in _partitions(group, topic)]
        shorter = wait < _number(info.config, "ack_wait")
        if shorter:
            await asyncio.gather(*(self._shorten(topic.stream, name, wait) for name in names))
        return Shared(names, wait / SECOND, shorter)

    async def split(self, topic: Topic, group: str) -> None:
        """Give it a consumer for each partition. Idempotent, safe in several processes at once: nothing with a key is
        acknowledged at the first consumer before all of them exist, so all begin before the first such message.
        """
        info = await self._first(topic, group)
        if _is_split(info, topic):
            return
        common: Config = {
            **info.config,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": info.ack_floor.stream_seq + 1,
            "max_ack_pending": 1,
        }
        await asyncio.gather(
            *(
                self._api.add_consumer(topic.stream, common | _of_partition(each, topic))
                for each in _partitions(group, topic)
            )
        )
        await self._api.set_consumer(topic.stream, info.config | {"filter_subject": topic.subject}, "update")

    async def take_over(self, topic: Topic, group: str) -> str:
        """The name of a consumer that is the caller's alone."""
        found = await self._consumers_of(topic, group)
        if any(each.role == "k" for each in found):
            raise InvalidInput(f"group {group!r} of topic {topic.name!r} is shared by its members, not read by one")
        newest = max(found, key=lambda each: each.number)
        former = await self._info(topic, str(newest))
        name = str(ConsumerName(newest.group, "x", newest.number + 1))
        config = {
            **self._topics.consumer(group),
            "name": name,
            "durable_name": name,
            "ack_policy": "all",
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": former.ack_floor.stream_seq + 1,
        }
        try:
            await self._api.set_consumer(topic.stream, config, "create", CONSUMER_EXISTS)
        except Refused as problem:
            raise TransportUnavailable(f"another reader takes over {topic.name!r} just now: {problem}") from problem
        await asyncio.gather(*(self._api.delete_consumer(topic.stream, str(each)) for each in found))
        return name

    async def exists(self, topic: Topic, name: str) -> bool:
        """Whether the consumer is still there."""
        try:
            await self._api.consumer(topic.stream, name, (CONSUMER_NOT_FOUND, STREAM_NOT_FOUND))
        except Refused:
            return False
        return True

    async def listen(self, topic: Topic, name: str, since: str) -> str:
        """Make a consumer, kept by nobody, of what was published since then, or from now on. Its time of birth."""
        config: Config = {
            "name": name,
            "ack_policy": "none",
            "deliver_policy": "new",
            "inactive_threshold": 60 * SECOND,
            "mem_storage": True,
            "num_replicas": 1,
        }
        if since:
            config |= {"deliver_policy": "by_start_time", "opt_start_time": since}
        await self._api.delete_consumer(topic.stream, name)
        return (await self._api.set_consumer(topic.stream, config, "create")).ts

    async def unlisten(self, topic: Topic, name: str) -> None:
        await self._api.delete_consumer(topic.stream, name)

    async def state(self, topic: Topic) -> list[ConsumerInfo]:
        """Every consumer of the topic as it is now."""
        return await self._api.consumers(topic.stream)

    async def describe(self, topic: Topic) -> list[GroupStats]:
        """See the contract. A message that waits to be delivered again counts as in flight."""
        by_group: dict[str, list[ConsumerInfo]] = {}
        stream, infos = await asyncio.gather(self._api.stream("INFO", topic.stream), self.state(topic))
        for info in infos:
            if "durable_name" in info.config:
                by_group.setdefault(parse_consumer(info.name).group, []).append(info)
        return [
            GroupStats(
                group_of(name),
                sum(info.num_pending for info in infos),
                sum(info.num_ack_pending for info in infos),
                await self._oldest(topic, infos),
                stream.state.last_seq,
                _partition_stats(infos),
            )
            for name, infos in by_group.items()
        ]

    async def _oldest(self, topic: Topic, infos: Sequence[ConsumerInfo]) -> int | None:
        found = await asyncio.gather(
            *(
                self._api.first_message(
                    topic.stream, info.ack_floor.stream_seq + 1, str(info.config.get("filter_subject") or ">")
                )
                for info in infos
                if info.num_pending or info.num_ack_pending
            )
        )
        times = [(each - _EPOCH) // (datetime.resolution) for each in found if each is not None]
        return min(times, default=None)

    async def _first(self, topic: Topic, group: str) -> ConsumerInfo:
        try:
            return await self._api.consumer(topic.stream, group_name(group), (CONSUMER_NOT_FOUND, STREAM_NOT_FOUND))
        except Refused:
            await self._consumers_of(topic, group)
        raise InvalidInput(f"group {group!r} of topic {topic.name!r} is read by one subscriber, not shared")

    async def _info(self, topic: Topic, name: str) -> ConsumerInfo:
        try:
            return await self._api.consumer(topic.stream, name, (CONSUMER_NOT_FOUND, STREAM_NOT_FOUND))
        except Refused as problem:
            raise TransportUnavailable(f"another reader takes over {topic.name!r} just now: {problem}") from problem

    async def _consumers_of(self, topic: Topic, group: str) -> list[ConsumerName]:
        wanted = group_name(group)
        try:
            names = await self._api.consumer_names(topic.stream)
        except Refused:
            names = []
        found = [each for each in map(parse_consumer, names) if each.group == wanted]
        if not found:
            raise InvalidInput(f"topic {topic.name!r} has no group {group!r}: make it with transport.ensure() first")
        return found

    async def _shorten(self, stream: str, name: str, wait: int) -> None:
        info = await self._api.consumer(stream, name)
        await self._api.set_consumer(stream, info.config | {"ack_wait": wait}, "update")


def _is_split(info: ConsumerInfo, topic: Topic) -> bool:
    return info.config.get("filter_subject") == topic.subject


def _partitions(group: str, topic: Topic) -> list[ConsumerName]:
    return [ConsumerName(group_name(group), "k", number) for number in range(topic.partitions)]


def _partition_stats(infos: Sequence[ConsumerInfo]) -> tuple[PartitionStats, ...]:
    named = [(name, info) for info in infos if (name := parse_consumer(info.name)).role == "k"]
    named.sort(key=lambda pair: pair[0])
    return tuple(PartitionStats(str(name.number), info.num_pending + info.num_ack_pending) for name, info in named)


def _of_partition(name: ConsumerName, topic: Topic) -> Config:
    subject = partition_subject(topic.subject, name.number)
    return {"name": str(name), "durable_name": str(name), "filter_subject": subject}


def _number(config: Config, name: str) -> int:
    value = config.get(name, 0)
    return value if isinstance(value, int) else 0
