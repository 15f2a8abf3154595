"""The NATS JetStream driver against the suite, and what is particular to it. Needs a server: EDOW_NATS.

What needs a server of its own, to stop or to misconfigure, is in test_nats_servers.py.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import nats
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from edow.address import Address
from edow.errors import InvalidInput, PublishFailed, TransportUnavailable
from edow.model.message import Message
from edow.model.topics import result_topic
from edow.transport.contract import Mode, Subscriber, Subscription, TopicSpec, Transport
from edow.transport.nats import NatsTransport, connect, names
from tests.conformance import matrix
from tests.conformance.transport_suite import (
    LEASE,
    QUIET,
    SOON,
    TransportSuite,
    bodies,
    drain,
    drain_from,
    numbered,
    take,
)
from tests.servers import server_url

RESULTS = result_topic(0)
DOZEN = [Message("t", b"%d" % number, f"k{number % 4}") for number in range(12)]


def transport_at(address: str) -> NatsTransport:
    return connect(Address(address), lambda: time.time_ns() // 1000)


async def client_at(address: str) -> Client:
    place = Address(address)
    servers = [f"nats://{host}" for host in place.hosts]
    if place.user is None:
        return await nats.connect(servers=servers)
    return await nats.connect(servers=servers, user=place.user, password=place.password)


@asynccontextmanager
async def opened(address: str) -> AsyncIterator[NatsTransport]:
    transport = transport_at(address)
    await transport.open()
    try:
        yield transport
    finally:
        await transport.close()


async def member(
    transport: Transport, mode: Mode = "shared", topic: str = "t", lease: float = 4.0, group: str = "g"
) -> Subscriber:
    return await transport.subscribe(Subscription(topics=(topic,), group=group, mode=mode, lease_seconds=lease))


@pytest.fixture
async def prefixed() -> AsyncIterator[str]:
    """The shared server, and streams of our own, which are deleted at the end."""
    url, prefix = server_url("EDOW_NATS"), f"t{uuid4().hex[:12]}"
    yield f"{url}{'&' if '?' in url else '?'}prefix={prefix}."
    client = await client_at(url)
    streams = client.jsm()
    for info in await streams.streams_info():
        if info.config.name and info.config.name.startswith(prefix):
            await streams.delete_stream(info.config.name)
    await client.close()


@pytest.fixture
async def transport(prefixed: str) -> AsyncIterator[NatsTransport]:
    """With a topic t that has a group g, and one of results that has, too."""
    async with opened(prefixed) as transport:
        await transport.ensure([TopicSpec("t", ("g",)), TopicSpec(RESULTS, ("g",))])
        yield transport


@pytest.fixture
async def broker(prefixed: str) -> AsyncIterator[JetStreamContext]:
    """The broker as somebody else sees it."""
    client = await client_at(prefixed)
    yield client.jetstream()
    await client.close()


@pytest.fixture
def subject(prefixed: str) -> str:
    """Of topic t."""
    return Address(prefixed).options["prefix"] + "t"


class TestNats(TransportSuite):
    factory = "tests.conformance.test_transport_nats:transport_at"

    @pytest.fixture
    def address(self, prefixed: str) -> str:
        return prefixed


# what is on the broker


async def test_what_every_group_has_acknowledged_leaves_the_disk(
    transport: NatsTransport, broker: JetStreamContext, subject: str
) -> None:
    """The stream keeps a message until the last group is done with it, with a key or without."""
    await transport.ensure([TopicSpec("t", ("late",))])
    await transport.publish([*numbered("t", 5), *numbered("t", 5, "k"), *numbered(RESULTS, 5, "k")])
    streams = [names.stream_of(each) for each in (subject, names.subject_of("", subject[:-1] + RESULTS))]

    async def left() -> list[int]:
        await transport.describe(["t", RESULTS])  # waits until the server has dealt with the acknowledgements
        return [(await broker.stream_info(stream)).state.messages for stream in streams]

    await drain(await member(transport), 10)
    assert await left() == [10, 5]
    await drain(await member(transport, group="late"), 10)
    await drain(await member(transport, "exclusive", RESULTS), 5)
    assert await left() == [0, 0]


async def test_a_group_has_a_consumer_for_each_partition(
    transport: NatsTransport, broker: JetStreamContext, subject: str
) -> None:
    """And one for messages without a key; a topic of results has one for all. `describe` tells the partitions apart."""
    found = await broker.consumers_info(names.stream_of(subject))
    assert {each.name for each in found} == {"g", *(f"g-k{number}" for number in range(16))}
    (alone,) = await broker.consumers_info(names.stream_of(names.subject_of("", subject[:-1] + RESULTS)))
    assert alone.name == "g"
    await transport.publish([*numbered("t", 3), *numbered("t", 7, "hot")])
    (stats,) = await transport.describe(["t"])
    (group,) = stats.groups
    assert (group.waiting + group.in_flight, group.published, len(group.partitions)) == (10, 10, 16)
    assert sorted(each.waiting for each in group.partitions)[-2:] == [0, 7]


async def test_bytes_of_others_are_delivered_as_they_are(
    transport: NatsTransport, broker: JetStreamContext, subject: str
) -> None:
    """Whoever publishes with an ordinary client reaches the topic; nonsense does no harm."""
    subscriber = await member(transport)
    await broker.publish(subject, b"\xff\x00poison", headers={"Edow-Key": "%zz%f0", "X": ""})
    await broker.publish(subject, b"")
    await broker.publish(f"{subject}.@.3", b"in a partition")
    got = await take(subscriber, 3)
    assert sorted(bodies(got)) == [b"", b"in a partition", b"\xff\x00poison"]
    await subscriber.ack(got)
    await transport.publish(numbered("t", 1))
    assert await drain(subscriber, 1) == [b"0"]


async def test_a_stream_of_somebody_else_is_left_alone(
    transport: NatsTransport, broker: JetStreamContext, subject: str
) -> None:
    """A stream in the place of a topic's is an error that names it."""
    theirs = subject.replace(".t", ".theirs")
    await broker.add_stream(name=names.stream_of(theirs), subjects=[theirs])
    with pytest.raises(InvalidInput, match=r"stream .*_theirs.* was not made by EDOW"):
        await transport.ensure([TopicSpec("theirs", ("g",))])
    with pytest.raises(InvalidInput, match="was not made by EDOW"):
        await transport.publish([Message("theirs", b"x")])


