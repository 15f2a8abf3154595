"""A whole system in one process for tests: store, transport, orchestrators, a worker and a client.

`hot` 0 evicts every execution after every batch, so that each step is a replay.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import edow
from edow.app import System
from edow.orchestrator import Orchestrator
from edow.store.contract import Watch
from edow.workflow.registry import Registry

SECONDS = 20.0  # a test that waits longer has failed
QUICK: dict[str, Any] = {"lease_ttl": 1.0, "horizon": 0.5, "reconcile_every": 0.2}
MODES = ("joined", "joined-cold", "separate", "separate-cold")


def registry_of(namespace: Mapping[str, object]) -> Registry:
    """The tasks and workflows in a module's (or function's) namespace."""
    registry = Registry()
    for value in list(namespace.values()):
        registry.add(value)
    return registry


@dataclass
class Setup:
    """Where a system's files are, and how its parts are configured."""

    folder: Path
    mode: str = "joined"
    config: dict[str, Any] = field(default_factory=dict)

    def system(self, registry: Registry) -> System:
        transport = f"sqlite:///{self.folder}/transport.db" if self.mode.startswith("separate") else None
        return System(f"sqlite:///{self.folder}/store.db", transport, registry)

    def orchestrator_config(self) -> dict[str, Any]:
        return QUICK | ({"hot": 0} if self.mode.endswith("cold") else {}) | self.config


@dataclass
class Running:
    """What a test holds in hand."""

    system: System
    client: edow.Client
    orchestrator: Orchestrator
    number: int = field(default_factory=itertools.count(1).__next__)  # no other has it, while an id() comes again


@asynccontextmanager
async def running(
    setup: Setup, registry: Registry, *, worker: bool = True, change: Callable[[System], None] | None = None
) -> AsyncIterator[Running]:
    """Everything up and serving. `change` may wrap the system's store or transport first."""
    async with setup.system(registry) as system:
        if change is not None:
            change(system)
        orchestrator = system.orchestrator(**setup.orchestrator_config())
        hands = system.worker(grace_seconds=0.1, topics=("default",)) if worker else None
        async with edow.Client(store=system.store) as client:
            await orchestrator.start()
            if hands is not None:
                await hands.start()
            await orchestrator.ready.wait()
            try:
                yield Running(system, client, orchestrator)
            finally:
                if hands is not None:
                    await hands.stop()
                await orchestrator.stop()


async def happened(event: threading.Event) -> None:
    """Tasks may run on another thread than the test."""
    assert await asyncio.to_thread(event.wait, SECONDS), "it never happened"


async def until(condition: Callable[[], Awaitable[bool]], watch: Watch | None = None) -> None:
    """For what is told by nothing but the store."""
    async with asyncio.timeout(SECONDS):
        while not await condition():
            if watch is None:
                await asyncio.sleep(0.01)
            else:
                await watch.wait(0.05)


async def has_status(handle: edow.Handle[Any], status: str) -> None:
    """Until the execution is in that state."""

    async def there() -> bool:
        return (await handle.describe()).status == status

    await until(there)
