"""What a measurement is asked for and what it answers."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from edow.address import Address
from edow.bench.latency import Latency
from edow.testing.scratch import scratch

MODULES = ("edow.bench.workflows",)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """`workflows` None: what suits the scenario. `store` None: a file of its own, deleted afterwards."""

    seconds: float | None = None
    workflows: int | None = None
    rounds: int = 3
    store: str | None = None
    transport: str | None = None
    processes: bool = False


class Place(msgspec.Struct, frozen=True):
    """Where one scenario runs. Each has a store of its own unless the user named one."""

    folder: Path
    store: str
    transport: str | None
    given: tuple[str | None, str | None] = (None, None)  # store and transport as the user named them

    @property
    def names(self) -> tuple[str, str]:
        """Of store and transport, for people: no secrets."""
        store = Address(self.store)
        return str(store), str(Address(self.transport)) if self.transport else str(store)

    @asynccontextmanager
    async def another(self) -> AsyncIterator[Place]:
        """For the ceiling: a fresh part of the same servers, or a fresh file on the same disk."""
        with tempfile.TemporaryDirectory(prefix="bare-", dir=self.folder) as name:
            async with Place.on(self.given, Path(name)) as place:
                yield place

    @classmethod
    @asynccontextmanager
    async def on(cls, given: tuple[str | None, str | None], folder: Path) -> AsyncIterator[Place]:
        """What the user named, apart from everything else there; gone afterwards."""
        async with scratch(given, folder, MODULES) as (store, transport):
            yield cls(folder, store, transport, given)


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """The object that `--json` prints. `details` are the scenario's own figures, with their units in their names."""

    scenario: str
    store: str
    transport: str
    steps_per_second: float
    workflows_per_second: float
    ceiling_steps_per_second: float | None
    ratio: float | None
    latency_ms: Latency | None
    peak_rss_mb: float
    fsync: bool
    details: dict[str, float] = {}
    headline: str = ""  # the figure that the target is about, for people
    target: str = ""


def ratio_of(steps_per_second: float, ceiling: float | None) -> float | None:
    return round(steps_per_second / ceiling, 3) if ceiling else None
