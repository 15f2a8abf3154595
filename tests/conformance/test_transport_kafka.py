"""The Kafka driver against the suite, and against what only Kafka can do to it."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from confluent_kafka import Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from edow.address import Address
from edow.errors import InvalidInput, PublishFailed, TransportUnavailable
from edow.model.message import Message
from edow.transport.contract import Delivery, Mode, Subscriber, Subscription, TopicSpec, Transport
from edow.transport.kafka import cluster, connect, settings
from edow.transport.kafka.reader import Reader
from scripts.servers import Box
from scripts.servers import kafka as kafka_server
from tests.conformance import matrix
from tests.conformance.certificates import make_certificate
from tests.conformance.transport_suite import (
    QUIET,
    SOON,
    TransportSuite,
    bodies,
    drain,
    drain_from,
    numbered,
    result_topic,
    take,
    take_from,
)
from tests.servers import private_server, server_url

QUICK = "session_timeout=2&handover=0.2"  # the server that tests use allows short sessions
RECOVERY = 30.0  # seconds that a server may take to come back

Connect = Callable[..., Awaitable[Transport]]


def kafka(address: str) -> Transport:
    return connect(Address(address), lambda: time.time_ns() // 1000)


def with_options(url: str, options: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}{options}"


class TestKafka(TransportSuite):
    factory = "tests.conformance.test_transport_kafka:kafka"

    @pytest.fixture
    def address(self) -> str:
        return with_options(server_url("EDOW_KAFKA"), f"prefix=test-{uuid4().hex[:8]}.&partitions=3&{QUICK}")


@pytest.fixture
async def opened() -> AsyncIterator[Connect]:
    """Opens transports; they are closed at the end. One prefix for a whole test, so that they share their topics."""
    transports: list[Transport] = []
    prefix = f"test-{uuid4().hex[:8]}."

    async def open_one(url: str | None = None, **options: object) -> Transport:
        chosen = {"prefix": prefix, "partitions": 3, "session_timeout": 2, "handover": 0.2, **options}
        text = "&".join(f"{name.replace('__', '.')}={value}" for name, value in chosen.items())
        transport = kafka(with_options(url or server_url("EDOW_KAFKA"), text))
        await transport.open()
        transports.append(transport)
        return transport

    yield open_one
    for transport in transports:
        await transport.close()


async def member(transport: Transport, topic: str, mode: Mode = "shared", lease: float = 30.0) -> Subscriber:
    return await transport.subscribe(Subscription(topics=(topic,), group="one", mode=mode, lease_seconds=lease))


async def topic_of(transport: Transport, name: str = "") -> str:
    name = name or f"topic-{uuid4().hex}"
    await transport.ensure([TopicSpec(name, ("one",))])
    return name


def hosts(url: str) -> str:
    return url.partition("//")[2].partition("?")[0]


def administrator(url: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": hosts(url)})


async def eventually(attempt: Callable[[], Awaitable[None]]) -> None:
    """Until it works, as the loops above the driver would go on trying."""
    async with asyncio.timeout(RECOVERY):
        while True:
            try:
                return await attempt()
            except TransportUnavailable:
                await asyncio.sleep(0.1)


async def told(elsewhere: Transport, wanted: dict[str, tuple[int, int]]) -> None:
    """Until the brokers know so much of each topic: how many messages wait, and how many are in flight."""
    found: dict[str, tuple[int, int]] = {}
    async with asyncio.timeout(RECOVERY):
        while found != wanted:
            described = await elsewhere.describe(list(wanted))
            found = {each.topic: (each.groups[0].waiting, each.groups[0].in_flight) for each in described}


# a server that comes and goes


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a key and a certificate for this machine, which is its own authority."""
    folder = tmp_path_factory.mktemp("tls")
    made, key = make_certificate(folder)
    (folder / "both").write_bytes(key.read_bytes() + made.read_bytes())
    return folder / "both"


