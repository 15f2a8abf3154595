"""A real orchestrator or worker process that kills itself at one persisted boundary. Run by `test_crash.py`."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import cast

from edow.app import System, load_registry
from edow.store.contract import Store
from edow.testing.boundaries import BoundaryStore, BoundaryTransport, Countdown
from edow.transport.contract import Transport


def run(role: str, store: str, transport: str, crash_at: int, effects: str) -> None:
    """Until SIGTERM, or the boundary. What tasks do goes to `effects`."""
    os.environ["EDOW_TEST_EFFECTS"] = effects
    asyncio.run(main(role, store, transport, crash_at))


async def main(role: str, store: str, transport: str, crash_at: int) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    registry = load_registry([str(Path(__file__).parent / "crash_flow.py")])
    async with System(store, transport, registry) as system:
        countdown = Countdown(crash_at)
        system.store = cast(Store, BoundaryStore(system.store, countdown))
        system.transport = cast(Transport, BoundaryTransport(system.transport, countdown))
        service = system.orchestrator(lease_ttl=0.6) if role == "orchestrator" else system.worker(lease_seconds=0.6)
        await service.start()
        await stop.wait()
        await service.stop()
