"""A consumer on a thread of its own, which nothing that happens on the event loop can keep from polling for long.

All calls of a librdkafka consumer are made here. What it brings is handed to a `Sink` on the event loop, which answers
with orders. A loop that does not answer any more is not polled for: its member is then taken for dead, and others get
its partitions. A heartbeat that goes on while no work is done would be worse.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from typing import NamedTuple, Protocol, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from edow.transport.kafka.partition import Place
from edow.transport.kafka.problems import Lines, error_of, log
from edow.transport.kafka.settings import Config

Result = TypeVar("Result")

POLL_SECONDS = 0.1
BATCH = 1_000  # messages taken over at once
FULL_SECONDS = 0.5  # without room before fetching is paused: that throws away what librdkafka has fetched already
COMMITTED_SECONDS = 5.0  # for the broker to tell how far a group is
AGAIN_SECONDS = 1.0  # before a consumer that has failed for good is replaced
CLOSE_SECONDS = 10.0  # after this a closing consumer is left to itself
ANSWER_SECONDS = 1.0  # between two looks whether the event loop has ended


class Orders(NamedTuple):
    """`room`: how many messages to fetch; `paused`: partitions that have enough; `flush`: told when the commits are
    with the broker.
    """

    room: int = 0
    paused: frozenset[Place] = frozenset()
    commits: Sequence[TopicPartition] = ()
    flush: asyncio.Future[None] | None = None


class Sink(Protocol):
    """Called on the event loop."""

    def arrived(self, messages: Sequence[Message]) -> Orders: ...

    def positions(self) -> list[TopicPartition]:
        """Where to begin, if partitions are not shared."""

    def assigned(self, places: Sequence[TopicPartition]) -> list[TopicPartition]:
        """These are ours, with the offsets that the group has committed; where to begin."""

    def leaving(self, places: Sequence[TopicPartition]) -> bool:
        """They go to another member. Whether work on them is not done yet."""

    def revoked(self, places: Sequence[TopicPartition] | None) -> Sequence[TopicPartition]:
        """They (None: all) are not ours any more; what is to be committed at last."""

    def uncommitted(self) -> None:
        """A commit has failed."""

    def troubled(self, error: KafkaError) -> None:
        """The consumer reports an error."""


class Plan(NamedTuple):
    """`topic`: its partitions are shared with other members; None: the sink says which to read."""

    config: Config
    topic: str | None = None
    handover: float = 0.0


class LoopEndedError(Exception):
    """Nobody is there any more who could be told anything."""


class Feed:
    """Polls from the start on. `close` and `wake` are called on the event loop."""

    def __init__(self, plan: Plan, sink: Sink, name: str) -> None:
        self._plan = plan
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._closing = threading.Event()
        self._news = threading.Event()  # orders may have changed
        self._ended = self._loop.create_future()
        self._paused: frozenset[Place] = frozenset()
        self._held_up = False  # all are
        threading.Thread(target=self._run, name=f"edow-kafka-{name}", daemon=True).start()

    def wake(self) -> None:
        """Orders may have changed."""
        self._news.set()

    async def close(self) -> None:
        """Commit, leave the group, end the thread."""
        self._closing.set()
        self._news.set()
        await asyncio.wait([self._ended], timeout=CLOSE_SECONDS)

    # -- everything below is on the thread --

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                self._run_one()
            self._tell(lambda: _finish(self._ended))
        except LoopEndedError:
            pass

    def _run_one(self) -> None:
        """One consumer, until the end or until it fails for good."""
        consumer: Consumer | None = None
        try:
            consumer = self._make()
            self._serve(consumer)
        except KafkaException as problem:
            log.warning("a consumer starts anew: %s", problem)
            error = error_of(problem)
            self._tell(lambda: self._sink.troubled(error))
        except LoopEndedError:
            raise
        except Exception:
            log.exception("a consumer failed in an unexpected way, and starts anew")
        finally:
            if consumer is not None:
                self._leave(consumer)
        self._closing.wait(AGAIN_SECONDS)

    def _make(self) -> Consumer:
        callbacks = {"on_commit": self._on_commit, "error_cb": self._on_error}
        consumer = Consumer({**self._plan.config, **callbacks}, logger=Lines())
        self._paused, self._held_up = frozenset(), False
        if self._plan.topic is None:
            consumer.assign(self._ask(self._sink.positions))
        else:
            consumer.subscribe(
                [self._plan.topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )
        return consumer

    def _serve(self, consumer: Consumer) -> None:
        messages: Sequence[Message] = ()
        while not self._closing.is_set():
            orders = self._hand_over(messages)
            if orders.commits or orders.flush is not None:
                self._commit(consumer, orders)
            messages = self._fetch(consumer, orders)

    def _hand_over(self, messages: Sequence[Message]) -> Orders:
        self._news.clear()  # what is set from here on is newer than the orders
        return self._ask(lambda: self._sink.arrived(messages))

    def _fetch(self, consumer: Consumer, orders: Orders) -> Sequence[Message]:
        if orders.room <= 0 and not self._held_up and self._news.wait(FULL_SECONDS):
            return ()
        self._held_up = orders.room <= 0
        self._pause(consumer, _places(consumer.assignment()) if self._held_up else orders.paused)
        first = consumer.poll(POLL_SECONDS)
        if first is None:
            return ()
        more = min(orders.room, BATCH) - 1
        messages = [first, *consumer.consume(more, 0)] if more > 0 else [first]
        return [message for message in messages if not self._is_error(message)]

    def _pause(self, consumer: Consumer, wanted: frozenset[Place]) -> None:
        if wanted == self._paused:
            return
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
        self._tell(lambda: self._sink.troubled(error))
        return True

    def _commit(self, consumer: Consumer, orders: Orders) -> None:
        try:
            self._send(consumer, orders.commits, wait=orders.flush is not None)
        finally:
            if (flush := orders.flush) is not None:
                self._tell(lambda: _finish(flush))

    def _send(self, consumer: Consumer, offsets: Sequence[TopicPartition], *, wait: bool) -> None:
        """A commit that fails is no harm: the next one says the same and more."""
        if not offsets:
            return
        try:
            if wait:
                consumer.commit(offsets=list(offsets), asynchronous=False)
            else:
                consumer.commit(offsets=list(offsets), asynchronous=True)
        except KafkaException as problem:
            log.info("how far a group is could not be told the broker yet: %s", problem)
            self._tell(self._sink.uncommitted)

    def _leave(self, consumer: Consumer) -> None:
        """A consumer that is replaced goes on where it was, if its partitions are not shared."""
        try:
            if self._plan.topic is None and self._closing.is_set():
                self._send(consumer, self._ask(lambda: self._sink.revoked(None)), wait=True)
            consumer.close()  # revokes what is shared
            if self._plan.topic is not None:
                self._ask(lambda: self._sink.revoked(None))
        except (KafkaException, RuntimeError) as problem:
            log.warning("a consumer could not be closed: %s", problem)

    # -- called by librdkafka from within poll, consume and close --

    def _on_assign(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        while places and not self._closing.is_set():
            try:
                committed = consumer.committed(places, COMMITTED_SECONDS)
            except KafkaException as problem:
                error = error_of(problem)
                self._tell(lambda: self._sink.troubled(error))  # noqa: B023 - each tells of its own
                self._closing.wait(AGAIN_SECONDS)
                continue
            places = self._ask(lambda: self._sink.assigned(committed))  # noqa: B023 - called before it returns
            break
        consumer.incremental_assign(places)

    def _on_revoke(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        """What is in hand may end first; what does not in time goes to the next member as well."""
        deadline = time.monotonic() + self._plan.handover
        while self._ask(lambda: self._sink.leaving(places)) and not self._closing.is_set():
            left = deadline - time.monotonic()
            if left <= 0:
                break
            self._news.wait(min(left, POLL_SECONDS))
            self._news.clear()
        self._send(consumer, self._ask(lambda: self._sink.revoked(places)), wait=True)
        self._drop(consumer, places)

    def _on_lost(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        log.warning("lost %d partitions: the brokers have not heard from this member in time", len(places))
        self._ask(lambda: self._sink.revoked(places))
        self._drop(consumer, places)

    def _drop(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        self._paused -= _places(places)
        consumer.incremental_unassign(places)

    def _on_commit(self, error: KafkaError | None, places: list[TopicPartition]) -> None:
        if error is not None or any(each.error is not None for each in places):
            self._tell(self._sink.uncommitted)

    def _on_error(self, error: KafkaError) -> None:
        self._tell(lambda: self._sink.troubled(error))

    # -- to the event loop --

    def _tell(self, function: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError as problem:
            raise LoopEndedError from problem

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
                    raise LoopEndedError from None


def _places(partitions: Collection[TopicPartition]) -> frozenset[Place]:
    return frozenset((each.topic, each.partition) for each in partitions)


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
