"""The console beside what `edow dev` runs: on its usual port, or on any other where that is taken."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from edow.cli.failure import note
from edow.errors import InvalidInput

if TYPE_CHECKING:
    from edow.api.server import Server
    from edow.app import System

HOST = "127.0.0.1"
PORT = 8080


class ConsolePart:
    """Started and stopped like an orchestrator. `port` None: the usual one if it is free."""

    def __init__(self, system: System, port: int | None) -> None:
        self._system = system
        self._port = port
        self._server: Server | None = None

    async def start(self) -> None:
        """Raises InvalidInput for a port that was asked for and is taken."""
        try:
            await self._listen(PORT if self._port is None else self._port)
        except InvalidInput:
            if self._port is not None:
                raise
            await self._listen(0)

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop()

    async def _listen(self, port: int) -> None:
        from edow.api.server import Server
        from edow.console.site import Site, application

        system = self._system
        masked = os.environ.get("EDOW_MASK")
        site = Site(str(system)) if masked is None else Site(str(system), masked.split(","))
        app = application(system.store, system.transport, registry=system.registry, site=site)
        self._server = Server(app, HOST, port)
        await self._server.start()
        note(f"edow dev: console at {self._server.url}")