@pytest.mark.proves(matrix.DELETED, "NATS JetStream")
async def test_what_somebody_deletes_is_made_again(
    transport: NatsTransport, broker: JetStreamContext, subject: str
) -> None:
    """A listener that has lost its consumer misses nothing; a member whose stream is gone goes on with a new one."""
    await transport.ensure([TopicSpec("news", ())])
    listener, subscriber = await member(transport, "broadcast", "news"), await member(transport)
    await transport.publish(numbered("news", 1))
    assert bodies(await take(listener, 1)) == [b"0"]
    assert await subscriber.receive(1, QUIET) == []
    news = names.stream_of(subject[:-1] + "news")
    (consumer,) = await broker.consumers_info(news)
    await broker.delete_consumer(news, consumer.name)
    await transport.publish([Message("news", b"1")])
    assert bodies(await take(listener, 1)) == [b"1"]
    await broker.delete_stream(names.stream_of(subject))
    assert await subscriber.receive(1, 4 * QUIET) == []
    await transport.publish(numbered("t", 1, "k"))
    assert await drain(subscriber, 1) == [b"0"]


async def test_a_consumer_that_somebody_deletes_is_made_again(
    transport: NatsTransport, broker: JetStreamContext, subject: str
) -> None:
    """Also when the others of its group are there: without it the server would drop the messages of its partition."""
    subscriber = await member(transport)
    assert await subscriber.receive(50, 0) == []  # asks
    stream = names.stream_of(subject)
    for number in range(16):
        await broker.delete_consumer(stream, f"g-k{number}")
    async with asyncio.timeout(SOON):
        while len(await broker.consumers_info(stream)) < 17:
            await subscriber.receive(50, QUIET)
    await transport.publish(numbered("t", 3, "k"))
    assert await drain(subscriber, 3) == [b"0", b"1", b"2"]


@pytest.mark.proves(matrix.BY_HALF, "NATS JetStream")
async def test_a_stream_that_is_full_refuses_what_comes(
    transport: NatsTransport, broker: JetStreamContext, subject: str
) -> None:
    """What does not fit is named; messages of other topics are there, and so is what was accepted before."""
    config = (await broker.stream_info(names.stream_of(subject))).config
    await broker.update_stream(config.evolve(max_msgs=1))
    await transport.publish([Message("t", b"1")])
    with pytest.raises(PublishFailed) as caught:
        await transport.publish([Message(RESULTS, b"2"), Message("t", b"3"), Message(RESULTS, b"4")])
    assert caught.value.indexes == (1,)
    assert await drain(await member(transport), 1) == [b"1"]
    assert await drain(await member(transport, "exclusive", RESULTS), 2) == [b"2", b"4"]


