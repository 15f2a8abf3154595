"""The parts of the RabbitMQ driver that need no server: what is in whose hands, names, the URL."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock

import pytest
from aiormq.abc import AbstractChannel, ChannelFrame, DeliveredMessage
from aiormq.exceptions import AMQPConnectionError, AuthenticationError, ChannelNotFoundEntity
from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp.commands import Basic
from pamqp.common import FieldTable
from pamqp.header import ContentHeader

from edow.address import Address
from edow.errors import InvalidInput, TransportUnavailable
from edow.transport.contract import TopicSpec
from edow.transport.rabbitmq.lane import Lane, RabbitDelivery
from edow.transport.rabbitmq.link import Link
from edow.transport.rabbitmq.names import LONGEST_NAME, Names
from edow.transport.rabbitmq.options import Options, read
from edow.transport.rabbitmq.topology import Topology

SHORT = st.text(max_size=8)  # a character takes up to twelve bytes of a name
NO_CHANNEL = cast(AbstractChannel, None)


def lane(keys: str = "", *, count: int = 0, partition: bool = False) -> Lane:
    """A queue that has delivered one message for each letter, its key; a dot is none. Tags count from 1."""
    made = Lane("topic", "queue", partition=partition, counts=True)
    made.wake = made.lost = lambda: None
    made.window = 2
    for tag, key in enumerate(keys, 1):
        headers: FieldTable = {"x-delivery-count": count} | ({} if key == "." else {"edow-key": key})
        header = ContentHeader(properties=Basic.Properties(headers=headers))
        made.deliver(DeliveredMessage(Basic.Deliver("0", tag), header, b"", NO_CHANNEL))
    return made


def tags(deliveries: list[RabbitDelivery]) -> list[int]:
    return [each.tag for each in deliveries]


def sent(lane: Lane) -> list[tuple[int | None, bool | None]]:
    """What the server is to be told: acknowledgements, each with whether it is for all before it as well."""
    return [(each.delivery_tag, each.multiple) for each in lane.outbox if isinstance(each, Basic.Ack)]


def test_of_a_key_only_the_first_is_handed_out() -> None:
    """Its followers come one by one, each when the one before was acknowledged; other keys do not wait."""
    made = lane("aab.a")
    first = made.take(9)
    assert tags(first) == [1, 3, 4]
    made.ack(first[1:])
    assert made.take(9) == []
    made.ack(first[:1])
    second = made.take(9)
    assert tags(second) == [2]
    made.ack(second)
    assert tags(made.take(9)) == [5]


def test_a_message_that_is_handed_out_again_stays_before_its_followers() -> None:
    """And what was handed out before means nothing any more, but that it counts."""
    made = lane("aa")
    (first,) = made.take(9)
    made.again(first)
    (again,) = made.take(9)
    assert (again.tag, again.count, first.lane) == (1, 2, None)
    made.ack([again])
    assert tags(made.take(9)) == [2]


def test_all_from_the_first_on_are_acknowledged_as_one() -> None:
    """The others one by one, so that nothing is acknowledged that was not."""
    made = lane(".....")
    held = made.take(5)
    made.ack([held[2], held[1], held[0], held[4]])
    assert sent(made) == [(3, True), (5, False)]
    made.ack([held[3]])
    assert sent(made)[2:] == [(4, True)]
    assert made.is_empty


async def test_what_is_told_later_is_written_later() -> None:
    """Also when the connection had no room for the former: an acknowledgement of all before it must not overtake a
    message that was given back.
    """
    queue = asyncio.Queue[object](1)
    queue.put_nowait("another's")
    channel = SimpleNamespace(number=1, is_closed=False, connection=SimpleNamespace(write_queue=queue))
    made = lane("...")
    made.channel = cast(AbstractChannel, channel)
    held = made.take(3)
    made.give_back(held[:1])
    waiting = asyncio.create_task(made.flush())
    await asyncio.sleep(0)
    queue.get_nowait()
    made.ack(held[1:])
    await made.flush()
    await waiting
    written = cast(ChannelFrame, queue.get_nowait())
    frames = [Basic.Nack(1, requeue=True), Basic.Ack(3, multiple=True)]
    assert written.payload == ChannelFrame.marshall(1, frames).payload


@settings(deadline=None)
@given(st.permutations(range(6)), st.lists(st.integers(1, 3), min_size=6, max_size=6))
def test_what_is_acknowledged_is_what_was_asked(order: list[int], sizes: list[int]) -> None:
    """In whatever order and batches, the server's view is ours."""
    made = lane("......")
    held, open_tags = made.take(6), {1, 2, 3, 4, 5, 6}
    for size in sizes:
        batch, order = order[:size], order[size:]
        if batch:
            made.ack([held[index] for index in batch])
        for tag, multiple in sent(made):
            open_tags -= {each for each in open_tags if each == tag or (multiple and each < (tag or 0))}
        assert open_tags == {index + 1 for index in order}


