"""The parts of the Kafka driver that need no broker: what is known of a partition, reports of a batch, log lines."""

from __future__ import annotations

import asyncio
import logging

import pytest
from confluent_kafka import KafkaError, KafkaException
from hypothesis import given
from hypothesis import strategies as st

from edow.address import Address
from edow.errors import InvalidInput, PublishFailed
from edow.transport.kafka.partition import KafkaDelivery, Partition, Progress, fair, read_progress, told
from edow.transport.kafka.problems import Lines
from edow.transport.kafka.publisher import Publisher, Record
from edow.transport.kafka.settings import Clients

PLACE = ("topic", 0)


def partition(start: Progress | None = None, *, gated: bool = True) -> Partition:
    return Partition("topic", PLACE, start or Progress(0), gated=gated)


def fetched(count: int, *, keys: str = "", gated: bool = True) -> tuple[Partition, list[KafkaDelivery]]:
    """A partition of so many messages, and those of them that were handed out."""
    made = partition(gated=gated)
    for offset in range(count):
        made.add(offset, keys[offset] if keys else None, b"%d" % offset)
    return made, made.take(count)


def offsets(deliveries: list[KafkaDelivery]) -> list[int]:
    return [each.offset for each in deliveries]


# how far a group is


def test_the_offset_stays_at_the_first_message_that_is_not_done():
    """However much behind it is done."""
    made, got = fetched(10)
    for index in (1, 2, 5):
        made.done(got[index])
    assert made.progress().offset == 0
    made.done(got[0])
    assert made.progress().offset == 3


def test_what_is_done_beyond_the_offset_is_told_and_left_out():
    """The next owner fetches all, and hands out only what is not done."""
    made, got = fetched(10)
    for index in (1, 2, 5, 9):
        made.done(got[index])
    progress = made.progress()
    after = partition(read_progress(progress.offset, told(progress)))
    for each in range(progress.offset, 12):
        after.add(each, None, b"")
    assert offsets(after.take(100)) == [0, 3, 4, 6, 7, 8, 10, 11]


@given(st.lists(st.tuples(st.integers(1, 12), st.sets(st.integers(0, 11)), st.booleans()), max_size=8))
def test_nothing_is_passed_over_and_nothing_done_comes_again(rounds: list[tuple[int, set[int], bool]]):
    """However often a partition changes hands, fetched to whatever extent: what was acknowledged is done, the rest is
    not.
    """
    done: set[int] = set()
    start = Progress(0)
    for count, acknowledged, _ in rounds:
        owner = partition(start)
        for offset in range(start.offset, start.offset + count):
            owner.add(offset, None, b"")
        got = owner.take(100)
        assert not done & set(offsets(got))
        for index in acknowledged:
            if index < len(got):
                owner.done(got[index])
                done.add(got[index].offset)
        progress = owner.progress()
        start = read_progress(progress.offset, told(progress))
        assert start == progress
        assert all(start.is_done(offset) == (offset in done) for offset in range(200))


def test_a_commit_names_only_so_many_messages():
    """Metadata has a limit; what does not fit into it is at worst done once more."""
    made, got = fetched(4_000)
    for each in got[1::2]:
        made.done(each)
    progress = made.progress()
    metadata = told(progress)
    assert len(metadata) < 4_096
    known = read_progress(progress.offset, metadata)
    assert 500 < sum(known.is_done(each.offset) for each in got) <= 2_000
    assert not any(known.is_done(each.offset) for each in got[0::2])


@pytest.mark.parametrize("metadata", ["", "theirs", '{"a":1}', "[1,-5,[]]", "[1,5,[-3]]", '[1,5,["x"]]', "[1]"])
def test_metadata_of_others_means_nothing(metadata: str):
    """Everything from the offset on is not done."""
    assert read_progress(7, metadata) == Progress(7)


# who may have what


def test_of_a_key_one_message_is_out_at_a_time():
    """The next is ready when the one before is done; other keys do not wait."""
    made, got = fetched(6, keys="aababb")
    assert offsets(got) == [0, 2]
    made.done(got[0])
    (second,) = made.take(10)
    assert second.offset == 1
    made.done(got[1])
    assert offsets(made.take(10)) == [4]


def test_a_message_that_comes_again_keeps_its_key_waiting():
    """And the delivery handed out before means nothing any more."""
    made, (first,) = fetched(3, keys="aaa")
    again = made.give_back(first)
    assert again is not None
    assert not made.holds(first)
    assert made.holds(again)
    assert made.take(10) == []
    made.ready.append(again)
    made.take(1)
    made.done(again)
    assert offsets(made.take(10)) == [1]


def test_without_a_gate_only_what_was_handed_back_is_waited_for():
    """Several of a key may be out at once; those handed back come in order, and later ones behind them."""
    made, got = fetched(4, keys="aaab", gated=False)
    assert offsets(got) == [0, 1, 2, 3]
    first = made.give_back(got[0])
    assert made.give_back(got[2]) is None
    assert made.give_back(got[1]) is None
    made.add(4, "a", b"")
    made.add(5, "b", b"")
    assert offsets(made.take(10)) == [5]
    assert first is not None
    made.in_flight += 1
    order = []
    waiting = [first]
    while waiting:
        order.append(waiting[0].offset)
        made.done(waiting[0])
        waiting = made.take(10)
    assert order == [0, 1, 2, 4]


