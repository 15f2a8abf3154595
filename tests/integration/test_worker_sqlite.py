"""Workers on the embedded transport, as real processes that are really killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from edow.model import topics, wire
from edow.model.message import Message
from edow.sqlite import SqliteFile
from edow.transport.contract import Subscriber, Subscription, TopicSpec
from edow.transport.sqlite import SqliteTransport
from tests.unit.worker.crash_tasks import worker_on
from tests.unit.worker.harness import RESULTS, task_event, value

ROOT = Path(__file__).parent.parent.parent
TASKS = topics.task_topic("default")


class Desk:
    """What the orchestrator would do: publish task events, read result events."""

    def __init__(self, path: Path, transport: SqliteTransport, results: Subscriber) -> None:
        self.path = path
        self._transport = transport
        self._results = results

    async def send(self, *events: wire.TaskEvent) -> None:
        await self._transport.publish([Message(TASKS, wire.encode(event), event.partitionkey) for event in events])

    async def results(self, count: int) -> list[wire.ResultEvent]:
        found: list[wire.ResultEvent] = []
        while len(found) < count:
            deliveries = await self._results.receive(1_000, 1.0)
            found.extend(wire.decode_result(delivery.body) for delivery in deliveries)
            await self._results.ack(deliveries)
        return found


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    path = tmp_path / "edow.db"
    transport = SqliteTransport(SqliteFile(path))
    await transport.open()
    await transport.ensure([TopicSpec(RESULTS, (topics.ORCHESTRATORS,)), TopicSpec(TASKS, (topics.WORKERS,))])
    results = await transport.subscribe(Subscription(topics=(RESULTS,), group=topics.ORCHESTRATORS, mode="exclusive"))
    yield Desk(path, transport, results)
    await transport.close()


@asynccontextmanager
async def worker_process(path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A worker in a process of its own, ready when this is entered."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.unit.worker.crash_tasks",
        str(path),
        cwd=ROOT,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_takeover(desk: Desk) -> None:
    """What a killed worker had in its hands another one does, without anybody's help."""
    async with worker_process(desk.path) as process:
        await desk.send(*(task_event("hang", {"seconds": 60}, step=f"s{i}", startby="2999-01-01") for i in range(20)))
        assert {result.outcome for result in await desk.results(20)} == {"started"}
        process.kill()
        await process.wait()
        async with worker_on(desk.path):
            results = await desk.results(40)
    completed = [result for result in results if result.outcome == "completed"]
    assert sorted(result.step for result in completed) == sorted(f"s{i}" for i in range(20))
    assert {value(result) for result in completed} == {2}


async def test_killed_between_effect_and_acknowledgement(desk: Desk, tmp_path: Path) -> None:
    """A worker that dies after its task's effect and before the acknowledgement leaves an effect that applies once."""
    own = tmp_path / "own.db"
    connection = sqlite3.connect(own)
    connection.execute("CREATE TABLE counter AS SELECT 0 AS value")
    connection.commit()
    async with worker_process(desk.path) as process:
        await desk.send(task_event("add_and_die", {"path": str(own)}))
        assert await process.wait() == -signal.SIGKILL
        assert connection.execute("SELECT value FROM counter").fetchone() == (1,)
        async with worker_on(desk.path):
            told, result = await desk.results(2)
    assert told.outcome == "started"  # so that the orchestrator can say whether anybody still waits for it
    assert (result.outcome, value(result)) == ("completed", 2)
    assert connection.execute("SELECT value FROM counter").fetchone() == (1,)
    assert connection.execute("SELECT key, attempt FROM edow_effects").fetchall() == [("e/1/add_and_die", 1)]
    connection.close()


async def test_children_end_with_their_worker(desk: Desk) -> None:
    """A killed worker leaves no task processes behind, and what they did is taken over."""
    async with worker_process(desk.path) as process:
        await desk.send(task_event("compute_for_ever"))
        (beat,) = await desk.results(1)
        process.kill()
        assert process.stderr is not None
        await process.stderr.read()  # its end is reached when the last process that has it open has ended
        async with worker_on(desk.path):
            _, result = await desk.results(2)
    assert beat.outcome == "heartbeat"
    assert value(result) == "taken over"


async def test_many_workers(desk: Desk) -> None:
    """Two workers on one file share the work: each event is answered once."""
    async with worker_on(desk.path) as (one, _), worker_on(desk.path) as (two, _):
        await desk.send(*(task_event("hang", {"seconds": 0}, step=f"s{i}") for i in range(3_000)))
        results = await desk.results(3_000)
        ended = one.stats().ended + two.stats().ended
    assert len({result.step for result in results}) == ended == 3_000


async def test_long_task_is_not_delivered_again(desk: Desk) -> None:
    """A task that outlasts its lease by far runs once: its worker renews the lease."""
    async with worker_on(desk.path), worker_on(desk.path):
        await desk.send(task_event("hang", {"seconds": 2.0}))
        (result,) = await desk.results(1)
    assert value(result) == 1
