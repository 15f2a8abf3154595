"""Event triggers over real brokers: a process is killed in the middle, and each event is applied once."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path

import pytest

import edow
from edow.app import System, connect_transport
from edow.client.triggers import TriggerSpec
from edow.model.message import Message
from edow.store.contract import Store
from edow.transport.contract import TopicSpec
from tests.conformance.transports import url_of
from tests.integration.trigger.stores import signals

EVENTS = 300
SECONDS = 100.0
CHILD = """
import asyncio, sys
from edow.app import System
from edow.trigger import tally

tally.FLUSH_SECONDS = 0.2

async def main() -> None:
    async with System(sys.argv[1], sys.argv[2]) as system:
        await system.events().start()
        print("ready", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def child(store: str, transport: str) -> asyncio.subprocess.Process:
    """A process that applies events, ready."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, store, transport, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    return process


async def applied(store: Store, least: int) -> list[object]:
    """The signals' values, once there are so many."""
    watch = store.watch("inbox")
    async with asyncio.timeout(SECONDS):
        while len(found := await signals(store, "all")) < least:
            await watch.wait(0.1)
    watch.close()
    return found


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", ["SQLITE", "POSTGRES", "REDIS", "NATS", "KAFKA", "RABBITMQ"])
async def test_a_killed_process_loses_no_event_and_applies_none_twice(name: str, tmp_path: Path):
    """One of two is killed while it is at it; another one comes; the messages are published in two halves."""
    url, place = url_of(name, tmp_path), f"sqlite:///{tmp_path}/store.db"
    spec = TriggerSpec(name="t", topic="things", mode="signal", signal="s", id="body.to", value="body.n")
    async with System(place) as system, edow.Client(store=system.store) as client:
        await client.start_named("w", {}, id="all")
        await client.triggers().create(spec)
        transport = connect_transport(url)
        await transport.open()
        await transport.ensure([TopicSpec("things", ("edow-trigger-t",))])
        event = {"specversion": "1.0", "source": "/test", "type": "t"}
        messages = [
            Message("things", json.dumps(event | {"id": str(n), "data": {"to": "all", "n": n}}).encode(), str(n % 7))
            for n in range(EVENTS)
        ]
        processes = [*await asyncio.gather(child(place, url), child(place, url))]
        try:
            await transport.publish(messages[: EVENTS // 2])
            await applied(system.store, 20)
            processes[0].kill()
            await processes[0].wait()
            processes.append(await child(place, url))
            await transport.publish(messages[EVENTS // 2 :])
            await transport.publish(messages[::10])
            await applied(system.store, EVENTS)
            await all_read(system.store, client)
        finally:
            for process in processes[1:]:
                process.kill()
                await process.wait()
            await transport.close()
        values = Counter(await signals(system.store, "all"))
        assert values == dict.fromkeys(range(EVENTS), 1)


async def all_read(store: Store, client: edow.Client) -> None:
    """Until also those that were published again have been seen, and known."""
    watch = store.watch("inbox")
    async with asyncio.timeout(SECONDS):
        while (await client.triggers().get("t")).counts["duplicate"] < EVENTS // 10:
            await watch.wait(0.2)
    watch.close()
