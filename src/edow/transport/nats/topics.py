"""Topics: one stream for each, and what this process knows of them.

A stream keeps a message until every consumer that it concerns has acknowledged it (retention by interest), so what was
worked on leaves the disk, and the server, not the publisher, knows the groups. A topic without groups is for broadcast
alone: its messages can be read for a minute, so that a listener that was cut off can catch up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from edow.errors import InvalidInput
from edow.transport.contract import TopicSpec
from edow.transport.nats.api import SECOND, STREAM_IN_USE, STREAM_NOT_FOUND, Api, Config, Refused
from edow.transport.nats.names import group_name, parse_consumer, partition_subject, stream_of, subject_of
from edow.transport.nats.options import NatsOptions

BROADCAST_SECONDS = 60
HOLD_SECONDS = 10 * 365 * 24 * 3600  # a delivery that does not expire
MEMBERS = 4096  # of a group, at most
AT_ONCE = 32  # requests under way
PARTITIONS = "edow-partitions"  # metadata of a stream


class Topic(NamedTuple):
    """`subject` is the one for messages without a key."""

    name: str
    subject: str
    stream: str
    partitions: int

    def is_keyed(self, subject: str) -> bool:
        """Whether a message that was published there has a place among its key's others."""
        return subject != self.subject and self.partitions > 0


class Topics:
    """What was ensured here is made again after a reconnection, should the server have lost it."""

    def __init__(self, api: Api, options: NatsOptions) -> None:
        self._api = api
        self._options = options
        self._known: dict[str, Topic] = {}
        self._ensured: dict[str, set[str]] = {}
        self._gate = asyncio.Semaphore(AT_ONCE)

    async def ensure(self, specs: Sequence[TopicSpec]) -> None:
        """See the contract."""
        for spec in specs:
            subject_of(self._options.prefix, spec.name)
            for group in spec.groups:
                group_name(group)
        await asyncio.gather(*(self._ensure(spec.name, set(spec.groups)) for spec in specs if not self._has(spec)))

    async def ensure_again(self, fresh: bool) -> None:
        """After a reconnection."""
        ensured, self._ensured = self._ensured, {}
        self._known.clear()
        try:
            await asyncio.gather(*(self._ensure(name, groups) for name, groups in ensured.items()))
        finally:
            for name, groups in ensured.items():
                self._ensured.setdefault(name, set()).update(groups)

    async def find(self, names: Iterable[str]) -> dict[str, Topic]:
        """Raises InvalidInput for a topic that nobody has ensured."""
        wanted = set(names)
        if missing := wanted - self._known.keys():
            await asyncio.gather(*(self._look_up(name) for name in missing))
        return {name: self._known[name] for name in wanted}

    def forget(self, name: str) -> None:
        """Its stream did not answer: look it up the next time."""
        self._known.pop(name, None)

    def consumer(self, group: str) -> Config:
        """A group's first consumer: of everything in the stream from now on, until its mode is known."""
        name = group_name(group)
        return {
            "name": name,
            "durable_name": name,
            "deliver_policy": "new",
            "ack_policy": "explicit",
            "ack_wait": HOLD_SECONDS * SECOND,
            "max_ack_pending": self._options.in_flight,
            "max_waiting": MEMBERS,
        }

    def _has(self, spec: TopicSpec) -> bool:
        return spec.name in self._known and self._ensured.get(spec.name, set()).issuperset(spec.groups)

    async def _ensure(self, name: str, groups: set[str]) -> None:
        async with self._gate:
            topic = await self._make(name, bool(groups))
            existing = {parse_consumer(each).group for each in await self._api.consumer_names(topic.stream)}
            for group in groups:
                if group_name(group) not in existing:
                    await self._api.add_consumer(topic.stream, self.consumer(group))
        self._known[name] = topic
        self._ensured.setdefault(name, set()).update(groups)

    async def _make(self, name: str, has_groups: bool) -> Topic:
        config = self._config(name, has_groups)
        stream = str(config["name"])
        try:
            made = (await self._api.stream("CREATE", stream, config, (STREAM_IN_USE,))).config
        except Refused:
            made = (await self._api.stream("INFO", stream)).config
            if has_groups and made.get("retention") == "limits" and self._is_ours(made, name):
                grown = made | {"retention": "interest", "max_age": 0}
                made = (await self._api.stream("UPDATE", stream, grown)).config
        return self._topic(name, made)

    async def _look_up(self, name: str) -> None:
        stream = stream_of(subject_of(self._options.prefix, name))
        async with self._gate:
            try:
                reply = await self._api.stream("INFO", stream, expect=(STREAM_NOT_FOUND,))
            except Refused:
                raise InvalidInput(f"topic {name!r} does not exist: make it with transport.ensure() first") from None
        self._known[name] = self._topic(name, reply.config)

    def _config(self, name: str, has_groups: bool) -> Config:
        subject = subject_of(self._options.prefix, name)
        return {
            "name": stream_of(subject),
            "subjects": [subject, partition_subject(subject, "*")],
            "retention": "interest" if has_groups else "limits",
            "max_age": 0 if has_groups else BROADCAST_SECONDS * SECOND,
            "discard": "new",  # a stream that is full refuses what comes, and drops nothing that it has
            "storage": self._options.storage,
            "num_replicas": self._options.replicas,
            "duplicate_window": int(self._options.dedupe * SECOND),
            "metadata": {PARTITIONS: str(self._options.partitions)},
        }

    def _is_ours(self, config: Config, name: str) -> bool:
        metadata = config.get("metadata")
        return (
            config.get("subjects") == self._config(name, True)["subjects"]
            and isinstance(metadata, dict)
            and str(metadata.get(PARTITIONS)).isdigit()
        )

    def _topic(self, name: str, config: Config) -> Topic:
        subject = subject_of(self._options.prefix, name)
        stream = stream_of(subject)
        metadata = config.get("metadata")
        if not self._is_ours(config, name) or not isinstance(metadata, dict):
            raise InvalidInput(
                f"stream {stream!r} of topic {name!r} was not made by EDOW: delete it or choose a prefix"
            )
        return Topic(name, subject, stream, int(metadata[PARTITIONS]))
