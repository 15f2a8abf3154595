"""One consumer and what it has brought: its partitions.

All calls of librdkafka are made on a thread of its own, which nothing that happens on the event loop can keep from
polling for long; all that is known is kept on the event loop, which is asked before each poll. A loop that does not
answer is not polled for: its member is then taken for dead, and others get its partitions. A heartbeat that goes on
while no work is done would be worse.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import NamedTuple, Protocol, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from edow.transport.kafka.cluster import Cluster
from edow.transport.kafka.partition import Partition, Place, Progress, read_progress, told
from edow.transport.kafka.problems import Lines, error_of, log
from edow.transport.kafka.settings import Config

Result = TypeVar("Result")

POLL_SECONDS = 0.1
BATCH = 1_000  # messages taken over at once
HELD_BYTES = 128 * 1024 * 1024  # of bodies, before nothing more is fetched
FULL_SECONDS = 0.5  # without room before fetching is paused: that throws away what librdkafka has fetched already
COMMIT_SECONDS = 0.2  # between two commits
REFRESH_SECONDS = 3_600.0  # between two of the same: brokers forget what a group without members has not said for days
LOOK_SECONDS = 5.0  # between two looks whether a topic is another one
COMMITTED_SECONDS = 5.0  # for the broker to tell how far a group is
AGAIN_SECONDS = 1.0  # before a consumer that has failed for good is replaced
CLOSE_SECONDS = 10.0  # after this a closing consumer is left to itself
ANSWER_SECONDS = 1.0  # between two looks whether the event loop has ended


class Plan(NamedTuple):
    """What to read, how. `shared`: a topic whose partitions are shared with other members; None: the partitions in
    `starts` are read by nobody else.
    """

    config: Config
    group: str  # whose commits tell how far it is
    topics: Mapping[str, str]  # EDOW's names by Kafka's
    starts: Mapping[Place, Progress]  # where to begin, unless the group has committed something else
    shared: str | None
    tracked: bool  # as in Partition
    handover: float
    window: int
    cluster: Cluster


class Hub(Protocol):
    """The subscriber."""

    def room(self) -> int:
        """How many messages it would like to have."""

    def wake(self) -> None:
        """There is something new to look at."""

    def troubled(self, error: KafkaError) -> None:
        """A consumer reports an error."""


class Reader:
    """Polls from the start on. `close` and `wake` are called on the event loop."""

    def __init__(self, plan: Plan, hub: Hub) -> None:
        self.partitions: dict[Place, Partition] = {}
        self.settled = False  # it has had partitions
        self.held_up = False  # no room for long: all partitions are paused
        self.plan = plan
        self._hub = hub
        self._loop = asyncio.get_running_loop()
        self._ids = {name: plan.cluster.ids[name] for name in plan.topics}
        self._closing = threading.Event()
        self._news = threading.Event()  # what was asked for may have changed
        self._ended = asyncio.Event()
        self._paused: frozenset[Place] = frozenset()
        self._looked_at = time.monotonic()
        self._committed_at = 0.0
        self._refreshed_at = time.monotonic()
        if plan.shared is None:
            self.partitions = {place: self._partition(place, start) for place, start in plan.starts.items()}
        threading.Thread(target=self._run, name=f"edow-kafka-{plan.group}", daemon=True).start()

    def wake(self) -> None:
        """Something has changed that the thread should look at."""
        self._news.set()

    async def close(self) -> None:
        """Commit, leave the group, end the thread."""
        self._closing.set()
        self._news.set()
        try:
            await asyncio.wait_for(self._ended.wait(), CLOSE_SECONDS)
        except TimeoutError:
            log.warning("a consumer of group %s does not end: it is left to itself", self.plan.group)

    # -- on the event loop, asked by the thread --

    def _arrived(self, messages: Sequence[Message]) -> tuple[int, frozenset[Place], list[TopicPartition]]:
        """How many more, which partitions have enough for now, and what to commit."""
        for message in messages:
            place, offset = (message.topic() or "", message.partition() or 0), message.offset() or 0
            if place not in self.partitions:
                continue  # it went to another member meanwhile
            if offset < self.partitions[place].next:
                log.warning("topic %s [%d] ended before our place in it: it is read again from %d on", *place, offset)
                self._anew([place], offset)
            key = message.key()
            text = None if key is None else key.decode("utf-8", "surrogateescape")
            self.partitions[place].add(offset, text, message.value() or b"")
        if messages:
            self._hub.wake()
        held = sum(partition.bytes for partition in self.partitions.values())
        return self._hub.room() if held < HELD_BYTES else 0, self._full(), self._due()

    def _full(self) -> frozenset[Place]:
        """Partitions that are far ahead of their first message that is not done; until they are less so."""
        window = self.plan.window
        for partition in self.partitions.values():
            span = partition.span
            partition.full = span >= window or (partition.full and 4 * span >= 3 * window)
        return frozenset(place for place, partition in self.partitions.items() if partition.full)

    def _due(self) -> list[TopicPartition]:
        now = time.monotonic()
        if not self.plan.tracked or now - self._committed_at < COMMIT_SECONDS:
            return []
        self._committed_at = now
        if now - self._refreshed_at > REFRESH_SECONDS:
            self._refreshed_at = now
            self._uncommitted()
        return _commits(self.partitions.values())

    def _uncommitted(self) -> None:
        for partition in self.partitions.values():
            partition.changed = True

    def _assigned(self, committed: Sequence[TopicPartition]) -> list[TopicPartition]:
        """These are ours, with what the group has committed; where to begin."""
        for each in committed:
            place = (each.topic, each.partition)
            known = each.offset >= 0 and each.error is None
            start = read_progress(each.offset, each.metadata) if known else self.plan.starts.get(place, Progress(0))
            self.partitions[place] = partition = self._partition(place, start)
            partition.changed = not known  # what a group with members has committed does not expire
        self.settled = True
        self._hub.wake()
        return self._positions((each.topic, each.partition) for each in committed)

    def _leaving(self, places: Iterable[Place]) -> bool:
        """They go to another member. Whether work on them is not done yet."""
        ours = [self.partitions[place] for place in places if place in self.partitions]
        for partition in ours:
            partition.leaving = True
        return any(partition.in_flight for partition in ours)

    def _revoked(self, places: Iterable[Place]) -> list[TopicPartition]:
        """They are not ours any more; what is to be committed at last."""
        ours = [self.partitions.pop(place) for place in places if place in self.partitions]
        for partition in ours:
            partition.leaving = partition.gone = True
            partition.in_flight = 0
        return _commits(ours) if self.plan.tracked else []

    def _begin_anew(self, name: str) -> list[TopicPartition]:
        """All that is in the topic is new; where to go on."""
        places = [place for place in self.partitions if place[0] == name]
        self._anew(places, 0)
        return self._positions(places)

    def _anew(self, places: Sequence[Place], offset: int) -> None:
        """These are other logs than those that were read: all from there on is new, whatever was committed."""
        self._revoked(places)
        for place in places:
            self.partitions[place] = partition = self._partition(place, Progress(offset))
            partition.changed = True

    def _partition(self, place: Place, start: Progress) -> Partition:
        plan = self.plan
        return Partition(plan.topics[place[0]], place, start, gated=plan.shared is not None, tracked=plan.tracked)

    def _positions(self, places: Iterable[Place]) -> list[TopicPartition]:
        return [TopicPartition(*place, self.partitions[place].next) for place in places]

    # -- on the thread --

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                self._run_one()
            self._tell(self._ended.set)
        except RuntimeError:
            if not self._loop.is_closed():
                raise  # else nobody is there any more who could be told anything

    def _run_one(self) -> None:
        """One consumer, until the end or until it fails for good."""
        try:
            consumer = self._make()
            try:
                self._serve(consumer)
            finally:
                self._leave(consumer)
        except KafkaException as problem:
            log.warning("a consumer starts anew: %s", problem)
            self._on_error(error_of(problem))
        except Exception:
            if self._loop.is_closed():
                raise
            log.exception("a consumer failed in an unexpected way, and starts anew")
        self._closing.wait(AGAIN_SECONDS)

    def _make(self) -> Consumer:
        callbacks = {"on_commit": self._on_commit, "error_cb": self._on_error}
        consumer = Consumer({**self.plan.config, **callbacks}, logger=Lines())
        self._paused, self.held_up = frozenset(), False
        if self.plan.shared is None:
            consumer.assign(self._ask(lambda: self._positions(self.partitions)))
        else:
            hooks = {"on_assign": self._on_assign, "on_revoke": self._on_revoke, "on_lost": self._on_lost}
            consumer.subscribe([self.plan.shared], **hooks)
        return consumer

    def _serve(self, consumer: Consumer) -> None:
        messages: list[Message] = []
        while not self._closing.is_set():
            self._news.clear()  # what is set from here on is newer than the answer
            room, full, commits = self._ask(lambda: self._arrived(messages))  # noqa: B023 - called before it returns
            self._commit(consumer, commits)
            if time.monotonic() - self._looked_at > LOOK_SECONDS:
                self._look(consumer)  # while nothing is on its way that was fetched before
            messages = self._fetch(consumer, room, full)

    def _fetch(self, consumer: Consumer, room: int, full: frozenset[Place]) -> list[Message]:
        if room <= 0 and not self.held_up and self._news.wait(FULL_SECONDS):
            return []
        self.held_up = room <= 0
        self._pause(consumer, _places(consumer.assignment()) if self.held_up else full)
        first = consumer.poll(POLL_SECONDS)
        if first is None:
            return []
        messages = [first, *consumer.consume(min(room, BATCH) - 1, 0)] if room > 1 else [first]
        return [message for message in messages if not self._is_error(message)]

    def _look(self, consumer: Consumer) -> None:
        """Whether a topic is still the one that it was. Nothing else would tell where it has grown beyond our place."""
        self._looked_at = time.monotonic()
        try:
            ids = self.plan.cluster.identify(list(self._ids))
        except KafkaException as problem:
            log.info("topics could not be looked at: %s", problem)
            return
        for name in [name for name, id in ids.items() if id != self._ids[name]]:
            log.warning("topic %s was deleted and made again: it is read from its beginning", name)
            self._ids[name] = ids[name]
            positions = self._ask(lambda: self._begin_anew(name))  # noqa: B023 - called before it returns
            consumer.incremental_unassign(positions)
            consumer.incremental_assign(positions)

    def _pause(self, consumer: Consumer, wanted: frozenset[Place]) -> None:
        if new := wanted - self._paused:
            consumer.pause([TopicPartition(*place) for place in new])
        if old := self._paused - wanted:
            consumer.resume([TopicPartition(*place) for place in old])
        self._paused = wanted

    def _is_error(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return False
        if error.fatal():
            raise KafkaException(error)
        self._on_error(error)
        return True

    def _commit(self, consumer: Consumer, offsets: list[TopicPartition], *, last: bool = False) -> None:
        """A commit that fails is no harm: the next one says the same and more."""
        if not offsets:
            return
        try:
            if last:
                consumer.commit(offsets=offsets, asynchronous=False)
            else:
                consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as problem:
            log.info("how far a group is could not be told the broker yet: %s", problem)
            self._tell(self._uncommitted)

    def _leave(self, consumer: Consumer) -> None:
        """A consumer that is replaced goes on where it was, if its partitions are not shared."""
        try:
            if self.plan.shared is None and self._closing.is_set():
                self._commit(consumer, self._ask(lambda: self._revoked([*self.partitions])), last=True)
            consumer.close()  # revokes what is shared
            if self.plan.shared is not None:
                self._ask(lambda: self._revoked([*self.partitions]))
        except KafkaException as problem:
            log.warning("a consumer could not be closed: %s", problem)

    # -- called by librdkafka on the thread, from within poll, consume and close --

    def _on_assign(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        """Without knowing where to begin there is no beginning: then the consumer fails, and is replaced."""
        if places and not self._closing.is_set():
            committed = consumer.committed(places, COMMITTED_SECONDS)
            places = self._ask(lambda: self._assigned(committed))
        consumer.incremental_assign(places)

    def _on_revoke(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        """What is in hand may end first; what does not in time goes to the next member as well."""
        ours, deadline = _places(places), time.monotonic() + self.plan.handover
        while self._ask(lambda: self._leaving(ours)) and not self._closing.is_set():
            left = deadline - time.monotonic()
            if left <= 0:
                break
            self._news.wait(min(left, POLL_SECONDS))
            self._news.clear()
        self._commit(consumer, self._ask(lambda: self._revoked(ours)), last=True)
        self._pause(consumer, self._paused - ours)  # librdkafka would remember it for when they come back

    def _on_lost(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        log.warning("lost %d partitions: the brokers have not heard from this member in time", len(places))
        self._ask(lambda: self._revoked(_places(places)))
        self._pause(consumer, self._paused - _places(places))

    def _on_commit(self, error: KafkaError | None, places: list[TopicPartition]) -> None:
        if error is not None or any(each.error is not None for each in places):
            self._tell(self._uncommitted)

    def _on_error(self, error: KafkaError) -> None:
        self._tell(lambda: self._hub.troubled(error))

    # -- from the thread to the event loop; RuntimeError if that has ended --

    def _tell(self, function: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(function)

    def _ask(self, function: Callable[[], Result]) -> Result:
        answer: Future[Result] = Future()

        def call() -> None:
            try:
                answer.set_result(function())
            except BaseException as problem:
                answer.set_exception(problem)

        self._tell(call)
        while True:
            try:
                return answer.result(ANSWER_SECONDS)
            except TimeoutError:
                if self._loop.is_closed():
                    raise RuntimeError("the event loop has ended") from None


def _places(partitions: Iterable[TopicPartition]) -> frozenset[Place]:
    return frozenset((each.topic, each.partition) for each in partitions)


def _commits(partitions: Iterable[Partition]) -> list[TopicPartition]:
    commits = []
    for partition in partitions:
        if partition.changed:
            partition.changed = False
            progress = partition.progress()
            commits.append(TopicPartition(*partition.place, progress.offset, told(progress)))
    return commits
