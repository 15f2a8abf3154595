"""An application on a store of a test's own, and clients of it that come from where the test says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from litestar import Litestar

import edow
from edow.api import Settings, application
from edow.app import System
from edow.client.actor import Role
from edow.workflow.registry import Registry

HERE = "127.0.0.1"
ELSEWHERE = "192.0.2.7"


@dataclass
class Api:
    """What a test holds in hand."""

    app: Litestar
    system: System
    client: edow.Client

    def http(self, address: str = HERE, token: str | None = None, host: str = "localhost") -> httpx.AsyncClient:
        """Close it, or leave it to the garbage collector: it holds nothing open."""
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False, client=(address, 50_000))
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.AsyncClient(transport=transport, base_url=f"http://{host}", headers=headers)

    async def token(self, role: Role, name: str | None = None) -> str:
        return await self.client.tokens().create(name or role, role)


@asynccontextmanager
async def serving(
    store: str | Path, registry: Registry | None = None, settings: Settings | None = None
) -> AsyncIterator[Api]:
    """Of a store URL, or an SQLite file in a folder. No port, no lifespan: the store is given open."""
    url = f"sqlite:///{store}/store.db" if isinstance(store, Path) else store
    async with System(url, None, registry) as system, edow.Client(store=system.store) as client:
        app = application(system.store, system.transport, registry=registry, settings=settings)
        yield Api(app, system, client)
