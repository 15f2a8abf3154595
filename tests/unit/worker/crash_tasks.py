"""A worker process on a SQLite file, and tasks that take it down: `python -m tests.unit.worker.crash_tasks FILE`."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import edow
from edow.sqlite import SqliteFile
from edow.transport.sqlite import SqliteTransport
from edow.worker.config import WorkerConfig
from edow.worker.ledger import once
from edow.worker.worker import Worker
from edow.workflow.registry import Registry

LEASE_SECONDS = 0.6


@edow.task
async def hang(seconds: float) -> int:
    """Answers with how often it was delivered."""
    await asyncio.sleep(seconds if edow.context().delivery_count == 1 else 0)
    return edow.context().delivery_count


@edow.task
def add_and_die(path: str) -> int:
    """Adds one; then, when it was the first to do so, kills its process before anything can be acknowledged."""
    connection = sqlite3.connect(path)
    with once(connection) as effect:
        if effect:
            connection.execute("UPDATE counter SET value = value + 1")
    connection.close()
    if effect:
        os.kill(os.getpid(), signal.SIGKILL)
    return edow.context().delivery_count


@edow.task(cpu=True)
def compute_for_ever() -> str:
    """The first delivery tells that it has begun and computes for ever, the second answers."""
    if edow.context().delivery_count > 1:
        return "taken over"
    edow.context().heartbeat()
    while True:
        time.sleep(0.001)


def registry() -> Registry:
    found = Registry()
    for task in (hang, add_and_die, compute_for_ever):
        found.add(task)
    return found


@asynccontextmanager
async def worker_on(path: str | Path) -> AsyncIterator[tuple[Worker, SqliteTransport]]:
    transport = SqliteTransport(SqliteFile(Path(path)))
    await transport.open()
    worker = Worker(transport, registry(), WorkerConfig(lease_seconds=LEASE_SECONDS, tick_seconds=0.01))
    await worker.start()
    try:
        yield worker, transport
    finally:
        await worker.stop(0)
        await transport.close()


async def main(path: str) -> None:
    async with worker_on(path):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
