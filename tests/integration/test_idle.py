"""What a system does to its database while there is nothing to do: few statements, each loop's counted.

A loop is driven by hand where it can be. The whole system's statements are counted by its lease renewals, which are a
second apart by default: on a machine that is slow all of them come later.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import edow
from edow.app import System, now
from edow.background import LONG_SECONDS
from edow.cli.serving import orchestrating
from edow.client.stepping import Stepping
from edow.postgresql.database import Database
from edow.sqlite import SqliteFile
from edow.store.contract import Put, Record, Store
from edow.trigger.schedules import Schedule
from tests.conformance.postgresql import own_schema
from tests.integration.system import SECONDS, registry_of, until
from tests.integration.test_schedules import make, started

RENEWALS = 6  # over which is counted
MINUTE = 60_000_000
DATABASES = pytest.mark.parametrize("database", ["sqlite", "postgresql"])


@edow.task
async def work(n: int) -> int:
    return n


@edow.workflow
async def flow(n: int) -> int:
    return await work(n)


REGISTRY = registry_of(globals())


@asynccontextmanager
async def url_of(database: str, folder: Path) -> AsyncIterator[str]:
    if database == "sqlite":
        yield f"sqlite:///{folder}/edow.db"
    else:
        async with own_schema() as url:
            yield url


class Counted:
    """Statements by the task that makes them."""

    def __init__(self) -> None:
        self.count: Counter[str] = Counter()
        self.renewed = asyncio.Event()

    def wrap(self, function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def counting(*args: Any, **kwargs: Any) -> Any:
            task = asyncio.current_task()
            name = task.get_name() if task is not None else ""
            self.count[name if name.startswith("edow-") else "other"] += 1
            if name == "edow-leases":
                self.renewed.set()
            return await function(*args, **kwargs)

        return counting

    async def over(self, renewals: int) -> Counter[str]:
        """From a renewal to the last of so many."""
        for turn in range(renewals + 1):
            self.renewed.clear()
            await self.renewed.wait()
            if not turn:
                self.count.clear()
        return Counter(self.count)


@asynccontextmanager
async def whole(url: str) -> AsyncIterator[None]:
    """Everything that `edow orchestrator` and `edow worker` start."""
    async with System(url, None, REGISTRY) as system, System(url, None, REGISTRY) as place:
        parts = [*orchestrating(system), place.worker()]
        try:
            for part in parts:
                await part.start()
            yield
        finally:
            for part in reversed(parts):
                await part.stop()


@DATABASES
async def test_an_idle_system_leaves_its_database_alone(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An orchestrator and a worker: usually 5 transactions a second on PostgreSQL, and 2 writes a second on SQLite."""
    counted = Counted()
    if database == "sqlite":
        monkeypatch.setattr(SqliteFile, "write", counted.wrap(SqliteFile.write))
    else:
        monkeypatch.setattr(Database, "_use", counted.wrap(Database._use))
    async with url_of(database, tmp_path) as url, whole(url), asyncio.timeout(RENEWALS * SECONDS):
        found = await counted.over(RENEWALS)
    assert found.total() <= {"sqlite": 5, "postgresql": 15}[database] * RENEWALS, found
    assert found.pop("edow-leases") <= 2 * RENEWALS
    found.pop("edow-oversee", 0)  # of one process: see below
    assert max(found.values()) <= RENEWALS, found


class Verbs:
    """Forwards to a store, and counts the calls that ask for something."""

    def __init__(self, inner: Store) -> None:
        self.count: Counter[str] = Counter()
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name in ("watch", "shards", "name"):
            return found

        async def verb(*args: Any, **kwargs: Any) -> Any:
            self.count[name] += name != "records_get" or bool(args[1])
            return await found(*args, **kwargs)

        return verb


@DATABASES
async def test_an_idle_loop_asks_once_and_rests_long(database: str, tmp_path: Path) -> None:
    """Whatever is told of records looks with one call each, two for schedules, and then waits to be told."""
    async with url_of(database, tmp_path) as url, System(url, None, REGISTRY) as system:
        system.store = store = Verbs(system.store)
        orchestrator = system.orchestrator()
        sender, events = system.sender(orchestrator), system.events(orchestrator)
        for look, calls in (
            (system.schedules().run_once, 2),
            (events.fire_once, 1),
            (sender.send_once, 1),
        ):
            store.count.clear()
            assert await look() == LONG_SECONDS
            assert store.count.total() == calls, store.count
        for once in (
            events.look_once,
            events.deliver_once,
            sender.look_once,
            system.redriver().run_once,
            system.jobs().run_once,
            orchestrator._leases.run_once,
        ):
            store.count.clear()
            assert not await once() or once == orchestrator._leases.run_once
            assert store.count.total() == 1, (once, store.count)


@DATABASES
async def test_an_idle_monitor_asks_little(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a minute the one that oversees makes less than two calls a second, any other less than one."""
    async with url_of(database, tmp_path) as url, System(url, None, REGISTRY) as system:
        system.store = store = Verbs(system.store)
        orchestrator = system.orchestrator()
        await system.transport.ensure(orchestrator._topics())
        moment = now()
        monkeypatch.setattr("edow.app.now", lambda: moment)
        monitors = [system.monitor(orchestrator) for _ in range(2)]
        calls = []
        for monitor in monitors:
            monitor._now = lambda: moment
            await monitor.run_once()
        for monitor in monitors:
            begun, store.count = moment, Counter()
            while moment < begun + MINUTE:
                moment += 2_000_000
                await monitor.run_once()
            calls.append(store.count.total())
            moment = begun
    assert calls[0] <= 120, calls
    assert calls[1] <= 60, calls


@DATABASES
async def test_who_rests_long_is_woken(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A schedule that another process makes is acted on, though nobody would look for it within an hour."""
    monkeypatch.setattr("edow.trigger.schedules.runner.LONG_SECONDS", 3600.0)
    async with url_of(database, tmp_path) as url, System(url) as here, System(url) as there:
        here.store = store = Verbs(here.store)
        runner = here.schedules()
        await runner.start()

        async def looked() -> bool:
            return store.count["records_list"] == 2

        async def fired() -> bool:
            return bool(await started(there.store))

        try:
            await until(looked)
            await make(there.store, {"soon": Schedule(workflow="w", every="1s").checked()}, now())
            await until(fired)
        finally:
            await runner.stop()


class Probe(Stepping):
    """Sees records of its kind."""

    kind = "probe"
    what = "probes"
    busy_seconds = 0.01

    def __init__(self, store: Store) -> None:
        super().__init__(store, now)
        self.seen = asyncio.Event()
        self.looked = asyncio.Event()

    async def run_once(self) -> int:
        count = await super().run_once()
        self.looked.set()
        return count

    def _is_over(self, record: Record) -> bool:
        return False

    async def _advance(self, record: Record) -> None:
        self.seen.set()


@DATABASES
async def test_what_nobody_was_told_of_is_found_by_looking(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever wrote it died between the commit and the telling: a loop that rests finds it all the same."""
    monkeypatch.setattr("edow.trigger.watching.SHORT_SECONDS", 0.01)
    monkeypatch.setattr("edow.client.stepping.LONG_SECONDS", 0.1)
    async with url_of(database, tmp_path) as url, System(url, url, REGISTRY) as system:
        probe = Probe(system.store)
        await probe.start()
        async with asyncio.timeout(SECONDS):
            await probe.looked.wait()
            await system.store.records_put([Put("probe", "untold", b"{}", quiet=True)], now())
            await probe.seen.wait()
        await probe.stop()