@pytest.mark.parametrize("name", ["a b", "x.*.>", "..", "ünder_score-@=\\/", "$JS.API.INFO", "t.@.3", "\N{KEY}\n"])
async def test_odd_names_of_topics_and_groups_work(transport: NatsTransport, name: str) -> None:
    """What NATS does not allow in a name is written otherwise there, and no two names meet."""
    await transport.ensure([TopicSpec(name, (name, "g")), TopicSpec(name + "x", (name,))])
    await transport.publish([Message(name, b"1"), Message(name + "x", b"other"), Message(name, b"2", name)])
    for group in (name, "g"):
        assert sorted(await drain(await member(transport, topic=name, group=group), 2)) == [b"1", b"2"]
    (stats,) = await transport.describe([name])
    assert {each.group for each in stats.groups} == {name, "g"}


@pytest.mark.parametrize("name", ["", "x" * 201, "ü" * 40])
async def test_names_that_cannot_be_are_refused(transport: NatsTransport, name: str) -> None:
    """Without a name, or too long a one for the broker's files."""
    with pytest.raises(InvalidInput, match="topic"):
        await transport.ensure([TopicSpec(name, ("g",))])
    with pytest.raises(InvalidInput, match="group"):
        await transport.ensure([TopicSpec("t", (name,))])


async def test_keys_are_whatever_text_they_are(transport: NatsTransport) -> None:
    """Line breaks, space at the ends, emptiness and half a surrogate pair arrive as they were."""
    keys = [" a\r\nX: y ", "", "%41", "\ud800", "\x00", "ключ " * 150]
    subscriber = await member(transport)
    await transport.publish([Message("t", key.encode("utf-8", "surrogatepass"), key) for key in keys])
    found = []
    while len(found) < len(keys):
        got = await take(subscriber, 1)
        found += [(each.key, each.body) for each in got]
        await subscriber.ack(got)
    assert sorted(found) == sorted((key, key.encode("utf-8", "surrogatepass")) for key in keys)


async def test_a_key_counts_towards_the_largest_message(transport: NatsTransport) -> None:
    """Body and key together must fit into what the server takes."""
    most = transport.features.max_message_bytes
    subscriber = await member(transport)
    with pytest.raises(InvalidInput, match="and its key 9,000"):
        await transport.publish([Message("t", b"small"), Message("t", b"x" * most, "k" * 9000)])
    await transport.publish([Message("t", b"x" * (most - 9000), "k" * 9000)])
    assert await drain(subscriber, 1) == [b"x" * (most - 9000)]


# modes


async def test_a_mode_is_for_the_whole_group(transport: NatsTransport) -> None:
    """A group that is read by one cannot be shared, nor one that has partitions be read by one."""
    await member(transport, "exclusive", RESULTS)
    with pytest.raises(InvalidInput, match="is read by one subscriber"):
        await member(transport, topic=RESULTS)
    with pytest.raises(InvalidInput, match="has partitions: its groups are shared"):
        await member(transport, "exclusive")
    with pytest.raises(InvalidInput, match="no group 'nobody'"):
        await member(transport, group="nobody")
    with pytest.raises(InvalidInput, match="no group 'nobody'"):
        await member(transport, "exclusive", RESULTS, group="nobody")


async def test_whoever_takes_over_shuts_the_former_reader_out(transport: NatsTransport, prefixed: str) -> None:
    """A reader that was only slow gets nothing more, is told so, and its late acknowledgements mean nothing."""
    slow = await member(transport, "exclusive", RESULTS)
    await transport.publish(numbered(RESULTS, 10))
    got = await take(slow, 10)
    await slow.ack(got[:3])
    async with opened(prefixed) as elsewhere:
        heir = await member(elsewhere, "exclusive", RESULTS)
        await slow.ack(got[3:])
        await transport.publish([Message(RESULTS, b"new")])
        assert await drain(heir, 8) == [*(b"%d" % number for number in range(3, 10)), b"new"]
        with pytest.raises(TransportUnavailable, match="another subscriber reads topic 'edow"):
            await receive_nothing(slow)


