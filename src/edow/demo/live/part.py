"""One process of the live demo: `python -m edow.demo.live.part orchestrator|worker`.

It is what `edow orchestrator` and `edow worker` run, on a transport that doubles every message while the switch is on,
and that counts what goes through. The counts are left in a file, so that they outlive a kill.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random

import msgspec

from edow.app import System, Workplace, load_registry
from edow.cli.logs import configure
from edow.cli.serving import Part, orchestrating, serve_until_stopped
from edow.model.message import Message
from edow.testing.faults import Faults, FaultyTransport
from edow.transport.contract import Transport

FOLDER = "EDOW_DEMO_FOLDER"
PARENT = "EDOW_DEMO_PARENT"  # whoever has lost it ends: nobody would stop it any more
DOUBLING = "doubling"  # there is a file of this name in the folder while every message is to be doubled
COUNTS = "counts-{}.json"
MODULES = ("edow.demo.documents", "edow.demo.orders", "edow.demo.live.flow")
EVERY_SECONDS = 0.2
FAILED = b'"outcome":"failed"'


class Counted(msgspec.Struct):
    """What one process has published."""

    messages: int = 0
    bytes: int = 0
    doubled: int = 0
    failed: int = 0  # attempts


class CountingTransport(FaultyTransport):
    def __init__(self, inner: Transport) -> None:
        super().__init__(inner, Faults(), Random(0))
        self.counted = Counted()

    def double(self, on: bool) -> None:
        """From now on every message comes twice, or once again."""
        self.faults = Faults(doubled=1.0 if on else 0.0)

    async def publish(self, messages: Sequence[Message], *, durable: bool = True) -> None:
        await super().publish(messages, durable=durable)
        self.counted.messages += len(messages)
        self.counted.bytes += sum(len(message.body) for message in messages)
        self.counted.failed += sum(FAILED in message.body for message in messages)
        self.counted.doubled = self.happened["doubled"]


class Switch:
    """Looks at the folder, and leaves the counts there. Started and stopped like any other part."""

    def __init__(self, transport: CountingTransport, folder: Path) -> None:
        self._transport = transport
        self._folder = folder
        self._parent = int(os.environ[PARENT])
        self._loop: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self.look()
        self._loop = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
        self.leave()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            self.look()
            self.leave()
            if os.getppid() != self._parent:
                os.kill(os.getpid(), signal.SIGTERM)

    def look(self) -> None:
        self._transport.double((self._folder / DOUBLING).exists())

    def leave(self) -> None:
        path = self._folder / COUNTS.format(os.getpid())
        fresh = path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(self._transport.counted))
        fresh.replace(path)


def main(role: str) -> None:
    """Until it is told to stop."""
    configure(quiet=True)
    registry = load_registry(MODULES)
    store, transport = os.environ["EDOW_STORE"], os.environ["EDOW_TRANSPORT"]
    place = System(store, transport, registry) if role == "orchestrator" else Workplace(transport, registry)
    place.transport = counting = CountingTransport(place.transport)
    switch = Switch(counting, Path(os.environ[FOLDER]))

    def parts(opened: System | Workplace) -> list[Part]:
        if isinstance(opened, System):
            return [switch, *orchestrating(opened)]
        return [switch, opened.worker(threads=8)]

    asyncio.run(serve_until_stopped(place, parts, role))


if __name__ == "__main__":
    main(sys.argv[1])