def test_moving_does_not_count_as_a_delivery_of_a_partition() -> None:
    """A partition brings what was never handed out, as many as a member holds of it at most."""
    assert [each.count for each in lane(".", count=3).take(1)] == [4]
    assert [each.count for each in lane("a", count=3, partition=True).take(1)] == [2]
    assert [each.count for each in lane("a", count=1, partition=True).take(1)] == [1]


def test_a_lane_that_is_to_move_hands_out_nothing() -> None:
    """Until it is decided that it stays."""
    made = lane("ab")
    made.leaving = True
    assert made.take(9) == []
    assert made.is_waiting
    made.leaving = False
    assert tags(made.take(9)) == [1, 2]
    assert not made.is_waiting


def test_a_key_keeps_its_partition() -> None:
    """These are where messages wait on servers today: another answer would put a key's next message elsewhere."""
    names = Names(Options())
    assert [names.routing_key("t", key) for key in ("a", "order-1", "ключ", "")] == ["k3", "k7", "k2", "k0"]
    assert names.routing_key("t", None) == ""
    assert names.routing_key("edow.results.3", "a") == ""


@settings(deadline=None)
@given(SHORT, SHORT, SHORT, SHORT)
def test_different_names_have_different_queues(topic: str, group: str, other: str, another: str) -> None:
    """Whatever characters are in them, and as bytes that the protocol takes."""
    names = Names(Options())
    topic, other, group, another = f"t{topic}", f"t{other}", f"g{group}", f"g{another}"
    queue = names.queue(topic, group)
    assert len(queue.encode()) <= LONGEST_NAME
    assert (queue == names.queue(other, another)) == ((topic, group) == (other, another))


def test_the_url_says_where_and_as_whom() -> None:
    """Ports, several hosts, a virtual host with a slash, and a password of any characters."""
    server = read(Address("amqps://me:a%2Fb@one,[::1]:99/v%2Fh?heartbeat=3"))
    one, two = server.urls("testing")
    assert [(each.host, each.port) for each in (one, two)] == [("one", 5671), ("::1", 99)]
    assert (one.user, one.password, one.path, one.query["heartbeat"]) == ("me", "a/b", "/v%2Fh", "3")
    assert server.vhost == "v/h"


@pytest.mark.parametrize("option", ["cafile=x", "certfile=x", "keyfile=x"])
def test_files_for_tls_need_tls(option: str) -> None:
    """A certificate that would not be used is refused."""
    with pytest.raises(InvalidInput, match="needs amqps"):
        read(Address(f"amqp://host?{option}"))