@pytest.fixture(scope="module")
def private(certificate: Path) -> Iterator[Box]:
    """A server of this module's own. Who logs in, over TLS, may do nothing until told; everybody else may do it all."""
    options = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "group.min.session.timeout.ms": "1000",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,LOGIN:SASL_SSL",
        "listener.name.login.ssl.keystore.type": "PEM",
        "listener.name.login.ssl.keystore.location": str(certificate),
    }
    with private_server(kafka_server, options=options) as box:
        yield box


def login(box: Box, certificate: Path, password: str | None = None) -> str:
    return f"kafka://edow:{password or box.password}@127.0.0.1:{box.ports['login']}?ssl.ca.location={certificate}"


@pytest.mark.timeout(180)  # a server starts twice
@pytest.mark.proves(matrix.AWAY, "Kafka")
async def test_all_modes_go_on_by_themselves_after_a_restart(private: Box, opened: Connect) -> None:
    """While the broker is away, publishing fails in time; afterwards nothing is lost and nobody has to help."""
    transport = await opened(private.url, timeout=2)
    tasks, results, control = "tasks", result_topic(), "control"
    await transport.ensure([TopicSpec(tasks, ("one",)), TopicSpec(results, ("one",)), TopicSpec(control, ())])
    readers = {
        tasks: await member(transport, tasks),
        results: await member(transport, results, "exclusive"),
        control: await member(transport, control, "broadcast"),
    }
    for topic, reader in readers.items():
        await transport.publish([Message(topic, b"before")])
        assert await drain(reader, 1) == [b"before"]
    await told(await opened(private.url), {tasks: (0, 0), results: (0, 0)})

    await asyncio.to_thread(private.kill)
    with pytest.raises(PublishFailed) as caught:
        await transport.publish([Message(topic, b"lost") for topic in readers])
    assert caught.value.indexes == (0, 1, 2)
    for reader in readers.values():
        assert await reader.receive(10, QUIET) == []
    await asyncio.to_thread(private.start)

    await eventually(lambda: transport.publish([Message(topic, b"after") for topic in readers]))
    for reader in readers.values():
        found: list[bytes] = []
        async with asyncio.timeout(RECOVERY):
            while b"after" not in found:
                deliveries = await reader.receive(10, SOON)
                found += bodies(deliveries)
                await reader.ack(deliveries)
        assert b"before" not in found


async def test_a_broker_that_is_away_is_said_to_be_unavailable(opened: Connect) -> None:
    """Opening fails in time, in words, and without the password."""
    with pytest.raises(TransportUnavailable, match="localhost:1") as caught:
        await opened("kafka://someone:s3cret@localhost:1", timeout=0.5)
    assert "s3cret" not in str(caught.value)


@pytest.mark.timeout(180)
@pytest.mark.proves(matrix.FROZEN, "Kafka")
async def test_a_broker_that_answers_nobody_is_given_up_in_time(private: Box, opened: Connect) -> None:
    """Frozen, not dead: publishing still ends, and so does closing."""
    transport = await opened(private.url, timeout=2)
    topic = await topic_of(transport)
    reader = await member(transport, topic)
    await asyncio.to_thread(private.pause)
    try:
        async with asyncio.timeout(RECOVERY):
            with pytest.raises(PublishFailed):
                await transport.publish(numbered(topic, 3))
            await reader.close()
            await transport.close()
    finally:
        await asyncio.to_thread(private.resume)


@pytest.mark.proves(matrix.STRANGER, "Kafka")
async def test_wrong_credentials_are_told_at_open(private: Box, certificate: Path, opened: Connect) -> None:
    """In words that help, at once, and without the password."""
    with pytest.raises(InvalidInput, match="user and password") as caught:
        async with asyncio.timeout(RECOVERY):
            await opened(login(private, certificate, "wr0ng"), timeout=60)
    assert "wr0ng" not in str(caught.value)


async def test_a_certificate_that_is_not_believed_is_told_at_open(private: Box, opened: Connect) -> None:
    """A server that the system's authorities do not know is not talked to."""
    with pytest.raises(InvalidInput, match=r"ssl\.\*"):
        async with asyncio.timeout(RECOVERY):
            await opened(f"kafka://edow:{private.password}@127.0.0.1:{private.ports['login']}", timeout=60)


