"""What is asked of the brokers besides messages: topics, and how far each group is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import TypeVar

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec  # type: ignore[attr-defined]

from edow.errors import EdowError, TransportUnavailable
from edow.transport.contract import TopicSpec
from edow.transport.kafka.partition import Place, Progress, read_progress
from edow.transport.kafka.problems import NotYet, answer, error_of, persist, translate
from edow.transport.kafka.settings import Names, Settings, partitions, topic_config

Result = TypeVar("Result")
Key = TypeVar("Key")

MEMBERS_DECIDE = frozenset(  # a group with members commits for itself
    {KafkaError.UNKNOWN_MEMBER_ID, KafkaError.NON_EMPTY_GROUP, KafkaError.REBALANCE_IN_PROGRESS}
)


class Cluster:
    """Asks with one client; whoever made it polls it. Raises InvalidInput and TransportUnavailable."""

    def __init__(self, admin: AdminClient, names: Names, settings: Settings, address: str) -> None:
        self._admin = admin
        self._names = names
        self._settings = settings
        self._address = address
        self._sizes: dict[str, int] = {}  # partitions of the topics known to exist
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
        if name not in self._sizes:
            await self._describe([name])
        return self._sizes.get(name)

    def known_size(self, name: str) -> int | None:
        return self._sizes.get(name)

    def forget(self, name: str) -> None:
        """The brokers say that there is no such topic any more."""
        self._sizes.pop(name, None)
        self._placed = {each for each in self._placed if self._names.topic(each[0]) != name}

    async def progress(self, topic: str, group: str) -> dict[int, Progress | None]:
        """How far the group is in each partition; None where it has no place yet."""
        name = self._names.topic(topic)
        count = await self.size(topic) or 0
        asked = ConsumerGroupTopicPartitions(
            self._names.group(topic, group), [TopicPartition(name, number) for number in range(count)]
        )
        doing = f"{self._address}: reading where group {group!r} is in topic {topic!r}"
        (future,) = self._admin.list_consumer_group_offsets([asked], request_timeout=self._settings.timeout).values()
        found = await answer(future, doing)
        return {
            each.partition: read_progress(each.offset, each.metadata) if each.offset >= 0 else None
            for each in found.topic_partitions or ()
        }

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

    def commit(self, topic: str, group: str, places: Sequence[TopicPartition]) -> Future[ConsumerGroupTopicPartitions]:
        """For groups without members. Any thread; the future raises KafkaException."""
        changed = ConsumerGroupTopicPartitions(self._names.group(topic, group), list(places))
        (future,) = self._admin.alter_consumer_group_offsets([changed], request_timeout=self._settings.timeout).values()
        return future

    async def groups(self, topics: Sequence[str]) -> dict[str, list[str]]:
        """The groups of each topic, whoever made them."""
        listed = self._admin.list_consumer_groups(request_timeout=self._settings.timeout)
        found = await answer(listed, f"{self._address}: listing consumer groups")
        ids = [each.group_id for each in found.valid or ()]
        known: dict[str, list[str]] = {}
        for topic in topics:
            names = {group for id in ids if (group := self._names.group_of(topic, id)) is not None}
            names.update(group for other, group in self._placed if other == topic)
            known[topic] = sorted(names)
        return known

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
                if _code(problem) != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise
                continue
            self._sizes[name] = len(described.partitions)
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
                if _code(problem) != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise

    async def _place_groups(self, specs: Sequence[TopicSpec]) -> None:
        """The ends are read before the places are: if somebody else gives a group its place meanwhile, ours is no
        later, so nothing that was published after that is passed over.
        """
        pairs = [(spec.name, group) for spec in specs for group in spec.groups]
        pairs = [pair for pair in pairs if pair not in self._placed]
        names = {self._names.topic(topic) for topic, _ in pairs}
        ends = await self.offsets(
            [(name, number) for name in names for number in range(self._sizes[name])],
            OffsetSpec.latest(),  # type: ignore[no-untyped-call]
        )
        await asyncio.gather(*(self._place_group(topic, group, ends) for topic, group in pairs))
        self._placed.update(pairs)

    async def _place_group(self, topic: str, group: str, ends: Mapping[Place, int]) -> None:
        seconds = self._settings.timeout
        found = await persist(lambda: self.progress(topic, group), seconds)
        name = self._names.topic(topic)
        missing = [TopicPartition(name, number, ends[name, number]) for number, each in found.items() if each is None]
        if not missing:
            return
        await persist(lambda: self._place_at(topic, group, missing), seconds)

    async def _place_at(self, topic: str, group: str, places: Sequence[TopicPartition]) -> None:
        doing = f"{self._address}: making group {group!r} of topic {topic!r}"
        try:
            done = await answer(self.commit(topic, group, places), doing)
            for each in done.topic_partitions or ():
                if each.error is not None:
                    raise translate(each.error, doing) from KafkaException(each.error)
        except TransportUnavailable as problem:
            if _code(problem) not in MEMBERS_DECIDE:
                raise

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


def _code(problem: BaseException) -> int | None:
    error = error_of(problem.__cause__) if problem.__cause__ is not None else None
    return error.code() if error is not None else None
