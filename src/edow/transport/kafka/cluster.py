"""What is asked of the brokers besides messages: topics, how far each group is, and how old a message.

Topics are asked about with an administrator, groups and single messages with a consumer. The administrator could do it
all, and ends the process when a group's coordinator has moved (librdkafka#5040, #5397).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec, TopicDescription  # type: ignore[attr-defined]

from edow.errors import EdowError, InvalidInput, TransportUnavailable
from edow.transport.contract import TopicSpec
from edow.transport.kafka.partition import Place, Progress, read_progress
from edow.transport.kafka.problems import Lines, error_of, persist, translate
from edow.transport.kafka.settings import Clients, partitions, topic_config

Result = TypeVar("Result")

POLL_SECONDS = 0.1
LOOK_SECONDS = 1.0  # for the ids of topics
SIZE_SECONDS = 300.0  # after which somebody may have added partitions; consumers look as often

Spot = tuple[Place, int]  # a partition and an offset


class Cluster:
    """`admin`: polled by whoever made it. Raises InvalidInput and TransportUnavailable."""

    def __init__(self, admin: AdminClient, clients: Clients, address: str) -> None:
        self._admin = admin
        self._clients = clients
        self._names = clients.names
        self._seconds = clients.settings.timeout
        self._address = address
        self.ids: dict[str, str] = {}  # of topics: one that is made again is another one
        self._sizes: dict[str, tuple[int, float]] = {}  # partitions of the topics known to exist, and until when
        self._placed: set[tuple[str, str]] = set()  # topics and groups known to have their place

    async def greet(self) -> None:
        """Whether somebody is there."""
        await self._answer(self._admin.describe_cluster(request_timeout=self._seconds), "connecting")

    # -- topics --

    async def ensure(self, specs: Sequence[TopicSpec]) -> None:
        """Make what is missing. A group's place in a topic is its end at this moment."""
        specs = [spec for spec in specs if not self._has(spec)]
        if not specs:
            return
        wanted = {self._names.topic(spec.name): spec for spec in specs}
        found = await self._describe(list(wanted))
        await self._make({name: spec for name, spec in wanted.items() if name not in found})
        await persist(lambda: self._await_leaders(list(wanted)), self._seconds)
        groups: dict[str, list[str]] = {}
        for spec in specs:
            for group in spec.groups:
                groups.setdefault(group, []).append(spec.name)
        await asyncio.gather(*(self._place(group, topics) for group, topics in groups.items()))

    async def places(self, topic: str) -> list[Place]:
        """All partitions of a topic. Raises InvalidInput if there is no such topic."""
        name = self._names.topic(topic)
        if self._sizes.get(name, (0, 0.0))[1] < time.monotonic() and name not in await self._describe([name]):
            self.forget(name)
            raise InvalidInput(f"there is no topic {topic!r}: make it with transport.ensure() first")
        return [(name, number) for number in range(self._sizes[name][0])]

    async def offsets(self, places: Iterable[Place], spec: OffsetSpec) -> dict[Place, int]:
        """The beginnings or ends of partitions."""
        asked = {TopicPartition(*place): spec for place in places}

        async def attempt() -> dict[Place, int]:
            futures = self._admin.list_offsets(asked, request_timeout=self._seconds)
            doing = "reading the offsets of a partition"
            return {(at.topic, at.partition): (await self._answer(each, doing)).offset for at, each in futures.items()}

        return await persist(attempt, self._seconds) if asked else {}

    def identify(self, names: Sequence[str]) -> dict[str, str]:
        """The ids of those topics that there are. Raises KafkaException. For other threads than the event loop's."""
        futures = self._admin.describe_topics(TopicCollection(list(names)), request_timeout=LOOK_SECONDS)
        found = {name: future.exception() or future.result() for name, future in futures.items()}
        return {name: str(each.topic_id) for name, each in found.items() if isinstance(each, TopicDescription)}

    def forget(self, name: str) -> None:
        """There may be no such topic any more: ask again."""
        self._sizes.pop(name, None)
        self._placed = {each for each in self._placed if self._names.topic(each[0]) != name}

    def _has(self, spec: TopicSpec) -> bool:
        name = self._names.topic(spec.name)
        return name in self._sizes and all((spec.name, group) in self._placed for group in spec.groups)

    async def _describe(self, names: Sequence[str]) -> dict[str, bool]:
        """Those that exist, and whether each has a leader for all its partitions."""
        futures = self._admin.describe_topics(TopicCollection(list(names)), request_timeout=self._seconds)
        found: dict[str, bool] = {}
        for name, future in futures.items():
            try:
                described = await self._answer(future, f"looking for topic {name!r}")
            except TransportUnavailable as problem:
                if error_of(problem.__cause__).code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise
                continue
            self.ids[name] = str(described.topic_id)
            self._sizes[name] = (len(described.partitions), time.monotonic() + SIZE_SECONDS)
            found[name] = all(each.leader is not None for each in described.partitions)
        return found

    async def _await_leaders(self, names: Sequence[str]) -> None:
        found = await self._describe(names)
        for name in names:
            if not found.get(name):
                raise TransportUnavailable(f"{self._address}: topic {name!r} has no leader for all its partitions")

    async def _make(self, wanted: Mapping[str, TopicSpec]) -> None:
        settings, config = self._clients.settings, topic_config(self._clients.settings)
        made = [
            NewTopic(name, partitions(spec, settings), settings.replicas or -1, config=config)
            for name, spec in wanted.items()
        ]
        futures = self._admin.create_topics(made, request_timeout=self._seconds) if made else {}
        for name, future in futures.items():
            try:
                await self._answer(future, f"making topic {name!r}")
            except EdowError as problem:
                if error_of(problem.__cause__).code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise

    # -- groups --

    async def starts(self, topics: Sequence[str], group: str) -> dict[Place, Progress]:
        """Where a group begins to read, or goes on if nobody shares the topics with it."""
        await self.ensure([TopicSpec(topic, (group,)) for topic in topics])
        places = await self._all_places(topics)
        return dict.fromkeys(places, Progress(0)) | await self._progress(self._names.places(group), places)

    async def states(self, topics: Sequence[str]) -> dict[tuple[str, str], dict[Place, Progress]]:
        """How far each group is in each topic; whoever made it.

        What a group's place id has committed expires (`offsets.retention.minutes`), its members' does not.
        """
        listed = self._admin.list_consumer_groups(request_timeout=self._seconds)
        ids = {each.group_id for each in (await self._answer(listed, "listing consumer groups")).valid or ()}
        every = await self._all_places(topics)
        states: dict[tuple[str, str], dict[Place, Progress]] = {}

        async def look(group: str) -> None:
            start = await self._progress(self._names.places(group), every)
            for topic in topics:
                places, members = await self.places(topic), self._names.members(topic, group)
                told = await self._progress(members, places) if members in ids else {}
                if told or any(place in start for place in places):
                    states[topic, group] = {place: start.get(place, Progress(0)) for place in places} | told

        await asyncio.gather(*(look(group) for group in self._names.groups(ids, topics)))
        return states

    async def times(self, spots: Iterable[Spot]) -> dict[Spot, int]:
        """When the first messages from there on were published, in microseconds. Missing: there is none; the last
        offsets are no messages where somebody has ended a transaction.
        """
        wanted = sorted(spots)
        group = self._names.places("lag")  # an id that may be used to look at single messages; nothing is committed
        return await self._use(group, lambda consumer: self._times(consumer, wanted), True) if wanted else {}

    async def _all_places(self, topics: Sequence[str]) -> list[Place]:
        return [place for topic in topics for place in await self.places(topic)]

    async def _place(self, group: str, topics: Sequence[str]) -> None:
        """The ends are read before the places are: if somebody else gives a group its place meanwhile, ours is no
        later, so nothing that was published after that is passed over.
        """
        places, id = await self._all_places(topics), self._names.places(group)
        ends = await self.offsets(places, OffsetSpec.latest())  # type: ignore[no-untyped-call]
        known = await persist(lambda: self._progress(id, places), self._seconds)
        missing = [TopicPartition(*place, ends[place]) for place in places if place not in known]
        if missing:
            await persist(lambda: self._commit(id, missing), self._seconds)
        self._placed.update((topic, group) for topic in topics)

    async def _progress(self, group: str, places: Iterable[Place]) -> dict[Place, Progress]:
        """Where the group is; without the partitions in which it is nowhere yet."""
        asked = [TopicPartition(*place) for place in places]
        found = await self._use(group, lambda consumer: consumer.committed(asked, self._seconds)) if asked else []
        self._check(group, found)
        known = [each for each in found if each.offset >= 0]
        return {(each.topic, each.partition): read_progress(each.offset, each.metadata) for each in known}

    async def _commit(self, group: str, offsets: list[TopicPartition]) -> None:
        """For a group that has no members."""
        found = await self._use(group, lambda consumer: consumer.commit(offsets=offsets, asynchronous=False))
        self._check(group, found)

    def _times(self, consumer: Consumer, spots: list[Spot]) -> dict[Spot, int]:
        """Of each partition one after the other."""
        times: dict[Spot, int] = {}
        deadline = time.monotonic() + self._seconds
        while spots:
            now = dict(spots)
            spots = [(place, offset) for place, offset in spots if now[place] != offset]
            consumer.assign([TopicPartition(*place, offset) for place, offset in now.items()])
            while now:
                if time.monotonic() > deadline:  # no answer must not look like an empty queue
                    raise TransportUnavailable(f"partition {min(now)} did not show its oldest message in time")
                message = consumer.poll(POLL_SECONDS)
                error = None if message is None else message.error()
                if message is None or (error is not None and error.code() != KafkaError._PARTITION_EOF):
                    continue
                place = (message.topic() or "", message.partition() or 0)
                if (offset := now.pop(place, None)) is not None and error is None:
                    times[place, offset] = message.timestamp()[1] * 1_000
        return times

    async def _use(self, group: str, function: Callable[[Consumer], Result], ends: bool = False) -> Result:
        """Call the function on a thread, with a consumer of the group; one for each question: there are few. `ends`:
        it is told the ends of partitions.
        """

        def use() -> Result:
            consumer = Consumer({**self._clients.reader(group), "enable.partition.eof": ends}, logger=Lines())
            try:
                return function(consumer)
            finally:
                consumer.poll(0)  # log lines are told there
                consumer.close()

        try:
            return await asyncio.to_thread(use)
        except KafkaException as problem:
            raise self._translated(error_of(problem), group) from problem

    def _check(self, group: str, found: Sequence[TopicPartition]) -> None:
        for each in found:
            if each.error is not None:
                raise self._translated(each.error, group) from KafkaException(each.error)

    def _translated(self, error: KafkaError, group: str) -> EdowError:
        return translate(error, f"{self._address}: asking where group {group!r} is")

    async def _answer(self, future: Future[Result], doing: str) -> Result:
        """What the broker answered."""
        try:
            return await asyncio.wrap_future(future)
        except KafkaException as problem:
            raise translate(error_of(problem), f"{self._address}: {doing}") from problem
