"""The Kafka driver against the suite, and against what only Kafka can do to it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from uuid import uuid4

import pytest

from edow.address import Address
from edow.errors import InvalidInput, PublishFailed, TransportUnavailable
from edow.model.message import Message
from edow.transport.contract import Mode, Subscriber, Subscription, TopicSpec, Transport
from edow.transport.kafka import connect
from scripts.servers import Box
from scripts.servers import kafka as kafka_server
from tests.conformance.transport_suite import QUIET, SOON, TransportSuite, bodies, drain, numbered, result_topic
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


async def eventually(attempt: Callable[[], Awaitable[None]]) -> None:
    """Until it works, as the loops above the driver would go on trying."""
    async with asyncio.timeout(RECOVERY):
        while True:
            try:
                return await attempt()
            except TransportUnavailable:
                await asyncio.sleep(0.1)


# a server that comes and goes


@pytest.fixture(scope="module")
def private() -> Iterator[Box]:
    """A server of this module's own. Whoever logs in may do nothing until told; whoever does not may do everything."""
    options = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "group.min.session.timeout.ms": "1000",
    }
    with private_server(kafka_server, options=options) as box:
        yield box


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
    await transport.describe([tasks, results])  # the broker has been told of these acknowledgements

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


async def test_wrong_credentials_are_told_at_open(private: Box, opened: Connect) -> None:
    """In words that help, at once, and without the password."""
    host = f"127.0.0.1:{private.ports['login']}"
    with pytest.raises(InvalidInput, match="user and password") as caught:
        async with asyncio.timeout(SOON):
            await opened(f"kafka://edow:wr0ng@{host}?security.protocol=SASL_PLAINTEXT", timeout=60)
    assert "wr0ng" not in str(caught.value)
    await opened(f"kafka://edow:{private.password}@{host}?security.protocol=SASL_PLAINTEXT")


async def test_a_missing_permission_is_told_where_it_is_needed(private: Box, opened: Connect) -> None:
    """Making a topic, reading it and writing to it: each says what is not allowed."""
    mighty = await opened(private.url)
    login = f"127.0.0.1:{private.ports['login']}?security.protocol=SASL_PLAINTEXT"
    weak = await opened(f"kafka://edow:{private.password}@{login}")
    with pytest.raises(InvalidInput, match="permission"):
        await weak.ensure([TopicSpec("new", ("one",))])
    await mighty.ensure([TopicSpec("there", ("one",))])
    with pytest.raises(InvalidInput, match="permission"):
        await weak.publish([Message("there", b"x")])
    with pytest.raises(InvalidInput, match="permission"):
        await member(weak, "there")


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
