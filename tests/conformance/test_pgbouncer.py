"""Behind PgBouncer in transaction mode, where no two transactions of a client need be on the same connection."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from edow.address import Address
from edow.model.message import Message
from edow.store.contract import Commit
from edow.transport.contract import Subscription
from scripts.servers.ports import any_free
from tests.conformance.postgresql import Joined, own_schema
from tests.conformance.store_suite import begin, one, own
from tests.conformance.transport_suite import SOON, drain

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


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with own_schema() as url:
        yield url


@pytest.fixture
def pooled(url: str, tmp_path: Path) -> Iterator[str]:
    """The same through a pooler that has fewer connections than it has clients."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed: apt-get install pgbouncer")
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
    with subprocess.Popen([program, "-q", settings], stderr=subprocess.PIPE, **as_root) as pooler:  # type: ignore[call-overload]
        yield url.replace(address.hosts[0], f"127.0.0.1:{port}")
        pooler.terminate()


@pytest.mark.parametrize("listen", ["off", "direct"])
async def test_everything_works_behind_a_pooler(url: str, pooled: str, listen: str) -> None:
    """Opening, committing, claiming and being woken, with several processes' worth of connections."""
    options = "&prepare=false&poll=0.02&listen=" + ("off" if listen == "off" else Address(url).hosts[0])
    systems = [Joined(pooled + options) for _ in range(4)]
    await open_when_ready(systems[0])
    await asyncio.gather(*(each.open() for each in systems[1:]))
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
    await open_when_ready(here)
    await there.open()
    watch = here.store.watch("inbox")
    await begin(there.store, "a")
    async with asyncio.timeout(SOON):
        assert await watch.wait(SOON)
    watch.close()
    await here.close()
    await there.close()
    assert "listen=HOST:PORT" in caplog.text


async def open_when_ready(system: Joined) -> None:
    """The pooler needs a moment to listen."""
    async with asyncio.timeout(SOON):
        while True:
            try:
                return await system.open()
            except Exception:
                await asyncio.sleep(0.02)
