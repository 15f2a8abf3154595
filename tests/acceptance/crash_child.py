"""A real orchestrator or worker process that kills itself at one persisted boundary. Run by `test_crash.py`.

usage: crash_child.py ROLE STORE TRANSPORT CRASH_AT NAMES_FILE
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import cast

from edow.app import System, load_registry
from edow.store.contract import Store
from edow.testing.boundaries import BoundaryStore, BoundaryTransport, Countdown
from edow.transport.contract import Transport


async def main(role: str, store: str, transport: str, crash_at: int, names: Path) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    registry = load_registry([str(Path(__file__).parent / "crash_flow.py")])
    async with System(store, transport, registry) as system:
        countdown = Countdown(crash_at)
        system.store = cast(Store, BoundaryStore(system.store, countdown))
        system.transport = cast(Transport, BoundaryTransport(system.transport, countdown))
        service = system.orchestrator(lease_ttl=0.6) if role == "orchestrator" else system.worker(lease_seconds=0.6)
        await service.start()
        print("ready", flush=True)
        await stop.wait()
        names.write_text("\n".join(countdown.names))
        await service.stop()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), Path(sys.argv[5])))
