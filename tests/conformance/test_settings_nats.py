"""Settings of a NATS URL that the suite does not need: what they change, on a real server."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from edow.address import Address
from edow.app import connect_transport
from edow.errors import InvalidInput, PublishFailed, TransportUnavailable, Unavailable
from edow.model.message import Message
from edow.testing.polling import until
from edow.transport.contract import Subscription, TopicSpec, Transport
from scripts.servers import Box, nats
from scripts.servers.ports import any_free
from tests.conformance.certificates import make_certificate
from tests.conformance.transport_suite import SOON, drain, numbered
from tests.conformance.transports import url_of
from tests.docs import markdown
from tests.servers import private_server


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Transport]:
    """With a topic t that has a group g."""
    transport = connect_transport(url)
    await transport.open()
    try:
        await transport.ensure([TopicSpec("t", ("g",))])
        yield transport
    finally:
        await transport.close()


async def works(transport: Transport) -> None:
    """A message gets through."""
    subscriber = await transport.subscribe(Subscription(topics=("t",), group="g"))
    await transport.publish(numbered("t", 1))
    assert await drain(subscriber, 1) == [b"0"]
    await subscriber.close()


async def test_streams_and_consumers_are_made_as_said(tmp_path: Path) -> None:
    """`storage`, `replicas`, `dedupe` and `in_flight` are the server's own settings of what is made."""
    url = url_of("NATS", tmp_path)
    async with opened(f"{url}&storage=memory&replicas=1&dedupe=2.5&in_flight=7") as transport:
        assert not transport.features.durable
        client, stream = Client(), Address(url).options["prefix"].replace(".", "_") + "t"
        address = Address(url)
        await client.connect(f"nats://{address.hosts[0]}", user=address.user, password=address.password)
        streams = client.jsm()
        made = (await streams.stream_info(stream)).config
        consumer = (await streams.consumer_info(stream, "g")).config
        await streams.delete_stream(stream)
        await client.close()
    assert (made.storage, made.num_replicas, made.duplicate_window) == ("memory", 1, 2.5)
    assert consumer.max_ack_pending == 7


async def test_replicas_that_a_server_cannot_have_are_refused(tmp_path: Path) -> None:
    """One server alone: the error is the caller's, and holds the server's reason."""
    transport = connect_transport(f"{url_of('NATS', tmp_path)}&replicas=3")
    await transport.open()
    with pytest.raises(InvalidInput, match="replicas"):
        await transport.ensure([TopicSpec("t", ("g",))])
    await transport.close()


async def test_a_domain_and_an_inbox_of_ones_own(tmp_path: Path) -> None:
    """With the permissions that the guide gives, where answers may be heard below `inbox` alone."""
    (block,) = [each.text for each in markdown.blocks("docs/brokers/nats.md") if "permissions {" in each.text]
    permissions = (
        block.replace("permissions {", "{").replace("_INBOX", "_MINE").replace('"$JS', '"$JS.hub.API.>", "$JS', 1)
    )
    options = {
        "jetstream": f'{{store_dir: "{tmp_path}", domain: hub}}',
        "authorization": f"{{users: [{{user: edow, password: hush, permissions: {permissions}}}]}}",
    }
    with private_server(nats, options=options, password="hush") as box:
        async with opened(f"{box.url}?domain=hub&inbox=_MINE&prefix=edow.") as transport:
            await works(transport)
        with pytest.raises(InvalidInput, match=r"_inbox.*permit it to this user"):
            async with opened(f"{box.url}?domain=hub&prefix=edow.&request_timeout=0.5"):
                raise AssertionError


# how long is waited


