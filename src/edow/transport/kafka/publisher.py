"""Publishing: every message goes to librdkafka's queue at once, and all their reports are awaited together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence, Set
from functools import partial
from itertools import count
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from edow.errors import EdowError, InvalidInput, PublishFailed
from edow.transport.kafka.problems import NotLetIn, error_of, log, translate

LOOK_SECONDS = 2.0  # for a topic that was gone
ROOM_SECONDS = 0.01  # between two looks whether the queue has room again

# Errors of messages to a topic that was deleted, too; librdkafka mostly waits for it until the time is over.
GONE = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError._MSG_TIMED_OUT,
    }
)

Report = Callable[[KafkaError | None, Message], None]
Make = Callable[[Callable[[KafkaError], None]], Producer]


class Record(NamedTuple):
    """A message as Kafka takes it. `partition` -1: by its key."""

    topic: str
    value: bytes
    key: bytes | None
    partition: int


class Publisher:
    """A producer that is replaced when it has come to a fatal error.

    `make` is given what takes the producer's errors. `on_gone` is told of topics that may be no more.
    """

    def __init__(self, make: Make, address: str, on_gone: Callable[[str], None]) -> None:
        self._make = make
        self._address = address
        self._on_gone = on_gone
        self._fatal: KafkaError | None = None
        self._producer = make(self._on_error)
        self._replaced: list[Producer] = []  # still to tell what became of their messages
        self._missed: set[str] = set()  # topics that may be gone, or were
        self._turns: dict[str, count[int]] = {}

    def poll(self, seconds: float) -> None:
        """Reports, errors and log lines are delivered here. On a thread of its own."""
        self._producer.poll(seconds)
        for producer in list(self._replaced):
            producer.poll(0)
            if len(producer) == 0:
                self._replaced.remove(producer)

    def turn(self, topic: str) -> int:
        """Messages without a key go to the partitions in turn: as evenly as can be, also when they are few."""
        return next(self._turns.setdefault(topic, count()))

    async def publish(self, records: Sequence[Record], timestamp: int) -> None:
        """`timestamp` in milliseconds. Raises PublishFailed, or InvalidInput for what will never be taken."""
        await self._look_again({record.topic for record in records})
        reports = Reports(asyncio.get_running_loop())
        queued = 0
        for index, record in enumerate(records):
            try:
                while not self._queue(record, partial(reports.report, index), timestamp):  # noqa: ASYNC110
                    await asyncio.sleep(ROOM_SECONDS)  # whatever lies in the queue leaves it; nobody tells when
                queued += 1
            except KafkaException as problem:
                reports.failed[index] = error_of(problem)
        try:
            await reports.wait(queued)
        except asyncio.CancelledError:  # nobody knows what it waited for
            self._gone(records)
            raise
        if reports.failed:
            raise self._failure(records, reports.failed)

    async def close(self, seconds: float) -> None:
        """What is under way gets this long; what is left then has failed."""
        producer = self._producer
        if await asyncio.to_thread(producer.flush, seconds):
            producer.purge()
            await asyncio.to_thread(producer.flush, 1.0)

    def _queue(self, record: Record, report: Report, timestamp: int) -> bool:
        """False: the queue is full."""
        try:
            self._producer.produce(*record, report, None, timestamp)
        except BufferError:
            return False
        return True

    def _failure(self, records: Sequence[Record], failed: Mapping[int, KafkaError]) -> EdowError:
        """What will never be taken comes first: it comes back however often the batch is published again."""
        self._gone([records[index] for index, error in failed.items() if error.code() in GONE])
        fatal = self._fatal
        if fatal is not None:
            self._replace(fatal)
        text = f"{self._address}: publishing to topic"
        told = [translate(fatal or error, f"{text} {records[index].topic!r}") for index, error in failed.items()]
        final = [each for each in told if isinstance(each, InvalidInput) and not isinstance(each, NotLetIn)]
        if final:
            return final[0]
        return PublishFailed(
            f"{told[0]}; {len(failed)} of {len(records)} messages are not known to be with the brokers",
            tuple(sorted(failed)),
        )

    def _gone(self, records: Sequence[Record]) -> None:
        for topic in {record.topic for record in records}:
            self._missed.add(topic)
            self._on_gone(topic)

    async def _look_again(self, topics: Set[str]) -> None:
        """librdkafka takes its time until it looks whether a topic that was gone is there again."""
        for topic in topics & self._missed:
            self._missed.discard(topic)
            try:
                await asyncio.to_thread(self._producer.list_topics, topic, LOOK_SECONDS)
            except KafkaException as problem:
                log.info("%s: topic %r could not be looked for: %s", self._address, topic, problem)

    def _on_error(self, error: KafkaError) -> None:
        """Called while polling. All that is published from then on fails."""
        if error.fatal():
            self._fatal = error

    def _replace(self, fatal: KafkaError) -> None:
        log.warning("%s: the producer starts anew after a fatal error: %s", self._address, fatal.str())
        self._producer.purge()
        self._replaced.append(self._producer)
        self._fatal = None
        self._producer = self._make(self._on_error)


class Reports:
    """How many messages of a batch have been reported on, and which have failed."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.failed: dict[int, KafkaError] = {}
        self._loop = loop
        self._done = loop.create_future()
        self._reported = 0
        self._expected = -1

    def report(self, index: int, error: KafkaError | None, message: Message) -> None:
        """Called on the polling thread, and there alone."""
        if error is not None:
            self.failed[index] = error
        self._reported += 1
        if self._reported == self._expected:
            try:
                self._loop.call_soon_threadsafe(self._finish)
            except RuntimeError:
                pass  # the loop has ended, and nobody waits any more

    async def wait(self, expected: int) -> None:
        self._expected = expected  # from here on either side sees the end, and both may
        if self._reported == expected:
            self._finish()
        await self._done

    def _finish(self) -> None:
        if not self._done.done():
            self._done.set_result(None)