@pytest.mark.proves(matrix.DENIED, "Kafka")
async def test_a_missing_permission_is_told_where_it_is_needed(
    private: Box, certificate: Path, opened: Connect
) -> None:
    """Making a topic, reading it and writing to it: each says what is not allowed."""
    mighty, weak = await opened(private.url), await opened(login(private, certificate))
    with pytest.raises(InvalidInput, match="permission"):
        await weak.ensure([TopicSpec("new", ("one",))])
    await mighty.ensure([TopicSpec("there", ("one",))])
    with pytest.raises(InvalidInput, match="permission"):
        await weak.publish([Message("there", b"x")])
    with pytest.raises(InvalidInput, match="permission"):
        await member(weak, "there")


async def test_the_permissions_that_are_documented_are_enough(private: Box, certificate: Path, opened: Connect) -> None:
    """To make topics, publish, read in every mode and describe."""
    operations = {
        ResourceType.TOPIC: (AclOperation.CREATE, AclOperation.DESCRIBE, AclOperation.READ, AclOperation.WRITE),
        ResourceType.GROUP: (AclOperation.DESCRIBE, AclOperation.READ),
    }
    admin = administrator(private.url)
    rules = [
        AclBinding(kind, "allowed.edow", ResourcePatternType.PREFIXED, "User:edow", "*", each, AclPermissionType.ALLOW)
        for kind, each_of in operations.items()
        for each in each_of
    ]
    for future in admin.create_acls(rules).values():
        await asyncio.wrap_future(future)
    transport = await opened(login(private, certificate), prefix="allowed.")
    names: dict[str, Mode] = {
        "edow.tasks.t": "shared",
        "edow.results.0": "exclusive",
        "edow.control": "broadcast",
    }
    await transport.ensure([TopicSpec(name, ("one",) if mode != "broadcast" else ()) for name, mode in names.items()])
    readers = [await member(transport, name, mode) for name, mode in names.items()]
    await transport.publish([Message(name, name.encode()) for name in names])
    assert [await drain(each, 1) for each in readers] == [[name.encode()] for name in names]
    stats = await transport.describe(["edow.tasks.t", "edow.results.0"])
    assert [(each.groups[0].waiting, each.groups[0].in_flight) for each in stats] == [(0, 0), (0, 0)]


async def test_a_session_that_the_broker_does_not_allow_is_told_at_subscribe(private: Box, opened: Connect) -> None:
    """The option is named, and what limits it."""
    transport = await opened(private.url, session_timeout=0.5)
    topic = await topic_of(transport)
    with pytest.raises(InvalidInput, match=r"session_timeout.*group\.min\.session"):
        await member(transport, topic)


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("/path", "no path"),
        ("?partitions=0", "partitions"),
        ("?partitions=many", "partitions"),
        ("?prefix=a b", "prefix"),
        ("?sesion_timeout=3", "session_timeout"),
        ("?group.id=mine", "EDOW sets it"),
        ("?group.protocol=share", "share groups are not used"),
        ("?share.acknowledgement.mode=explicit", "share groups are not used"),
        ("?sasl.password=s3cret", "USER:PASSWORD"),
        ("?max_message_bytes=0", "max_message_bytes"),
    ],
)
def test_bad_options_are_told_before_anything_is_done(query: str, told: str) -> None:
    """What is wrong, and what would be right; secrets are not repeated."""
    with pytest.raises(InvalidInput, match=told) as caught:
        kafka(f"kafka://localhost:9092{query}")
    assert "s3cret" not in str(caught.value)


async def test_options_that_librdkafka_does_not_know_are_told_at_open() -> None:
    """Options with a dot are its own, and so is its opinion of them."""
    with pytest.raises(InvalidInput, match=r"linger\.mss"):
        await kafka("kafka://localhost:9092?linger.mss=1").open()


