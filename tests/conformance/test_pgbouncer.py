"""Behind PgBouncer in transaction mode, where no two transactions of a client need be on the same connection."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import edow
from edow.address import Address
from edow.app import System
from edow.client import Client
from edow.client.forwarder import Forwarder
from edow.errors import StoreUnusable
from edow.model.message import Message
from edow.store.contract import Commit
from edow.testing.polling import until
from edow.transport.contract import Subscription
from scripts.servers.ports import any_free
from tests.conformance.postgresql import Joined, connection_to, own_schema
from tests.conformance.store_suite import begin, one, own
from tests.conformance.transport_suite import SOON, drain
from tests.integration.system import registry_of
from tests.servers import program

CONFIGURATION = """
[databases]
* = host={host} port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
pool_mode = transaction
default_pool_size = 3
"""


@edow.task
async def double(number: int) -> int:
    return 2 * number


@edow.workflow
async def follow_up(number: int) -> int:
    return await double(number)


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with own_schema() as url:
        yield url


@pytest.fixture
def pooled(url: str, tmp_path: Path) -> Iterator[str]:
    """The same through a pooler that has fewer connections than it has clients."""
    pgbouncer = program("pgbouncer", "pgbouncer")
    address, port = Address(url), any_free()
    host, _, far = address.hosts[0].partition(":")
    users = tmp_path / "users.txt"
    users.write_text(f'"{address.user}" "{address.password}"\n')
    settings = tmp_path / "pgbouncer.ini"
    settings.write_text(CONFIGURATION.format(host=host, port=far or 5432, own=port, users=users))
    as_root = {"user": "nobody"} if os.geteuid() == 0 else {}
    for place in (tmp_path, users, settings):
        place.chmod(0o755)
    for parent in tmp_path.parents[:3]:
        if parent.stat().st_uid == os.geteuid():
            parent.chmod(0o755)
    with subprocess.Popen([pgbouncer, "-q", settings], stderr=subprocess.PIPE, **as_root) as pooler:  # type: ignore[call-overload]
        wait_for(port)
        yield url.replace(address.hosts[0], f"127.0.0.1:{port}")
        pooler.terminate()


def wait_for(port: int) -> None:
    """The pooler needs a moment to listen."""
    end = time.monotonic() + SOON
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            assert time.monotonic() < end, "it does not listen"
            time.sleep(0.01)


@pytest.mark.parametrize("listen", ["off", "direct"])
async def test_everything_works_behind_a_pooler(url: str, pooled: str, listen: str) -> None:
    """Opening, committing, claiming and being woken, with several processes' worth of connections."""
    options = "&prepare=false&poll=0.02&listen=" + ("off" if listen == "off" else Address(url).hosts[0])
    systems = [Joined(pooled + options) for _ in range(4)]
    await asyncio.gather(*(each.open() for each in systems))
    leases = await own(systems[0].store)
    await asyncio.gather(
        *(begin(each.store, *(f"{number}-{n}" for n in range(20))) for number, each in enumerate(systems))
    )
    assert (await one(systems[1].store, "0-7")).id == "0-7"
    workers = [await each.transport.subscribe(Subscription(topics=("tasks",), group="workers")) for each in systems]
    receiving = asyncio.create_task(drain(workers[1], 1))
    await systems[0].store.commit(Commit(leases=leases, messages=[Message("tasks", b"x", "key")]))
    async with asyncio.timeout(SOON):
        done, _ = await asyncio.wait([receiving])
    assert [task.result() for task in done] == [[b"x"]]
    for each in systems:
        await each.close()


async def test_listening_through_the_pooler_is_found_out(
    url: str, pooled: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Notifications get lost there: it is told with the remedy, and waiters look for themselves."""
    here, there = Joined(pooled + "&prepare=false&poll=0.02"), Joined(url)
    await here.open()
    await there.open()
    watch = here.store.watch("inbox")
    await begin(there.store, "a")
    async with asyncio.timeout(SOON):
        assert await watch.wait(SOON)
    watch.close()
    await here.close()
    await there.close()
    assert "listen=HOST:PORT" in caplog.text


async def test_executions_end_and_outboxes_are_emptied_behind_a_pooler(url: str, pooled: str) -> None:
    """Where nobody hears of anything: an orchestrator, a worker and the starts of a program's own database look for
    themselves.
    """
    there = f"{pooled}&prepare=false"
    async with System(there, there, registry_of(globals())) as system, Client(store=system.store) as client:
        parts = [system.orchestrator(), system.worker(), Forwarder(pooled, system.store)]
        for part in parts:
            await part.start()
        handles = await client.start_many(follow_up, [(number,) for number in range(20)])
        async with connection_to(url) as connection:
            await connection.execute(
                "INSERT INTO edow_outbox (execution, workflow, input, trace, at)"
                " VALUES ('outside', 'follow_up', '{\"number\": 21}', '', 1)"
            )
        async with asyncio.timeout(4 * SOON):
            assert [await handle.result() for handle in handles] == [2 * number for number in range(20)]
            await until(lambda: exists(system, "outside"))
            assert await client.get("outside").result() == 42
        for part in reversed(parts):
            await part.stop()


async def exists(system: System, id: str) -> bool:
    return await system.store.executions_get([id]) != [None]


async def test_a_pooler_that_keeps_no_prepared_statements_says_what_to_write(pooled: str) -> None:
    """The error names the option of the URL."""
    systems = [Joined(pooled) for _ in range(4)]

    async def use(system: Joined) -> None:
        await system.open()
        while True:
            await asyncio.gather(*(system.store.executions_get([str(number)]) for number in range(10)))

    async with asyncio.timeout(SOON):
        with pytest.raises(StoreUnusable, match="prepare=false"):
            await asyncio.gather(*map(use, systems))
    for each in systems:
        await each.close()
