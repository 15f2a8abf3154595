"""A system that works, and its console on a port of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

import edow
from edow.api import Settings
from edow.api.server import Server
from edow.app import System, load_registry
from edow.console.site import Site, application
from edow.workflow.registry import Registry

RESTLESS = Settings(rate=10_000.0, burst=20_000)


@dataclass
class Console:
    """What a test holds in hand."""

    url: str
    system: System
    client: edow.Client
    site: Site
    registry: Registry

    def http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, timeout=30)


@asynccontextmanager
async def console_on(store: str, *, working: bool = True) -> AsyncIterator[Console]:
    """`working`: with an orchestrator and a worker in this process."""
    registry = load_registry(["tests.console.flow"])
    async with System(store, None, registry) as system, edow.Client(store=system.store) as client:
        site = Site(store)
        app = application(system.store, system.transport, registry=registry, settings=RESTLESS, site=site)
        server = Server(app, "127.0.0.1", 0)
        parts = [system.orchestrator(), system.worker()] if working else []
        for part in (*parts, server):
            await part.start()
        try:
            yield Console(server.url, system, client, site, registry)
        finally:
            for part in (server, *reversed(parts)):
                await part.stop()


@pytest.fixture
async def console(tmp_path: Path) -> AsyncIterator[Console]:
    async with console_on(f"sqlite:///{tmp_path}/store.db") as made:
        yield made


@pytest.fixture
async def anywhere(database: str) -> AsyncIterator[Console]:
    """The same on each store, for what pages read."""
    async with console_on(database) as made:
        yield made