async def test_librdkafka_logs_to_python(opened: Connect, capfd: pytest.CaptureFixture[str]) -> None:
    """What it has to say is logged as `edow.kafka`, not written to the process's own output."""
    with pytest.raises(TransportUnavailable):
        await opened("kafka://localhost:1", timeout=0.5)
    assert capfd.readouterr().err == ""


async def test_log_lines_are_not_repeated_all_the_time(caplog: pytest.LogCaptureFixture, opened: Connect) -> None:
    """A broker that is away is told of, once for each connection that is tried."""
    with caplog.at_level(logging.DEBUG, "edow.kafka"), pytest.raises(TransportUnavailable):
        await opened("kafka://localhost:1", timeout=1.0)
    lines = [record.getMessage().partition(" (after ")[0] for record in caplog.records]
    assert any("Connection refused" in line for line in lines)
    assert len(lines) == len(set(lines))


# who has what


async def test_a_later_acknowledgement_does_not_pass_over_what_was_handed_back(opened: Connect) -> None:
    """A message that was nacked, and one that nobody answered for, come again although all around them is done."""
    transport = await opened(partitions=1)
    topic = await topic_of(transport)
    first = await member(transport, topic)
    await transport.publish(numbered(topic, 20))
    got = await take(first, 20)
    await first.nack([got[3]], delay_seconds=3600)
    await first.ack([*got[:3], *got[4:7], *got[8:]])
    await first.close()
    second = await member(transport, topic)
    assert await drain(second, 2) == [b"3", b"7"]
    assert await second.receive(10, QUIET) == []


