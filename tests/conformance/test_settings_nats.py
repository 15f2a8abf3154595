"""Settings of a NATS URL that the suite does not need: what they change, on a real server."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import nkeys
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


class Alone:
    """A server with these settings, and no user or password of ours."""

    def __init__(self, box: Box, folder: Path, settings: str) -> None:
        self._program = box.tools.python(nats.NAME) / "nats-server"
        self.port = any_free()
        self._settings = folder / "nats.conf"
        self._settings.write_text(
            f'host: 127.0.0.1\nport: {self.port}\njetstream: {{store_dir: "{folder}"}}\n{settings}\n'
        )

    async def __aenter__(self) -> Alone:
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
    certificate, key = make_certificate(tmp_path)
    files = f'cert_file: "{certificate}", key_file: "{key}", ca_file: "{certificate}", verify: true'
    settings = f"tls: {{{files}, handshake_first: {str(first).lower()}}}"
    with private_server(nats, start=False) as box:
        async with Alone(box, tmp_path, settings) as server:
            url = f"nats://localhost:{server.port}?tls=true&tls_first={str(first).lower()}"
            mine = f"tls_cert={certificate}&tls_key={key}"
            async with opened(f"{url}&tls_ca={certificate}&{mine}") as transport:
                await works(transport)
            with pytest.raises(InvalidInput, match="TLS fails"):
                await connect_transport(f"{url}&{mine}").open()


class Signer:
    """A key pair that says who somebody is, in NATS's own form."""

    def __init__(self, kind: int) -> None:
        self.seed = nkeys.encode_seed(os.urandom(32), kind)
        self._pair = nkeys.from_seed(self.seed)
        self.public = self._pair.public_key.decode()

    def vouch(self, whom: Signer, about: dict[str, Any]) -> str:
        """A JWT in which this one says what that one is."""
        head = {"typ": "JWT", "alg": "ed25519-nkey"}
        claims = {"jti": whom.public, "iat": 1, "iss": self.public, "sub": whom.public, "name": "test", "nats": about}
        signed = f"{_base64(json.dumps(head).encode())}.{_base64(json.dumps(claims).encode())}"
        return f"{signed}.{_base64(self._pair.sign(signed.encode()))}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


async def test_a_seed_says_who_we_are(tmp_path: Path) -> None:
    """`nkey`: the server knows our public key and has us sign; of another it does not let us in."""
    user, stranger = Signer(nkeys.PREFIX_BYTE_USER), Signer(nkeys.PREFIX_BYTE_USER)
    for name, each in (("mine", user), ("other", stranger)):
        (tmp_path / name).write_bytes(each.seed)
    settings = f"authorization: {{users: [{{nkey: {user.public}}}]}}"
    with private_server(nats, start=False) as box:
        async with Alone(box, tmp_path, settings) as server:
            url = f"nats://127.0.0.1:{server.port}?nkey={tmp_path}"
            async with opened(f"{url}/mine") as transport:
                await works(transport)
            with pytest.raises(InvalidInput, match="credentials"):
                await connect_transport(f"{url}/other").open()


async def test_credentials_say_who_we_are(tmp_path: Path) -> None:
    """`credentials`: a file with a JWT, which an account that the server's operator vouches for has signed, and our
    seed; of another account's user the server does not let us in.
    """
    operator = Signer(nkeys.PREFIX_BYTE_OPERATOR)
    system, account, unknown = (Signer(nkeys.PREFIX_BYTE_ACCOUNT) for _ in range(3))
    everything = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
    streams = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)
    theirs = {"type": "account", "version": 2, "limits": {**everything, "wildcards": True}}
    ours = {**theirs, "limits": {**everything, **streams, "wildcards": True}}
    accounts = f"{account.public}: {operator.vouch(account, ours)}, {system.public}: {operator.vouch(system, theirs)}"
    settings = (
        f"operator: {operator.vouch(operator, {'type': 'operator', 'version': 2})}\nresolver: MEMORY\n"
        f"system_account: {system.public}\nresolver_preload: {{{accounts}}}"
    )
    for name, signer in (("mine", account), ("other", unknown)):
        user = Signer(nkeys.PREFIX_BYTE_USER)
        about = {"type": "user", "version": 2, **dict.fromkeys(("subs", "data", "payload"), -1)}
        (tmp_path / name).write_text(
            f"-----BEGIN NATS USER JWT-----\n{signer.vouch(user, about)}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
        )
    with private_server(nats, start=False) as box:
        async with Alone(box, tmp_path, settings) as server:
            url = f"nats://127.0.0.1:{server.port}?credentials={tmp_path}"
            async with opened(f"{url}/mine") as transport:
                await works(transport)
            with pytest.raises(InvalidInput, match="credentials"):
                await connect_transport(f"{url}/other").open()
