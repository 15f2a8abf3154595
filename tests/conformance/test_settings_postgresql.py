"""Settings of a PostgreSQL URL that the drivers' other tests do not need: what they change."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from edow.address import Address
from edow.app import connect_store, connect_transport
from edow.errors import InvalidInput, StoreUnavailable, StoreUnusable
from edow.model.message import Message
from edow.store.contract import Store
from edow.testing.polling import until
from edow.transport.contract import TopicSpec
from scripts.servers import Box, postgres
from tests.conformance.certificates import make_certificate
from tests.conformance.postgresql import connection_to, own_schema, schema_of
from tests.conformance.store_suite import begin
from tests.conformance.transport_suite import PATIENCE
from tests.servers import private_server


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with own_schema() as url:
        yield url


async def test_a_process_has_so_many_connections(url: str) -> None:
    """`connections`, and one more to listen, however much is asked at a time."""
    name = schema_of(url)
    store = connect_store(f"{url}&connections=2&application_name={name}")
    await store.open()
    await asyncio.gather(*(store.executions_get([f"{number}"]) for number in range(50)))
    async with connection_to(url) as connection:
        count = await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE application_name = $1", name)
    assert count == 3
    await store.close()


async def test_the_largest_message(url: str) -> None:
    """`max_message_bytes` is the limit that is told, and kept to."""
    transport = connect_transport(f"{url}&max_message_bytes=100")
    await transport.open()
    assert transport.features.max_message_bytes == 100
    await transport.ensure([TopicSpec("t", ("g",))])
    await transport.publish([Message("t", b"x" * 100)])
    with pytest.raises(InvalidInput, match="101 bytes"):
        await transport.publish([Message("t", b"x" * 101)])
    await transport.close()


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    store = connect_store(url)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


# who we are, and who the server is


async def test_a_password_need_not_be_in_the_url(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PGPASSWORD, a file that `passfile` names, or one of services are read as other clients read them."""
    place = Address(url)
    without = url.replace(f":{place.password}@", "@")
    with pytest.raises(StoreUnusable, match="correct user and password"):
        await connect_store(without).open()
    with monkeypatch.context() as patch:
        patch.setenv("PGPASSWORD", str(place.password))
        async with opened(without):
            pass
    passwords, services = tmp_path / "pgpass", tmp_path / "services"
    passwords.write_text(f"*:*:*:*:{place.password}\n")
    passwords.chmod(0o600)
    async with opened(f"{without}&passfile={passwords}"):
        pass
    host, _, port = place.hosts[0].partition(":")
    known = {"host": host, "port": port, "dbname": place.path, "user": place.user, "password": place.password}
    services.write_text("[shop]\n" + "".join(f"{name}={value}\n" for name, value in known.items()))
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    async with opened(f"postgresql://?service=shop&schema={schema_of(url)}"):
        pass


def locked(box: Box, files: tuple[Path, Path]) -> None:
    """The server is started again to speak TLS alone, with those whose certificate its own authority has made."""
    for file in files:
        mine = box.data / file.name
        mine.write_bytes(file.read_bytes())
        mine.chmod(0o600)
        if box.account is not None:
            shutil.chown(mine, box.account, box.account)
    (box.data / "pg_hba.conf").write_text("hostssl all all all scram-sha-256 clientcert=verify-ca\n")
    certificate, key = (file.name for file in files)
    box.options = {"ssl": "on", "ssl_cert_file": certificate, "ssl_key_file": key, "ssl_ca_file": certificate}
    box.restart()


async def test_tls_is_checked_on_both_sides(tmp_path: Path) -> None:
    """State, messages and wake-ups all go through it. Who does not believe the server is told, and so is whom the
    server does not believe.
    """
    (tmp_path / "other").mkdir()
    certificate, key = make_certificate(tmp_path)
    stranger, _ = make_certificate(tmp_path / "other")
    with private_server(postgres) as box:
        await asyncio.to_thread(locked, box, (certificate, key))
        url, mine = f"{box.url}?sslmode=verify-full", f"sslcert={certificate}&sslkey={key}"
        trusting = f"{url}&sslrootcert={certificate}&{mine}"
        async with opened(trusting) as store:
            await begin(store, "a")
            transport = connect_transport(trusting)
            await transport.open()
            await transport.ensure([TopicSpec("t", ("g",))])
            await transport.publish([Message("t", b"x")])
            behind = await asyncpg.connect(trusting)
            ours = "SELECT count(*), count(*) FILTER (WHERE ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
            connections, encrypted = await behind.fetchrow(f"{ours} WHERE application_name = 'edow'")
            await behind.close()
            await transport.close()
        assert connections == encrypted > 1
        with pytest.raises(StoreUnusable, match=r"certificate that is not trusted.*sslrootcert="):
            await connect_store(f"{url}&sslrootcert={stranger}&{mine}").open()
        with pytest.raises(StoreUnusable, match=r"client certificate.*pg_hba\.conf"):
            await connect_store(f"{url}&sslrootcert={certificate}").open()
        with pytest.raises(InvalidInput, match=r"sslcert=.*missing\.pem is no file"):
            connect_store(f"{url}&sslcert={tmp_path}/missing.pem")


# several servers


@pytest.fixture
def pair() -> Iterator[tuple[Box, Box]]:
    """A server, and a standby that follows it."""
    with private_server(postgres) as primary, private_server(postgres, start=False) as standby:
        copy = primary.tools.program("pg_basebackup", "postgresql", also_in=["/usr/lib/postgresql/*/bin"])
        place = ["--host", primary.host, "--port", str(primary.port), "--username", "edow"]
        words = [copy, *place, "--pgdata", standby.data, "--write-recovery-conf", "--checkpoint", "fast"]
        subprocess.run(words, env={"PGPASSWORD": primary.password}, check=True, capture_output=True)
        if standby.account is not None:
            subprocess.run(["chown", "-R", f"{standby.account}:", standby.data], check=True)
        standby.start()
        yield primary, standby


@pytest.mark.timeout(120)  # three servers start
async def test_the_primary_is_found_and_followed(pair: tuple[Box, Box]) -> None:
    """Of several hosts, with `target_session_attrs=primary`, and after a failover the new one, by those who live on."""
    primary, standby = pair
    with pytest.raises(StoreUnusable, match=r"is a standby.*target_session_attrs=primary"):
        await connect_store(standby.url).open()
    both = primary.url.replace(f":{primary.port}/", f":{standby.port},{primary.host}:{primary.port}/")
    async with opened(f"{both}?target_session_attrs=primary&connect_timeout=2") as store:
        await begin(store, "a")
        behind = await asyncpg.connect(standby.url)

        async def followed() -> bool:
            return bool(await behind.fetchval("SELECT to_regclass('edow.executions') IS NOT NULL")) and bool(
                await behind.fetchval("SELECT count(*) FROM edow.executions")
            )

        async def goes_on() -> bool:
            try:
                return bool(await begin(store, "b"))
            except StoreUnavailable:
                return False

        async with asyncio.timeout(PATIENCE):
            await until(followed)
            await asyncio.to_thread(primary.kill)
            assert await behind.fetchval("SELECT pg_promote()")
            await behind.close()
            await until(goes_on)
        found = await store.executions_get(["a", "b"])
    assert [row is not None for row in found] == [True, True]