@pytest.fixture
def silent() -> Iterator[str]:
    """An address at which somebody listens and says nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        yield f"nats://127.0.0.1:{listening.getsockname()[1]}"


async def test_a_server_that_says_nothing_is_given_up(silent: str) -> None:
    """After `connect_timeout`."""
    async with asyncio.timeout(SOON):
        with pytest.raises(TransportUnavailable, match="cannot be reached"):
            await connect_transport(f"{silent}?connect_timeout=0.2").open()


async def test_a_server_that_hangs_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    """Publishing fails after `publish_timeout`, everything else after `request_timeout`, and the connection is held to
    be lost after two pings, which are `ping_interval` apart; when the server is back all goes on.
    """

    def told(words: str) -> Callable[[], Awaitable[bool]]:
        async def look() -> bool:
            return words in caplog.text

        return look

    with private_server(nats) as box, caplog.at_level(logging.WARNING):
        options = "publish_timeout=1&request_timeout=1&ping_interval=1&partitions=0"
        async with opened(f"{box.url}?{options}") as transport:
            await asyncio.to_thread(box.pause)
            began = asyncio.get_running_loop().time()
            with pytest.raises(PublishFailed):
                await transport.publish([Message("t", b"lost")])
            with pytest.raises(Unavailable):
                await transport.describe(["t"])
            assert asyncio.get_running_loop().time() - began < 4.5
            async with asyncio.timeout(SOON):
                await until(told("is lost"))
                await asyncio.to_thread(box.resume)
                await until(told("is back"))
            await transport.publish([Message("t", b"x")])


# TLS and credentials


class Secure:
    """A server that speaks TLS with those whose certificate is its own."""

    def __init__(self, box: Box, folder: Path, first: bool) -> None:
        self._program = box.tools.python(nats.NAME) / "nats-server"
        self.certificate, self.key = make_certificate(folder)
        self.port = any_free()
        tls = f'cert_file: "{self.certificate}", key_file: "{self.key}", ca_file: "{self.certificate}", verify: true'
        self._settings = folder / "nats.conf"
        self._settings.write_text(
            f'host: 127.0.0.1\nport: {self.port}\njetstream: {{store_dir: "{folder}"}}\n'
            f"tls: {{{tls}, handshake_first: {str(first).lower()}}}\n"
        )

    async def __aenter__(self) -> Secure:
        self._process = subprocess.Popen([self._program, "--config", self._settings], stderr=subprocess.DEVNULL)
        async with asyncio.timeout(SOON):
            await until(self._listens)
        return self

    async def _listens(self) -> bool:
        with socket.socket() as trying:
            return trying.connect_ex(("127.0.0.1", self.port)) == 0

    async def __aexit__(self, *ignored: object) -> None:
        self._process.terminate()
        await asyncio.to_thread(self._process.wait)


@pytest.mark.parametrize("first", [False, True], ids=["after-the-greeting", "first"])
async def test_tls(tmp_path: Path, first: bool) -> None:
    """Each side knows the other by its certificate; who does not believe the server, or is not believed, is told."""
    with private_server(nats, start=False) as box:
        async with Secure(box, tmp_path, first) as server:
            url = f"nats://localhost:{server.port}?tls=true&tls_first={str(first).lower()}"
            mine = f"tls_cert={server.certificate}&tls_key={server.key}"
            async with opened(f"{url}&tls_ca={server.certificate}&{mine}") as transport:
                await works(transport)
            with pytest.raises(InvalidInput, match="TLS fails"):
                await connect_transport(f"{url}&{mine}").open()


@pytest.mark.parametrize(
    ("option", "content", "given"),
    [
        ("credentials", "-----BEGIN NATS USER JWT-----", "user_credentials"),
        ("nkey", "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY", "nkeys_seed"),
    ],
)
async def test_files_of_credentials_are_handed_to_the_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, content: str, given: str
) -> None:
    """The client library reads them, and signs what the server asks it to."""
    seen: dict[str, Any] = {}

    async def connecting(self: Client, **options: Any) -> None:
        seen.update(options)
        raise ConnectionRefusedError

    monkeypatch.setattr(Client, "connect", connecting)
    file = tmp_path / "file"
    file.write_text(content)
    urls: Mapping[str, str] = {"credentials": f"nats://h?credentials={file}", "nkey": f"nats://h?nkey={file}"}
    with pytest.raises(TransportUnavailable):
        await connect_transport(urls[option]).open()
    assert os.fspath(seen[given]) == os.fspath(file)
