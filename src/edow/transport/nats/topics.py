"""Topics: one stream for each, and what this process knows of them.

A stream keeps a message until every consumer that it concerns has acknowledged it (retention by interest), so what was
worked on leaves the disk, and the server, not the publisher, knows the groups. That costs the server a sync for each
message; where a topic is read by one, in order, the reader trims the stream instead, many messages at a time. A topic
without groups is for broadcast alone: its messages can be read for a minute, so that a listener that was cut off can
catch up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig

from edow.errors import InvalidInput
from edow.transport.contract import TopicSpec
from edow.transport.nats.groups import Groups
from edow.transport.nats.link import Link
from edow.transport.nats.names import Topic, group_name, partition_subject, stream_of, subject_of

READ_BY_ONE = "edow.results."  # such topics need no partitions: whoever reads all of one keeps the order of its keys
BROADCAST_SECONDS = 60.0
DELETED_SECONDS = 0.5  # after which the server has done away with a stream that it no longer knows
AT_ONCE = 8  # topics being looked after: each may be many requests, all to be answered in time
PARTITIONS = "edow-partitions"  # metadata of a stream
STREAM_IN_USE = 10058  # with another configuration
STREAM_NOT_FOUND = 10059


class Topics:
    """What was ensured here is made again after a reconnection, should the server have lost it."""

    def __init__(self, link: Link, groups: Groups) -> None:
        self._link = link
        self.groups = groups
        self._known: dict[str, Topic] = {}
        self._ensured: dict[str, set[str]] = {}
        self._gate = asyncio.Semaphore(AT_ONCE)

    async def ensure(self, specs: Sequence[TopicSpec]) -> None:
        """See the contract."""
        for spec in specs:
            subject_of(self._link.options.prefix, spec.name)
            for group in spec.groups:
                group_name(group)
        await asyncio.gather(*(self._ensure(spec.name, set(spec.groups)) for spec in specs if not self._has(spec)))

    async def ensure_again(self, names: Collection[str] | None = None) -> None:
        """The server may have lost these, or any."""
        lost = [name for name in self._ensured if names is None or name in names]
        await asyncio.gather(*(self._ensure(name, self._ensured[name]) for name in lost))

    async def find(self, names: Iterable[str]) -> dict[str, Topic]:
        """Raises InvalidInput for a topic that nobody has ensured."""
        wanted = set(names)
        if missing := wanted - self._known.keys():
            await asyncio.gather(*(self._look_up(name) for name in missing))
        return {name: self._known[name] for name in wanted}

    async def state(self, topic: Topic) -> tuple[datetime | None, int]:
        """When its stream was made, and the number of the last message in it."""
        info = await self._link.ask(self._link.js.stream_info(topic.stream))
        return info.created, info.state.last_seq

    def forget(self, name: str) -> None:
        """Its stream did not answer: look it up the next time."""
        self._known.pop(name, None)

    def _has(self, spec: TopicSpec) -> bool:
        return spec.name in self._known and self._ensured.get(spec.name, set()).issuperset(spec.groups)

    async def _ensure(self, name: str, groups: set[str]) -> None:
        async with self._gate:
            if name in self._ensured and not await self._exists(name):
                await asyncio.sleep(DELETED_SECONDS)
            topic = await self._make(name, bool(groups))
            await self.groups.make(topic, groups)
        self._known[name] = topic
        self._ensured.setdefault(name, set()).update(groups)

    async def _make(self, name: str, has_groups: bool) -> Topic:
        js, wanted = self._link.js, self._config(name, has_groups)
        info = await self._link.ask(js.add_stream(wanted), STREAM_IN_USE)
        if info is None:
            info = await self._link.ask(js.stream_info(str(wanted.name)))
        topic = self._topic(name, info.config)
        if has_groups and info.config.max_age:  # it was for broadcast alone
            await self._link.ask(js.update_stream(info.config.evolve(retention=wanted.retention, max_age=0)))
        return topic

    async def _exists(self, name: str) -> bool:
        stream = stream_of(subject_of(self._link.options.prefix, name))
        return await self._link.ask(self._link.js.stream_info(stream), STREAM_NOT_FOUND) is not None

    async def _look_up(self, name: str) -> Topic:
        stream = stream_of(subject_of(self._link.options.prefix, name))
        info = await self._link.ask(self._link.js.stream_info(stream), STREAM_NOT_FOUND)
        if info is None:
            raise InvalidInput(f"topic {name!r} does not exist: make it with transport.ensure() first")
        self._known[name] = self._topic(name, info.config)
        return self._known[name]

    def _config(self, name: str, has_groups: bool) -> StreamConfig:
        options = self._link.options
        subject = subject_of(options.prefix, name)
        alone = name.startswith(READ_BY_ONE)
        seconds = 0 if has_groups else BROADCAST_SECONDS
        return StreamConfig(
            name=stream_of(subject),
            subjects=[subject, partition_subject(subject, "*")],
            retention=RetentionPolicy.INTEREST if has_groups and not alone else RetentionPolicy.LIMITS,
            max_age=seconds,
            discard=DiscardPolicy.NEW,  # a stream that is full refuses what comes, and drops nothing that it has
            storage=StorageType(options.storage),
            num_replicas=options.replicas,
            duplicate_window=min(options.dedupe, seconds or options.dedupe),
            metadata={PARTITIONS: str(0 if alone else options.partitions)},
        )

    def _topic(self, name: str, config: StreamConfig) -> Topic:
        subject = subject_of(self._link.options.prefix, name)
        stream, partitions = stream_of(subject), (config.metadata or {}).get(PARTITIONS, "")
        if config.subjects != [subject, partition_subject(subject, "*")] or not partitions.isdigit():
            raise InvalidInput(
                f"stream {stream!r} of topic {name!r} was not made by EDOW: delete it or choose a prefix"
            )
        return Topic(name, subject, stream, int(partitions))
