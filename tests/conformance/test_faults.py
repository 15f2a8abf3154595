"""Executions end as they should, and effects apply once, over transports that lose, double, delay and reorder."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

import edow
from edow.app import System
from edow.engine import steps
from edow.testing.faults import Faults, FaultyTransport
from tests.conformance import matrix
from tests.conformance.transports import each_transport, url_of
from tests.integration.system import registry_of

EXECUTIONS = 30
PARALLEL = 5
SECONDS = 50
LEDGER = "EDOW_TEST_LEDGER"


@edow.task(retry=edow.Retry(attempts=5, initial="10ms"))
async def count(key: str) -> int:
    with closing(sqlite3.connect(os.environ[LEDGER], timeout=30)) as database:
        async with edow.once(database) as first:
            if first:
                database.execute("INSERT INTO effects VALUES (?)", (key,))
    return len(key)


@edow.workflow
async def work(key: str) -> int:
    total = await count(f"{key}-first")
    total += sum(await asyncio.gather(*(count(f"{key}-{number}") for number in range(PARALLEL))))
    return total + await count(f"{key}-last")


REGISTRY = registry_of(globals())

FAULTS = {
    "lost": Faults(lost=0.1),
    "doubled": Faults(doubled=0.5),
    "late": Faults(late=0.3),
    "reordered": Faults(reordered=0.9),
    "all": Faults(lost=0.05, doubled=0.2, late=0.2, reordered=0.5),
}


@each_transport
@pytest.mark.parametrize(
    "fault", [pytest.param(name, marks=pytest.mark.proves(matrix.FAULTS[name])) for name in FAULTS]
)
async def test_every_execution_ends_and_every_effect_applies_once(
    name: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the transport does to messages that it has acknowledged."""
    monkeypatch.setattr(steps, "FIRST_LOOK", 500_000)
    monkeypatch.setattr(steps, "LAST_LOOK", 2_000_000)
    monkeypatch.setenv(LEDGER, str(tmp_path / "ledger.db"))
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as ledger:
        ledger.execute("PRAGMA journal_mode = WAL")
        ledger.execute("CREATE TABLE effects (key TEXT)")
        system = System(f"sqlite:///{tmp_path / 'store.db'}", url_of(name, tmp_path), REGISTRY)
        system.transport = faulty = FaultyTransport(system.transport, FAULTS[fault], Random(fault))
        async with system, edow.Client(store=system.store) as client:
            orchestrator, worker = system.orchestrator(), system.worker(grace_seconds=0.1)
            await orchestrator.start()
            await worker.start()
            handles = await client.start_many(work, [(f"{number:03}",) for number in range(EXECUTIONS)])
            async with asyncio.timeout(SECONDS):
                assert {await handle.result() for handle in handles} == {9 + PARALLEL * 5 + 8}
            await worker.stop()
            await orchestrator.stop()
        keys = [key for (key,) in ledger.execute("SELECT key FROM effects")]
    assert len(keys) == len(set(keys)) == EXECUTIONS * (PARALLEL + 2)
    assert sum(faulty.happened.values()) > 0