async def test_lag_is_told_after_a_lost_connection(transport: NatsTransport) -> None:
    """Also before a reader has acknowledged anything to its new consumer."""
    reader = await member(transport, "exclusive", RESULTS)
    await transport.publish(numbered(RESULTS, 1))
    await drain(reader, 1)
    before = transport._link.epoch
    await transport._link.client.close()
    async with asyncio.timeout(SOON):
        while reader._epoch == before:
            assert await reader.receive(1, QUIET) == []
    ((stats,),) = [each.groups for each in await transport.describe([RESULTS])]
    assert (stats.waiting, stats.in_flight) == (0, 0)


async def test_an_exclusive_reader_acknowledges_in_any_order(transport: NatsTransport) -> None:
    """What was acknowledged out of turn counts once everything before it is done, too."""
    reader = await member(transport, "exclusive", RESULTS)
    await transport.publish(numbered(RESULTS, 6))
    got = await take(reader, 6)
    await reader.ack([got[5], got[1], got[0]])
    await reader.close()
    reader = await member(transport, "exclusive", RESULTS)
    again = await take(reader, 4)
    assert bodies(again) == [b"2", b"3", b"4", b"5"]
    await reader.ack(reversed(again))
    await reader.close()
    assert await (await member(transport, "exclusive", RESULTS)).receive(10, QUIET) == []


async def test_a_lease_longer_than_anothers_is_kept_by_the_member_itself(
    transport: NatsTransport, prefixed: str
) -> None:
    """The server's lease is the shortest of all members; others extend theirs, to their end, without being asked."""
    async with opened(prefixed) as elsewhere:
        hasty = await member(elsewhere, lease=LEASE)
        patient = await member(transport, lease=6 * LEASE)
        await transport.publish(numbered("t", 1))
        held = await take(patient, 1)
        assert await hasty.receive(1, 4 * LEASE) == []
        assert bodies(await take(hasty, 1)) == [b"0"]
        await patient.ack(held)  # too late


async def test_a_member_with_little_room_finds_messages_wherever_they_are(
    transport: NatsTransport, prefixed: str
) -> None:
    """It asks for no more than it may take, and neither keys nor messages without starve."""
    subscriber = await member(transport)
    await transport.publish(DOZEN + numbered("t", 12))
    order: list[bool] = []
    async with asyncio.timeout(2 * SOON):
        while len(order) < 24:
            got = await subscriber.receive(1, SOON)
            assert len(got) <= 1
            order += [each.key is not None for each in got]
            await subscriber.ack(got)
    assert {True, False} == set(order[:20])


async def test_a_member_may_have_less_room_than_before(transport: NatsTransport) -> None:
    """What it has asked for already counts; with a message or two of room it is still told at once."""
    subscriber = await member(transport)
    assert await subscriber.receive(500, 0) == []
    for limit in (1, 3, 500, 2):
        await transport.publish(numbered("t", 1))
        assert await drain(subscriber, 1) == [b"0"]
        assert await subscriber.receive(limit, 0) == []


async def test_many_members_share_messages_with_keys(prefixed: str) -> None:
    """Members with little and with much room: nothing is lost, doubled or reordered."""
    async with opened(prefixed) as first, opened(prefixed) as second, opened(prefixed) as third:
        await first.ensure([TopicSpec("t", ("g",))])
        members = await asyncio.gather(*(member(each) for each in (first, second, third)))
        found: dict[str | None, list[int]] = {}

        async def work(subscriber: Subscriber, limit: int) -> None:
            while sum(map(len, found.values())) < 300:
                got = await subscriber.receive(limit, QUIET)
                for each in got:
                    found.setdefault(each.key, []).append(int(each.body))
                await subscriber.ack(got)

        messages = [Message("t", b"%d" % number, f"k{number % 9}" if number % 3 else None) for number in range(300)]
        async with asyncio.timeout(4 * SOON):
            await asyncio.gather(
                *(work(each, limit) for each, limit in zip(members, (1, 20, 300), strict=True)),
                *(first.publish(messages[at : at + 50]) for at in range(0, 300, 50)),
            )
    assert sorted(number for numbers in found.values() for number in numbers) == list(range(300))


async def test_without_partitions_there_is_no_order_by_key(prefixed: str) -> None:
    """partitions=0 says so in the features, and a key is only a label."""
    async with opened(prefixed + "&partitions=0") as transport:
        assert not transport.features.ordered_by_key
        await transport.ensure([TopicSpec("t", ("g",))])
        await transport.publish(numbered("t", 3, "k"))
        subscriber = await member(transport)
        assert [(each.body, each.key) for each in await take(subscriber, 3)] == [
            (b"%d" % number, "k") for number in range(3)
        ]


