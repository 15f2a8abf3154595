"""A system to measure: processes on a store, and a client of it. Every scenario begins with one of these."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

from edow.app import System, load_registry
from edow.bench.model import MODULES, Place
from edow.client import Client
from edow.store.contract import Store
from edow.testing.processes import Fleet, Memory


class Cluster(NamedTuple):
    client: Client
    store: Store
    fleet: Fleet

    def peak_rss_mb(self) -> float:
        return peak_rss_mb(self.fleet)


def peak_rss_mb(fleet: Fleet) -> float:
    """Of the largest orchestrator or worker that runs now."""
    services = [*fleet.alive("orchestrator"), *fleet.alive("worker")]
    return round(max((Memory(service.pid).peak_mb for service in services), default=0.0), 1)


@asynccontextmanager
async def processes(place: Place, workers: int = 1) -> AsyncIterator[Cluster]:
    """One orchestrator and some workers as separate processes, ready to serve."""
    async with AsyncExitStack() as stack:
        system = await stack.enter_async_context(System(place.store, place.transport))
        client = await stack.enter_async_context(Client(store=system.store))
        fleet = await stack.enter_async_context(Fleet(MODULES, place.store, place.folder, place.transport))
        services = [await fleet.start("orchestrator"), *[await fleet.start("worker") for _ in range(workers)]]
        for service in services:
            await fleet.during(service.ready())
        yield Cluster(client, system.store, fleet)


@asynccontextmanager
async def one_process(place: Place) -> AsyncIterator[Cluster]:
    """Orchestrator, worker and client on this process's event loop."""
    async with AsyncExitStack() as stack:
        system = await stack.enter_async_context(System(place.store, place.transport, load_registry(MODULES)))
        fleet = await stack.enter_async_context(Fleet(MODULES, place.store, place.folder, place.transport))
        orchestrator = system.orchestrator()
        for part in (system.monitor(orchestrator), orchestrator, system.worker()):
            stack.push_async_callback(part.stop)
            await part.start()
        client = await stack.enter_async_context(Client(store=system.store))
        yield Cluster(client, system.store, fleet)