@pytest.mark.parametrize(
    "reason", ["TLSV13_ALERT_CERTIFICATE_REQUIRED", "TLSV1_ALERT_UNKNOWN_CA", "WRONG_VERSION_NUMBER"]
)
def test_what_a_server_says_against_our_certificate(reason: str) -> None:
    """It is no outage, wherever the client library has wrapped it; other trouble of TLS may be one."""
    said, wrapped = ssl.SSLError(1, reason), AMQPConnectionError("communication error")
    said.reason, wrapped.__cause__ = reason, said
    told = Link(read(Address("amqps://host/")), "reading")._told(wrapped)
    assert isinstance(told, InvalidInput if "ALERT" in reason else TransportUnavailable)
    assert reason in str(told) or "ALERT" not in reason


def test_an_error_among_its_own_causes_is_told() -> None:
    """The client library raises what a closed connection has kept, again and again."""
    reset, wrapped = ConnectionResetError("reset"), AMQPConnectionError("communication error")
    wrapped.__cause__, reset.__context__ = reset, wrapped
    assert isinstance(Link(read(Address("amqps://host/")), "reading")._told(wrapped), TransportUnavailable)


async def test_a_server_that_let_us_in_once_is_away_when_it_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """A password that was changed, a certificate that has expired: no fault of the message that is being published."""
    link = Link(read(Address("amqp://us:secret@here")), "publishing")
    connection = SimpleNamespace(is_opened=True)
    answers: list[BaseException | None] = [AuthenticationError(), None, AuthenticationError()]

    async def connect_to(*_: object) -> None:
        if (problem := answers.pop(0)) is not None:
            raise problem
        link._connection = cast(Any, connection)

    monkeypatch.setattr(link, "_connect_to", connect_to)
    with pytest.raises(InvalidInput, match="does not let us in"):
        await link.get()
    await link.get()
    connection.is_opened = False
    monkeypatch.setattr(link, "_end", AsyncMock())
    with pytest.raises(TransportUnavailable, match="does not let us in"):
        await link.get()


class FakeTopology(Topology):
    """Makes topics in memory, but for one that cannot be made."""

    def __init__(self) -> None:
        super().__init__(cast(Link, None), Names(Options()))
        self.made: list[str] = []
        self.broken = ""

    async def _make(self, specs: Iterable[TopicSpec]) -> None:
        for spec in specs:
            if spec.name == self.broken:
                raise InvalidInput("made before with other settings")
            self.made.append(spec.name)


async def test_a_topic_that_cannot_be_made_again_keeps_no_other_from_it() -> None:
    """What is said of it is said to those who publish there."""
    topology = FakeTopology()
    await topology.ensure([TopicSpec("one", ("workers",)), TopicSpec("two", ("workers",))])
    topology.broken = "one"
    topology.doubt(deleted=False)
    await topology.look_for(["two"])
    assert topology.made == ["one", "two", "two"]
    with pytest.raises(InvalidInput, match="other settings"):
        await topology.ensure([TopicSpec("one", ("workers",))])


async def test_whoever_has_little_patience_makes_again_what_was_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that the server is given to tell of it counts from when it was found, and once."""
    monkeypatch.setattr("edow.transport.rabbitmq.topology.SETTLE_SECONDS", 0.2)
    topology = FakeTopology()
    await topology.ensure([TopicSpec("one", ("workers",))])
    topology.doubt(deleted=True)
    async with asyncio.timeout(10):
        while len(topology.made) == 1:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await topology.look_for(["one"])
    assert topology.made == ["one", "one"]


async def test_a_topic_that_is_deleted_while_it_is_made_is_tried_again() -> None:
    """By whoever needs it, as when a server is away: no message is refused for it."""
    channel = AsyncMock(queue_bind=AsyncMock(side_effect=[ChannelNotFoundEntity("no queue"), None]))
    link = Link(read(Address("amqp://here")), "publishing")
    link.channel = AsyncMock(return_value=channel)  # type: ignore[method-assign]
    topology = Topology(link, Names(Options(partitions=0)))
    spec = TopicSpec("one", ("workers",))
    with pytest.raises(TransportUnavailable, match="deleted while it is made"):
        await topology.ensure([spec])
    await topology.ensure([spec])
    assert topology.knows("one")