async def test_a_topic_for_broadcast_remembers_no_longer_than_it_keeps(prefixed: str) -> None:
    """Where `dedupe` is longer than its messages can be read, the server would refuse such a topic."""
    async with opened(prefixed + "&dedupe=600") as transport:
        await transport.ensure([TopicSpec("news", ()), TopicSpec("t", ("g",))])
        listener = await member(transport, "broadcast", "news")
        await transport.publish([Message("news", b"1")])
        assert bodies(await take(listener, 1)) == [b"1"]
        await transport.ensure([TopicSpec("news", ("g",))])


async def test_a_topic_for_broadcast_may_get_groups_later(transport: NatsTransport) -> None:
    """The first group begins with what is published from then on."""
    await transport.ensure([TopicSpec("news", ())])
    listener = await member(transport, "broadcast", "news")
    await transport.publish([Message("news", b"1")])
    await transport.ensure([TopicSpec("news", ("g",))])
    await transport.publish([Message("news", b"2")])
    assert bodies(await take(listener, 2)) == [b"1", b"2"]
    assert await drain(await member(transport, topic="news"), 1) == [b"2"]


async def test_closing_gives_back_what_was_read_ahead(transport: NatsTransport, prefixed: str) -> None:
    """Also what a member has asked for and not been handed yet."""
    async with opened(prefixed) as elsewhere:
        leaving = await member(elsewhere, lease=3600)
        assert await leaving.receive(50, 0) == []  # asks
        await transport.publish(numbered("t", 20) + DOZEN)
        await leaving.close()
        assert sorted(await drain_from([await member(transport)], 32)) == sorted(
            [*bodies_of(numbered("t", 20)), *bodies_of(DOZEN)]
        )


async def test_closing_leaves_what_it_has_lost_to_whoever_has_it(transport: NatsTransport, prefixed: str) -> None:
    """A lease that has run out is nothing to give back."""
    async with opened(prefixed) as elsewhere:
        leaving, other = await member(elsewhere, lease=LEASE), await member(transport, lease=3600)
        leaving._tending.cancel()  # which would forget it soon
        await transport.publish(numbered("t", 1))
        await take(leaving, 1)
        held = await take(other, 1)
        await leaving.close()
        assert await other.receive(1, QUIET) == []
        await other.ack(held)


async def receive_nothing(subscriber: Subscriber) -> None:
    """Until it raises."""
    async with asyncio.timeout(SOON):
        while True:
            assert await subscriber.receive(10, QUIET) == []


def bodies_of(messages: list[Message]) -> list[bytes]:
    return [message.body for message in messages]


# addresses


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("nats://localhost?partition=4", "there is no option 'partition'"),
        ("nats://localhost?partitions=many", "partitions"),
        ("nats://localhost?partitions=257", "must be between 0 and 256"),
        ("nats://localhost?replicas=0", "must be between 1 and 5"),
        ("nats://localhost?storage=tape", "storage"),
        ("nats://localhost?publish_timeout=0", "publish_timeout is 0"),
        ("nats://localhost/path", "no path"),
        ("nats://local host", "is not HOST or HOST:PORT"),
        ("nats://localhost?tls_ca=ca.pem", "not tls=true"),
        ("nats://localhost?tls=true&tls_key=key.pem", "not tls_cert"),
        ("nats://me:hush@localhost?nkey=seed", "give one of"),
    ],
)
def test_bad_options_are_refused(url: str, complaint: str) -> None:
    """The error names the option, its value and what is allowed, and no password."""
    with pytest.raises(InvalidInput, match=complaint) as caught:
        transport_at(url)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("option", "content", "complaint"),
    [
        ("credentials", None, "cannot be read"),
        ("credentials", "nonsense", "no file of credentials"),
        (
            "credentials",
            "-----BEGIN NATS USER JWT-----\nx\n-----BEGIN USER NKEY SEED-----\nSUX\n",
            "the seed in .* is none",
        ),
        ("nkey", None, "cannot be read"),
        ("tls_ca", None, "files for TLS"),
        ("tls_cert", "nonsense", "files for TLS"),
    ],
)
async def test_files_that_cannot_be_used_are_named(
    tmp_path: Path, option: str, content: str | None, complaint: str
) -> None:
    """At open, before anything is sent."""
    file = tmp_path / "file"
    if content is not None:
        file.write_text(content)
    tls = "&tls=true" if option.startswith("tls") else ""
    with pytest.raises(InvalidInput, match=complaint):
        await transport_at(f"{server_url('EDOW_NATS').partition('//')[0]}//127.0.0.1:9?{option}={file}{tls}").open()
