"""Crashes at every persisted boundary: real processes, SIGKILL, nothing lost and nothing applied twice.

One run through `crash_flow` for each boundary that a role passes on the way, in which that process dies there and an
ordinary one replaces it, until one in which it passes no more boundaries than that. The suite runs on one shared file
(state and messages commit together) and on two files (outbox, publish, acknowledge: the shape that every broker has).
"""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import edow
from tests.acceptance import crash_child, crash_flow
from tests.forks import Fork

ORDERS = {1: False, 2: True}
MOST = 120  # more boundaries than any role passes; those beyond the last one are not run


class World:
    """One store, one effects database, and the processes that work on them."""

    def __init__(self, folder: Path, store: str, transport: str) -> None:
        self.folder = folder
        self.store = store
        self.transport = transport
        self.effects = folder / "effects.db"
        connection = sqlite3.connect(self.effects)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE applied (name TEXT)")
        connection.commit()
        connection.close()

    def spawn(self, role: str, crash_at: int = 0) -> Fork:
        return Fork(crash_child.run, role, self.store, self.transport, crash_at, str(self.effects))

    async def run(self, role: str, crash_at: int) -> bool:
        """Everything to its end with `role` crashing at a boundary; False if that boundary was never reached."""
        crashing = self.spawn(role, crash_at)
        other = self.spawn("worker" if role == "orchestrator" else "orchestrator")
        replacement: Fork | None = None
        try:
            async with edow.Client(self.store) as client, asyncio.TaskGroup() as group:
                ends = [group.create_task(self.order(client, number)) for number in ORDERS]
                died = group.create_task(crashing.wait())
                everything = asyncio.gather(*ends)
                await asyncio.wait({died, everything}, return_when=asyncio.FIRST_COMPLETED)
                if died.done():
                    assert died.result() == -signal.SIGKILL, f"{role} ended before boundary {crash_at}"
                    replacement = self.spawn(role)
                await everything
                if not died.done():
                    crashing.terminate()
            return replacement is not None
        finally:
            for process in (crashing, other, replacement):
                if process is not None and process.returncode is None:
                    process.terminate()
                    await process.wait()

    async def order(self, client: edow.Client, number: int) -> None:
        handle = await client.start(crash_flow.order.with_options(id=f"order-{number}"), number, refuse=ORDERS[number])
        if ORDERS[number]:  # whatever comes meanwhile is kept over every crash
            await handle.pause()
            await self.parked(handle)
        await handle.signal("approved", True)
        if ORDERS[number]:
            await handle.resume()
        if ORDERS[number]:
            with pytest.raises(edow.WorkflowFailed, match="Refused"):
                await handle.result(timeout=30)
        else:
            assert await handle.result(timeout=30) == f"receipt {number}, 3 boxes, parcel {number}, True"

    async def parked(self, handle: edow.Handle[object]) -> None:
        async with asyncio.timeout(30):
            while (await handle.describe()).status != "parked":  # noqa: ASYNC110  # another process's doing
                await asyncio.sleep(0.02)

    def applied(self) -> Counter[str]:
        connection = sqlite3.connect(self.effects)
        try:
            return Counter(name for (name,) in connection.execute("SELECT name FROM applied"))
        finally:
            connection.close()


EXPECTED = Counter(name for number, refuse in ORDERS.items() for name in crash_flow.expected(number, refuse=refuse))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("joined", [True, False], ids=["one-file", "two-files"])
@pytest.mark.parametrize("role", ["orchestrator", "worker"])
async def test_crash_at_every_boundary(tmp_path: Path, role: str, joined: bool) -> None:
    """Whichever persisted boundary a process dies at, every order ends as it should and every effect is applied
    once.
    """

    def make(folder: Path) -> World:
        store = f"sqlite:///{folder / 'edow.db'}"
        return World(folder, store, store if joined else f"sqlite:///{folder / 'messages.db'}")

    await crash_everywhere(role, tmp_path, make)


async def crash_everywhere(role: str, tmp_path: Path, make: Callable[[Path], World]) -> None:
    """At each boundary in turn, each in a world of its own."""
    limit = asyncio.Semaphore(3)
    passed = [0]

    async def one(crash_at: int) -> None:
        async with limit:
            if passed[0] and crash_at > passed[0]:
                return
            folder = tmp_path / str(crash_at)
            folder.mkdir()
            world = make(folder)
            reached = await world.run(role, crash_at)
            assert world.applied() == EXPECTED, f"{role} killed at boundary {crash_at}"
            if not reached:
                passed[0] = min(passed[0] or crash_at, crash_at)

    async with asyncio.TaskGroup() as group:
        for crash_at in range(1, MOST):
            group.create_task(one(crash_at))
    assert passed[0] > 10, "the flow must pass more boundaries than that"