async def test_what_was_done_beyond_a_gap_is_not_done_again_after_a_crash(
    opened: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One long task does not make everything behind it come again when its process dies."""
    transport = await opened(partitions=1)
    topic = await topic_of(transport)
    first = await member(transport, topic)
    await transport.publish(numbered(topic, 200))
    got = await take(first, 200)
    await first.ack(got[1:100])
    await told(await opened(partitions=1), {topic: (0, 101)})
    monkeypatch.setattr(Reader, "_commit", lambda *_, **__: None)  # from here on it could as well be dead
    await first.close()
    monkeypatch.undo()
    second = await member(transport, topic)
    assert sorted(map(int, await drain(second, 101))) == [0, *range(100, 200)]
    assert await second.receive(10, QUIET) == []


async def test_a_new_group_begins_at_its_making(opened: Connect) -> None:
    """What was published before is not for it, also while another group reads the topic."""
    transport = await opened()
    topic = await topic_of(transport)
    one = await member(transport, topic)
    await transport.publish(numbered(topic, 9))
    await drain(one, 9)
    await transport.ensure([TopicSpec(topic, ("one", "late"))])
    await transport.publish([Message(topic, b"x")])
    late = await transport.subscribe(Subscription(topics=(topic,), group="late"))
    assert await drain(late, 1) == [b"x"]
    assert await late.receive(10, QUIET) == []


async def test_work_in_hand_may_end_while_its_partition_goes_to_a_new_member(opened: Connect) -> None:
    """What is acknowledged within the handover is done once."""
    transport = await opened(handover=20)
    topic = await topic_of(transport)
    first = await member(transport, topic)
    await transport.publish(numbered(topic, 30))
    got = await take(first, 30)
    joining = asyncio.create_task(member(transport, topic))
    joined, _ = await asyncio.wait([joining], timeout=1)
    assert not joined  # it gets nothing as long as the first one works
    await first.ack(got)
    second = await joining
    await transport.publish(numbered(topic, 30))
    assert len(await drain_from([first, second], 30)) == 30
    assert await first.receive(10, QUIET) == await second.receive(10, QUIET) == []


async def test_work_that_outlasts_the_handover_is_somebody_elses(opened: Connect) -> None:
    """It comes again with the new member; the old one is told when it extends, and its acknowledgement is nothing."""
    transport = await opened(handover=0)
    topic = await topic_of(transport)
    first = await member(transport, topic)
    await transport.publish(numbered(topic, 30))
    got = await take(first, 30)
    second = await member(transport, topic)
    lost = await first.extend(got)
    assert 0 < len(lost) < 30
    await first.ack(lost)
    assert sorted(await drain(second, len(lost))) == sorted(bodies(lost))


async def test_a_member_without_partitions_takes_over(opened: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more members than partitions some wait, until there is something for them."""
    monkeypatch.setattr("edow.transport.kafka.transport.SETTLE_SECONDS", 0.1)
    transport = await opened(partitions=1)
    topic = await topic_of(transport)
    members = [await member(transport, topic) for _ in range(3)]
    for number in range(2):
        await transport.publish([Message(topic, b"%d" % number)])
        ((busy, _),) = await take_from(members, 1)
        members.remove(busy)
        await busy.close()
    assert await drain(members[0], 2) == [b"0", b"1"]


async def test_a_partition_that_was_paused_when_it_left_is_read_when_it_comes_back(opened: Connect) -> None:
    """A member that was full when another came gets the partition back when that one goes, and goes on with it."""
    transport = await opened(partitions=2, prefetch=1)
    topic = await topic_of(transport)
    first = await member(transport, topic)
    await transport.publish(numbered(topic, 20))
    seen = {each.body for each in await take(first, 1)}
    while not first._readers[0].held_up:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    second = await member(transport, topic)
    while got := await first.receive(10, 1):
        seen.update(bodies(got))
        await first.ack(got)
    await second.close()
    async with asyncio.timeout(RECOVERY):
        while len(seen) < 20:
            got = await first.receive(10, SOON)
            seen.update(bodies(got))
            await first.ack(got)


async def test_a_long_task_is_not_taken_for_a_dead_one(opened: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long its handler takes, and though nothing more is received meanwhile, a member stays one."""
    monkeypatch.setattr(settings, "LONGEST_POLL", 1.0)
    monkeypatch.setattr("edow.transport.kafka.transport.SETTLE_SECONDS", 0.1)
    transport = await opened(partitions=1, prefetch=1, session_timeout=1)
    topic = await topic_of(transport)
    working = await member(transport, topic)
    await transport.publish(numbered(topic, 20))
    held = await take(working, 1)
    other = await member(transport, topic)
    assert await other.receive(10, 3) == []
    assert await working.extend(held) == []
    await working.ack(held)
    assert await drain(working, 19) == [b"%d" % number for number in range(1, 20)]


async def test_an_event_loop_that_is_stuck_loses_its_partitions(
    opened: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A heartbeat alone does not keep a member in its group: others take over from one that does nothing."""
    monkeypatch.setattr(settings, "LONGEST_POLL", 1.0)
    here = await opened(partitions=1, session_timeout=1)
    topic = await topic_of(here)
    taken, release = threading.Event(), threading.Event()

    async def take_and_be_stuck() -> list[Delivery]:
        there = await opened(partitions=1, session_timeout=1)
        subscriber = await member(there, topic)
        held = await take(subscriber, 1)
        taken.set()
        release.wait(RECOVERY)
        lost = await subscriber.extend(held)
        await there.close()
        return lost

    await here.publish([Message(topic, b"x")])
    stuck = asyncio.create_task(asyncio.to_thread(asyncio.run, take_and_be_stuck()))
    await asyncio.to_thread(taken.wait, RECOVERY)
    other = await member(here, topic)
    assert bodies(await take(other, 1)) == [b"x"]
    release.set()
    await stuck


async def test_a_partition_waits_for_its_first_message_after_a_while(opened: Connect) -> None:
    """The window bounds what is remembered beyond a message that is not done; it goes on when that is."""
    transport = await opened(partitions=1, window=100)
    topic = await topic_of(transport)
    subscriber = await member(transport, topic)
    await transport.publish(numbered(topic, 3_000))
    (first,) = await take(subscriber, 1)
    count = 1
    while deliveries := await subscriber.receive(500, 1):
        count += len(deliveries)
        await subscriber.ack(deliveries)
    assert 100 <= count < 3_000
    await subscriber.ack([first])
    await drain(subscriber, 3_000 - count)


async def test_what_a_member_cannot_take_now_comes_when_it_can(opened: Connect) -> None:
    """A full prefetch stops fetching, and nothing is lost or out of order when it goes on."""
    transport = await opened(partitions=1, prefetch=10)
    topic = await topic_of(transport)
    subscriber = await member(transport, topic)
    await transport.publish(numbered(topic, 500))
    (first,) = await take(subscriber, 1)
    while not subscriber._readers[0].held_up:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await subscriber.ack([first])
    assert await drain(subscriber, 499) == [b"%d" % number for number in range(1, 500)]


@pytest.mark.parametrize("mode", ["shared", "exclusive"])
@pytest.mark.proves(matrix.DELETED, "Kafka")
async def test_a_topic_that_was_deleted_and_made_again_is_read_from_its_beginning(opened: Connect, mode: Mode) -> None:
    """By those who read it before, who need not be told; and acknowledgements count from there."""
    transport = await opened(partitions=1, topic__metadata__refresh__interval__ms=200)
    topic = await topic_of(transport, result_topic())
    reader = await member(transport, topic, mode)
    await transport.publish(numbered(topic, 5))
    await drain(reader, 5)
    await told(await opened(partitions=1), {topic: (0, 0)})
    admin = administrator(server_url("EDOW_KAFKA"))
    name = transport._names.topic(topic)
    await asyncio.wrap_future(admin.delete_topics([name])[name])

    async def publish() -> None:
        try:
            await transport.publish([Message(topic, b"first"), Message(topic, b"second")])
        except InvalidInput:
            await transport.ensure([TopicSpec(topic, ("one",))])
            raise TransportUnavailable("made again") from None

    await eventually(publish)
    found: list[bytes] = []
    async with asyncio.timeout(RECOVERY):
        while found[-2:] != [b"first", b"second"]:  # the first may have reached the old topic before it was gone
            found += await drain(reader, 1)
    await told(await opened(partitions=1), {topic: (0, 0)})


@pytest.mark.parametrize("mode", ["shared", "exclusive"])
async def test_messages_that_are_kept_no_longer_are_passed_over(opened: Connect, mode: Mode) -> None:
    """A reader that comes after its messages were deleted goes on with the first that is there."""
    transport = await opened(partitions=1)
    topic = await topic_of(transport, result_topic())
    await transport.publish(numbered(topic, 10))
    admin = administrator(server_url("EDOW_KAFKA"))
    gone = TopicPartition(transport._names.topic(topic), 0, 7)
    for future in admin.delete_records([gone]).values():
        await asyncio.wrap_future(future)
    assert await drain(await member(transport, topic, mode), 3) == [b"7", b"8", b"9"]


@pytest.mark.parametrize("mode", ["shared", "exclusive"])
async def test_a_log_that_ends_before_the_place_of_its_group_is_read_again(opened: Connect, mode: Mode) -> None:
    """Such as one whose last messages were lost with a machine: what is published from then on is nothing that was
    read before.
    """
    transport = await opened(partitions=1)
    topic = await topic_of(transport, result_topic())
    await transport.publish(numbered(topic, 3))
    names = transport._names
    group = names.members(topic, "one") if mode == "shared" else names.places("one")
    await transport._connection.cluster._commit(group, [TopicPartition(names.topic(topic), 0, 100)])
    reader = await member(transport, topic, mode)
    await transport.publish([Message(topic, b"after")])
    assert await drain(reader, 4) == [b"0", b"1", b"2", b"after"]
    await reader.close()
    await transport.publish([Message(topic, b"last")])
    assert await drain(await member(transport, topic, mode), 1) == [b"last"]


async def test_members_may_speak_the_newer_group_protocol(opened: Connect) -> None:
    """With group.protocol=consumer the broker decides who reads what; the rest is the same."""
    transport = await opened(group__protocol="consumer")
    topic = await topic_of(transport)
    members = [await member(transport, topic) for _ in range(2)]
    await transport.publish(numbered(topic, 60))
    held = await take_from(members, 60)
    assert {one for one, _ in held} == set(members)
    await members[0].ack([each for one, each in held if one is members[0]])
    await members[1].close()
    left = [each.body for one, each in held if one is members[1]]
    assert sorted(await drain(members[0], len(left))) == sorted(left)


async def test_other_processes_are_told_what_is_in_hand(opened: Connect) -> None:
    """`describe` knows of members elsewhere what they told a moment ago: what is done, and what they work on."""
    transport, elsewhere = await opened(partitions=1), await opened(partitions=1)
    topic = await topic_of(transport)
    subscriber = await member(transport, topic)
    await transport.publish(numbered(topic, 10))
    held = await take(subscriber, 4)
    await subscriber.ack(held[1:3])
    await told(elsewhere, {topic: (6, 2)})
    ((stats,),) = [each.groups for each in await elsewhere.describe([topic])]
    assert stats.oldest_at is not None


async def test_a_group_whose_place_has_expired_is_told_of(opened: Connect) -> None:
    """A broker forgets what somebody without members has not said for a week; that the group has members, it knows."""
    transport, elsewhere = await opened(partitions=1), await opened(partitions=1)
    topic = await topic_of(transport)
    subscriber = await member(transport, topic)
    await transport.publish(numbered(topic, 5))
    await take(subscriber, 2)
    await told(elsewhere, {topic: (3, 2)})
    admin, place = administrator(server_url("EDOW_KAFKA")), transport._names.places("one")
    await asyncio.wrap_future(admin.delete_consumer_groups([place])[place])
    for each in (transport, elsewhere):
        ((stats,),) = [found.groups for found in await each.describe([topic])]
        assert (stats.group, stats.waiting, stats.in_flight) == ("one", 3, 2)


# what others publish


async def test_foreign_messages_arrive_whatever_they_are(opened: Connect) -> None:
    """No value, a key that is no text, headers: they are delivered, for those above to judge."""
    transport = await opened(partitions=1)
    topic = await topic_of(transport)
    name = transport._names.topic(topic)
    producer = Producer({"bootstrap.servers": hosts(server_url("EDOW_KAFKA"))})
    producer.produce(name, None, b"\xff\xfe")
    producer.produce(name, b"\x00", None, headers={"content-type": b"?"})
    producer.flush()
    got = await take(await member(transport, topic), 2)
    assert [(each.key, each.body) for each in got] == [("\udcff\udcfe", b""), (None, b"\x00")]
    await transport.publish([Message(topic, b"again", got[0].key)])  # such a key can be used as any other


async def test_where_a_transaction_ended_is_no_message(opened: Connect) -> None:
    """It takes an offset, and nothing is there to wait for."""
    transport = await opened(partitions=1)
    topic = await topic_of(transport)
    name = transport._names.topic(topic)
    producer = Producer({"bootstrap.servers": hosts(server_url("EDOW_KAFKA")), "transactional.id": name})
    await asyncio.to_thread(producer.init_transactions)
    producer.begin_transaction()
    producer.produce(name, b"x")
    await asyncio.to_thread(producer.commit_transaction)
    assert await drain(await member(transport, topic), 1) == [b"x"]
    await told(await opened(partitions=1), {topic: (0, 0)})


# publishing


async def test_a_topic_that_takes_less_than_we_would_is_told(opened: Connect) -> None:
    """Where an operator has made a topic with a smaller limit, the message is refused, not tried for ever."""
    transport = await opened()
    topic = f"topic-{uuid4().hex}"
    admin = administrator(server_url("EDOW_KAFKA"))
    name = transport._names.topic(topic)
    made = admin.create_topics([NewTopic(name, 1, 1, config={"max.message.bytes": "1000"})])
    await asyncio.wrap_future(made[name])
    await transport.ensure([TopicSpec(topic, ("one",))])
    with pytest.raises(InvalidInput, match="size"):
        await transport.publish([Message(topic, b"x" * 2_000)])


@pytest.mark.proves(matrix.BY_HALF, "Kafka")
async def test_a_batch_that_fails_by_half_names_the_half(opened: Connect) -> None:
    """Messages to a topic that was deleted meanwhile fail; the others are there."""
    transport = await opened(timeout=3)
    good, bad = await topic_of(transport), await topic_of(transport)
    subscriber = await member(transport, good)
    await transport.publish([Message(good, b"1"), Message(bad, b"1")])
    admin = administrator(server_url("EDOW_KAFKA"))
    name = transport._names.topic(bad)
    await asyncio.wrap_future(admin.delete_topics([name])[name])
    with pytest.raises(PublishFailed) as caught:
        await transport.publish([Message(good, b"2"), Message(bad, b"2"), Message(good, b"3")])
    assert caught.value.indexes == (1,)
    assert sorted(await drain(subscriber, 3)) == [b"1", b"2", b"3"]
    with pytest.raises(InvalidInput, match="no topic"):
        await transport.publish([Message(bad, b"3")])


async def test_new_topics_are_made_as_the_url_says(opened: Connect) -> None:
    """Partitions for those who share, one for those who read alone; and how messages are kept."""
    transport = await opened(partitions=5, replicas=1, retention=3_600, fsync="true", max_message_bytes=10_000)
    assert transport.features.durable
    names = ["edow.tasks.t", "edow.results.0", "edow.dead", "edow.control"]
    await transport.ensure([TopicSpec(name, () if name.endswith("control") else ("one",)) for name in names])
    kafkas = [transport._names.topic(name) for name in names]
    admin = administrator(server_url("EDOW_KAFKA"))
    found = {
        name: await asyncio.wrap_future(each) for name, each in admin.describe_topics(TopicCollection(kafkas)).items()
    }
    assert [len(found[name].partitions) for name in kafkas] == [5, 1, 1, 1]
    assert {len(each.replicas) for one in found.values() for each in one.partitions} == {1}
    resource = ConfigResource(ConfigResource.Type.TOPIC, kafkas[0])
    config = await asyncio.wrap_future(admin.describe_configs([resource])[resource])
    told = {name: config[name].value for name in ("retention.ms", "flush.messages", "cleanup.policy")}
    assert told == {"retention.ms": "3600000", "flush.messages": "1", "cleanup.policy": "delete"}
    assert int(config["max.message.bytes"].value) > 10_000


async def test_partitions_may_be_added_while_all_goes_on(opened: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """Publishers use them and members read them, from their beginning, with nobody's help."""
    monkeypatch.setattr(cluster, "SIZE_SECONDS", 0.0)
    transport = await opened(partitions=1, topic__metadata__refresh__interval__ms=100)
    topic = await topic_of(transport)
    subscriber = await member(transport, topic)
    admin = administrator(server_url("EDOW_KAFKA"))
    name = transport._names.topic(topic)
    await asyncio.wrap_future(admin.create_partitions([NewPartitions(name, 3)])[name])
    numbers: set[int] = set()
    async with asyncio.timeout(RECOVERY):
        while len(numbers) < 3:
            await transport.publish(numbered(topic, 6))
            for each in await take(subscriber, 6):
                numbers.add(each.partition.place[1])
                await subscriber.ack([each])


async def test_options_with_a_dot_reach_librdkafka(opened: Connect) -> None:
    """Compressed and lingered for, messages arrive as ever."""
    transport = await opened(compression__type="lz4", linger__ms=5, queued__max__messages__kbytes=1024)
    topic = await topic_of(transport)
    subscriber = await member(transport, topic)
    await transport.publish([Message(topic, b"x" * 10_000)] * 3)
    assert await drain(subscriber, 3) == [b"x" * 10_000] * 3


async def test_names_that_kafka_does_not_take_are_refused(opened: Connect) -> None:
    """With what it would take."""
    transport = await opened()
    with pytest.raises(InvalidInput, match="letters, digits"):
        await transport.ensure([TopicSpec("with space", ("one",))])
