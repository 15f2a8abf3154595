"""Settings of a RabbitMQ URL that the driver's other tests do not need: what they change."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pamqp import commands, frame

from edow.app import connect_transport
from edow.errors import EdowError, InvalidInput
from edow.model.message import Message
from edow.testing.erasing import erase
from edow.transport.contract import Subscription, TopicSpec, Transport
from tests.conformance.certificates import make_certificate
from tests.conformance.transport_suite import QUIET, SOON, numbered, take
from tests.conformance.transports import url_of

TOPIC = "edow.tasks.default"
SPEC = TopicSpec(TOPIC, ("workers",))


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    """Without order by key, which needs few queues; all are deleted at the end."""
    url = f"{url_of('RABBITMQ', tmp_path)}&partitions=0"
    yield url
    await erase(url, ["default"])


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Transport]:
    transport = connect_transport(url)
    await transport.open()
    yield transport
    await transport.close()


async def test_a_member_holds_so_many_messages(url: str) -> None:
    """`prefetch`, of those without a key; the next comes when one is acknowledged."""
    async with opened(f"{url}&prefetch=2") as transport:
        await transport.ensure([SPEC])
        await transport.publish(numbered(TOPIC, 5))
        reader = await transport.subscribe(Subscription(topics=(TOPIC,), group="workers"))
        held = await take(reader, 2)
        assert await reader.receive(10, QUIET) == []
        await reader.ack(held[:1])
        assert [each.body for each in await take(reader, 1)] == [b"2"]


async def test_replicas_belong_to_a_queue(url: str) -> None:
    """A queue that was made with so many `replicas` is not one with as many as the server thinks best."""
    async with opened(f"{url}&replicas=1") as transport:
        await transport.ensure([SPEC])
    async with opened(url) as transport:
        with pytest.raises(InvalidInput, match="other settings"):
            await transport.ensure([SPEC])


async def test_the_largest_message(url: str) -> None:
    """`max_message_bytes` is the limit that is told, and kept to."""
    async with opened(f"{url}&max_message_bytes=100") as transport:
        assert transport.features.max_message_bytes == 100
        await transport.ensure([SPEC])
        await transport.publish([Message(TOPIC, b"x" * 100)])
        with pytest.raises(InvalidInput, match="101 bytes"):
            await transport.publish([Message(TOPIC, b"x" * 101)])


async def test_a_server_that_takes_no_certificates(tmp_path: Path) -> None:
    """Where the plugin is missing the error names it, and is not tried on for ever."""
    certificate, key = make_certificate(tmp_path)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.write(frame.marshal(commands.Connection.Start(mechanisms="PLAIN AMQPLAIN"), 0))
        await reader.read()
        writer.close()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    files = f"cafile={certificate}&certfile={certificate}&keyfile={key}"
    transport = connect_transport(f"amqps://localhost:{port}/?auth=external&{files}")
    async with asyncio.timeout(SOON), server:
        with pytest.raises(InvalidInput, match=r"does not let us in by auth=external .* rabbitmq_auth_mechanism_ssl"):
            await transport.open()
        await transport.close()


async def test_a_certificate_says_who_we_are(tmp_path: Path) -> None:
    """With `auth=external`, by `certfile` and `keyfile`, to a server that believes in their authority: no password is
    sent, only the name of the mechanism.
    """
    certificate, key = make_certificate(tmp_path)
    heard: asyncio.Future[tuple[str, object]] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)  # the protocol's name and version
        writer.write(frame.marshal(commands.Connection.Start(mechanisms="PLAIN EXTERNAL"), 0))
        _, _, answer = frame.unmarshal(await reader.read(4096))
        assert isinstance(answer, commands.Connection.StartOk)
        heard.set_result((answer.mechanism, writer.get_extra_info("peercert")["subject"]))
        writer.close()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificate))
    context.load_cert_chain(certificate, key)
    context.verify_mode = ssl.CERT_REQUIRED
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    files = f"cafile={certificate}&certfile={certificate}&keyfile={key}"
    transport = connect_transport(f"amqps://localhost:{port}/?auth=external&connect_timeout=2&{files}")
    async with asyncio.timeout(SOON), server:
        with pytest.raises(EdowError):
            await transport.open()  # of this server nothing more can be had
        mechanism, subject = await heard
    assert mechanism == "EXTERNAL"
    assert subject == ((("commonName", "localhost"),),)