def test_what_was_fetched_already_waits_behind_what_was_handed_back():
    """Also without a gate, and in order; other keys go on."""
    made = partition(gated=False)
    for offset, key in enumerate("aabab"):
        made.add(offset, key, b"")
    again = made.give_back(*made.take(1))
    assert again is not None
    assert offsets(made.take(10)) == [2, 4]
    made.ready.append(again)
    order = []
    while got := made.take(10):
        order += offsets(got)
        made.done(*got)
    assert order == [0, 1, 3]


def test_each_partition_gets_its_turn():
    """A limit is shared among those that have something ready."""
    many = [Partition("t", ("t", number), Progress(0), gated=True) for number in range(3)]
    for number, each in enumerate(many):
        for offset in range(10 * number + 2):
            each.add(offset, None, b"")
    taken = fair(many, 12)
    assert [sum(each.partition is one for each in taken) for one in many] == [2, 5, 5]


# publishing


class FakeProducer:
    """Reports what it is told to, at the next poll."""

    def __init__(self, error: KafkaError | None = None, room: int = 1_000) -> None:
        self.error = error
        self.room = room
        self.purged = False
        self._queue = []

    def produce(self, topic, value, key, partition, report, _, timestamp):
        if len(self._queue) >= self.room:
            raise BufferError
        self._queue.append(report)

    def poll(self, seconds):
        queue, self._queue = self._queue, []
        for report in queue:
            report(self.error, None)

    def purge(self):
        self.purged = True

    def __len__(self):
        return len(self._queue)


async def publish(publisher: Publisher, count: int) -> None:
    publishing = asyncio.create_task(publisher.publish([Record("t", b"", None, 0)] * count, 1))
    while not publishing.done():
        publisher.poll(0)
        await asyncio.sleep(0)
    await publishing


async def test_a_fatal_error_replaces_the_producer():
    """What was published with the old one has failed, for the reason that was fatal; the next batch goes through."""
    made = []

    def make(on_error):
        made.append((FakeProducer(), on_error))
        return made[-1][0]

    publisher = Publisher(make, "kafka://here", lambda topic: None)
    first, on_error = made[0]
    first.error = KafkaError(KafkaError._FATAL)
    on_error(KafkaError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "out of order", fatal=True))
    with pytest.raises(PublishFailed, match="out of order") as caught:
        await publish(publisher, 3)
    assert caught.value.indexes == (0, 1, 2)
    assert first.purged
    await publish(publisher, 3)
    assert len(made) == 2


async def test_a_full_queue_is_waited_for():
    """More messages than librdkafka's queue has room for are published all the same, in order."""
    publisher = Publisher(lambda on_error: FakeProducer(room=10), "kafka://here", lambda topic: None)
    await publish(publisher, 35)


async def test_what_the_client_refuses_at_once_is_named():
    """A message that librdkafka does not even queue fails like one that the broker does not take."""

    class Refusing(FakeProducer):
        def produce(self, topic, value, key, partition, report, _, timestamp):
            if len(self) == 1:
                raise KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE, "size"))
            super().produce(topic, value, key, partition, report, _, timestamp)

    publisher = Publisher(lambda on_error: Refusing(), "kafka://here", lambda topic: None)
    with pytest.raises(InvalidInput, match="size"):
        await publish(publisher, 2)


async def test_brokers_that_do_not_let_us_in_refuse_no_message():
    """A password that was changed, say: the messages are as good as they were, and are published when it is right."""
    error = KafkaError(KafkaError.SASL_AUTHENTICATION_FAILED, "denied")
    publisher = Publisher(lambda on_error: FakeProducer(error), "kafka://here", lambda topic: None)
    with pytest.raises(PublishFailed, match=r"check user and password") as caught:
        await publish(publisher, 2)
    assert caught.value.indexes == (0, 1)


# log lines


def test_a_line_is_said_once_in_a_while(caplog: pytest.LogCaptureFixture):
    """Whatever its time stamps say; and no louder than a warning, for clients recover by themselves."""
    lines = Lines()
    with caplog.at_level(logging.DEBUG, "edow.kafka"):
        for milliseconds in range(5):
            lines.log(logging.ERROR, "%s [%s] %s", "FAIL", "client", f"refused (after {milliseconds}ms)")
        lines.log(logging.ERROR, "%s [%s] %s", "FAIL", "client", "something else")
        lines.log(logging.WARNING, "%s [%s] %s", "CONFWARN", "client", "a property for consumers")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "FAIL: refused (after 0ms)"),
        ("WARNING", "FAIL: something else"),
    ]


# settings


@pytest.mark.parametrize(("timeout", "milliseconds"), [(10, 10_000), (0.5, 2_000), (600, 60_000)])
def test_no_connection_is_waited_for_longer_than_for_an_answer(timeout: float, milliseconds: int):
    """One that was cut without a word would else be kept for a minute; librdkafka's bounds are heeded."""
    clients = Clients(Address(f"kafka://here?timeout={timeout}"))
    for config in (clients.admin, clients.producer, clients.reader("g"), clients.member("g")):
        assert config["socket.timeout.ms"] == config["socket.connection.setup.timeout.ms"] == milliseconds


def test_an_option_in_the_url_goes_before_ours():
    """It is librdkafka's own, and may be anything that it takes."""
    clients = Clients(Address("kafka://here?socket.timeout.ms=4000"))
    assert clients.admin["socket.timeout.ms"] == "4000"
