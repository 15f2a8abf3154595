"""What is asked of the brokers besides messages: topics, and how far each group is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import TypeVar

from confluent_kafka import KafkaError, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec  # type: ignore[attr-defined]

from edow.errors import EdowError, InvalidInput, TransportUnavailable
from edow.transport.contract import TopicSpec
from edow.transport.kafka.desk import Desk
from edow.transport.kafka.partition import Place, Progress
from edow.transport.kafka.problems import NotYet, answer, error_of, persist
from edow.transport.kafka.settings import Names, Settings, partitions, topic_config

Result = TypeVar("Result")
Key = TypeVar("Key")

SIZE_SECONDS = 300.0  # after which somebody may have added partitions; consumers look as often


class Cluster:
    """Asks with one client; whoever made it polls it. Raises InvalidInput and TransportUnavailable."""

    def __init__(self, admin: AdminClient, desk: Desk, names: Names, settings: Settings, address: str) -> None:
        self._admin = admin
        self._desk = desk
        self._names = names
        self._settings = settings
        self._address = address
        self._sizes: dict[str, tuple[int, float]] = {}  # partitions of the topics known to exist, and until when
        self._placed: set[tuple[str, str]] = set()  # topics and groups known to have their place

    async def greet(self) -> None:
        """Whether somebody is there."""
        future = self._admin.describe_cluster(request_timeout=self._settings.timeout)
        await answer(future, f"{self._address}: connecting")

    async def ensure(self, specs: Sequence[TopicSpec]) -> None:
        """Make what is missing. A group's place in a topic is its end at this moment."""
        specs = [spec for spec in specs if not self._has(spec)]
        if not specs:
            return
        wanted = {self._names.topic(spec.name): spec for spec in specs}
        found = await self._describe(list(wanted))
        missing = [spec for topic, spec in wanted.items() if topic not in found]
        if missing:
            await self._make(missing)
        await persist(lambda: self._await_leaders(list(wanted)), self._settings.timeout)
        await self._place_groups(specs)

    async def size(self, topic: str) -> int | None:
        """How many partitions a topic has; None if there is no such topic."""
        name = self._names.topic(topic)
        size, until = self._sizes.get(name, (None, 0.0))
        if size is not None and time.monotonic() < until:
            return size
        if name not in await self._describe([name]):
            self.forget(name)
            return None
        return self._sizes[name][0]

    def forget(self, name: str) -> None:
        """There may be no such topic any more: ask again."""
        self._sizes.pop(name, None)
        self._placed = {each for each in self._placed if self._names.topic(each[0]) != name}

    async def places(self, topic: str) -> list[Place]:
        """All partitions of a topic. Raises InvalidInput if there is no such topic."""
        size = await self.size(topic)
        if size is None:
            raise InvalidInput(f"there is no topic {topic!r}: make it with transport.ensure() first")
        return [(self._names.topic(topic), number) for number in range(size)]

    async def starts(self, topics: Sequence[str], group: str) -> dict[Place, Progress]:
        """Where a group begins to read, or goes on if nobody shares the topics with it."""
        await self.ensure([TopicSpec(topic, (group,)) for topic in topics])
        places = [place for topic in topics for place in await self.places(topic)]
        found = await self._desk.progress(self._names.places(group), places)
        return {place: found.get(place, Progress(0)) for place in places}

    async def states(self, topics: Sequence[str]) -> dict[tuple[str, str], dict[Place, Progress]]:
        """How far each group of each topic is, whoever made it."""
        listed = self._admin.list_consumer_groups(request_timeout=self._settings.timeout)
        found = await answer(listed, f"{self._address}: listing consumer groups")
        ids = {each.group_id for each in found.valid or ()}
        places = {topic: await self.places(topic) for topic in topics}
        every = [place for each in places.values() for place in each]
        groups = sorted({group for id in ids if (group := self._names.group_of(id))})
        starts = await asyncio.gather(*(self._desk.progress(self._names.places(group), every) for group in groups))
        states: dict[tuple[str, str], dict[Place, Progress]] = {}
        for group, start in zip(groups, starts, strict=True):
            for topic in topics:
                if any(place in start for place in places[topic]):
                    states[topic, group] = {place: start.get(place, Progress(0)) for place in places[topic]}
        shared = [key for key in states if self._names.members(*key) in ids]
        told = await asyncio.gather(*(self._desk.progress(self._names.members(*key), places[key[0]]) for key in shared))
        for key, progress in zip(shared, told, strict=True):
            states[key].update(progress)
        return states

    async def offsets(self, places: Iterable[Place], spec: OffsetSpec) -> dict[Place, int]:
        """The beginnings or ends of partitions."""
        asked = {TopicPartition(*place): spec for place in places}
        if not asked:
            return {}

        async def attempt() -> dict[Place, int]:
            futures = self._admin.list_offsets(asked, request_timeout=self._settings.timeout)
            found = await self._answers(futures, "reading the offsets of a partition")
            return {(each.topic, each.partition): result.offset for each, result in found.items()}

        return await persist(attempt, self._settings.timeout)

    def _has(self, spec: TopicSpec) -> bool:
        name = self._names.topic(spec.name)
        return name in self._sizes and all((spec.name, group) in self._placed for group in spec.groups)

    async def _describe(self, names: Sequence[str]) -> dict[str, bool]:
        """Those that exist, and whether each has a leader for all its partitions."""
        futures = self._admin.describe_topics(TopicCollection(list(names)), request_timeout=self._settings.timeout)
        found: dict[str, bool] = {}
        for name, future in futures.items():
            try:
                described = await answer(future, f"{self._address}: looking for topic {name!r}")
            except TransportUnavailable as problem:
                if error_of(problem.__cause__).code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise
                continue
            self._sizes[name] = (len(described.partitions), time.monotonic() + SIZE_SECONDS)
            found[name] = all(each.leader is not None for each in described.partitions)
        return found

    async def _await_leaders(self, names: Sequence[str]) -> None:
        found = await self._describe(names)
        absent = [name for name in names if not found.get(name)]
        if absent:
            raise NotYet(f"{self._address}: topic {absent[0]!r} has no leader for all its partitions")

    async def _make(self, specs: Sequence[TopicSpec]) -> None:
        settings = self._settings
        made = [
            NewTopic(
                self._names.topic(spec.name),
                partitions(spec, settings),
                settings.replicas,
                config=topic_config(settings),
            )
            for spec in specs
        ]
        futures = self._admin.create_topics(made, request_timeout=settings.timeout)
        for name, future in futures.items():
            try:
                await answer(future, f"{self._address}: making topic {name!r}")
            except EdowError as problem:
                if error_of(problem.__cause__).code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise

    async def _place_groups(self, specs: Sequence[TopicSpec]) -> None:
        """The ends are read before the places are: if somebody else gives a group its place meanwhile, ours is no
        later, so nothing that was published after that is passed over.
        """
        topics_of: dict[str, list[str]] = {}
        for spec in specs:
            for group in spec.groups:
                if (spec.name, group) not in self._placed:
                    topics_of.setdefault(group, []).append(spec.name)
        every = {place for topics in topics_of.values() for topic in topics for place in await self.places(topic)}
        ends = await self.offsets(every, OffsetSpec.latest())  # type: ignore[no-untyped-call]
        await asyncio.gather(*(self._place_group(group, topics, ends) for group, topics in topics_of.items()))

    async def _place_group(self, group: str, topics: Sequence[str], ends: Mapping[Place, int]) -> None:
        places = [place for topic in topics for place in await self.places(topic)]
        seconds, id = self._settings.timeout, self._names.places(group)
        known = await persist(lambda: self._desk.progress(id, places), seconds)
        missing = {place: ends[place] for place in places if place not in known}
        if missing:
            await persist(lambda: self._desk.commit(id, missing), seconds)
        self._placed.update((topic, group) for topic in topics)

    async def _answers(self, futures: Mapping[Key, Future[Result]], doing: str) -> dict[Key, Result]:
        found = await asyncio.gather(
            *(answer(each, f"{self._address}: {doing}") for each in futures.values()), return_exceptions=True
        )
        results: dict[Key, Result] = {}
        for key, result in zip(futures, found, strict=True):
            if isinstance(result, BaseException):
                raise result
            results[key] = result
        return results
