"""An orchestrator is killed: nothing is counted twice, and the incident tells how long it took to recover."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import edow
from edow.app import System, now
from edow.client.kpis import IncidentView
from edow.kpi.figures import Figures
from edow.kpi.series import HOUR, SECOND
from edow.kpi.waiting import in_vain
from edow.monitor import reading
from edow.monitor.incidents import orchestrators
from edow.monitor.monitor import Monitor
from edow.testing.polling import until
from edow.testing.processes import Fleet, Service
from edow.workflow.registry import collect
from tests.acceptance import kpi_flow
from tests.acceptance.kpi_flow import counted, gated

MODULE = "tests.acceptance.kpi_flow"
MANY = 30


@pytest.fixture
def url(database: str) -> str:
    return database


async def begin(client: edow.Client, name: str) -> list[edow.Handle[int]]:
    ids = [f"{name}-{each}" for each in range(MANY)]
    return await client.start_many(counted, [(each,) for each in range(MANY)], ids)


async def ends(handles: list[edow.Handle[int]]) -> None:
    assert await asyncio.gather(*(handle.result() for handle in handles)) == [2 * each for each in range(MANY)]


@pytest.mark.timeout(180)
async def test_a_killed_orchestrator_is_an_incident_and_counts_nothing_twice(url: str, tmp_path: Path) -> None:
    """What was stored before the kill is there once, what came after it is there once; of the last two seconds before
    it some may be missing. The incident has its fault, its first progress and its end.
    """
    async with (
        System(url) as system,
        edow.Client(store=system.store) as client,
        Fleet([MODULE], url, tmp_path) as fleet,
    ):

        async def figures() -> Figures:
            return await reading.figures(system.store, now() - HOUR * SECOND // 2, now() + HOUR * SECOND)

        async def stored() -> bool:
            found = (await figures()).workflows
            return bool(found) and found["counted"].completed == MANY

        async def of_victim() -> list[IncidentView]:
            return [each for each in await client.kpis().incidents() if f":{victim.pid}:" in each.cause]

        async def recovered() -> bool:
            return any(each.drained_at for each in await of_victim())

        victim = await fleet.start("orchestrator")
        await fleet.start("worker")
        await ends(await begin(client, "before"))
        await fleet.during(until(stored))
        under_way = await begin(client, "during")
        killed_at = now()
        await victim.kill()
        await fleet.start("orchestrator")
        await ends(under_way)
        await fleet.during(until(recovered, every_seconds=0.2))
        await fleet.stop()

        found = (await figures()).workflows["counted"]
        assert MANY <= found.completed <= 2 * MANY
        assert found.completed <= found.tasks["count"].completed + found.tasks["count"].failed <= 4 * MANY
        assert found.started <= 2 * MANY
        [incident] = await of_victim()
        check(incident, killed_at)


def check(incident: IncidentView, killed_at: int) -> None:
    assert "was lost" in incident.cause
    assert incident.first_progress_at is not None
    assert incident.drained_at is not None
    assert incident.fault_at.timestamp() * SECOND <= killed_at < incident.first_progress_at.timestamp() * SECOND
    assert incident.first_progress_at <= incident.drained_at
    assert incident.seconds_to_recover == (incident.drained_at - incident.fault_at).total_seconds()


@asynccontextmanager
async def overseen(url: str, tmp_path: Path) -> AsyncIterator[tuple[System, edow.Client, Fleet, Monitor]]:
    """Orchestrator and monitor in this process; workers are others."""
    async with (
        System(url, None, collect([kpi_flow])) as system,
        edow.Client(store=system.store) as client,
        Fleet([MODULE], url, tmp_path) as fleet,
    ):
        orchestrator = system.orchestrator()
        monitor = system.monitor(orchestrator)
        await monitor.start()
        await orchestrator.start()
        try:
            yield system, client, fleet, monitor
            await fleet.stop()
        finally:
            await orchestrator.stop()
            await monitor.stop()


def busy(monitor: Monitor, worker: Service, tasks: int) -> Callable[[], Awaitable[bool]]:
    """Whether the monitor has heard that the worker has so many in hand."""

    async def heard() -> bool:
        said = monitor._duties._watch._heard
        return any(f":{worker.pid}" in name and each.running == tasks for name, (_, each) in said.items())

    return heard


@pytest.mark.timeout(180)
async def test_a_killed_worker_is_an_incident_with_what_it_had_in_hand(url: str, tmp_path: Path) -> None:
    """Told with its number of tasks; the first progress is when another begins or answers one of them, and it is over
    when all of them went on.
    """
    path = str(tmp_path / "open")
    async with overseen(url, tmp_path) as (_, client, fleet, monitor):
        victim = await fleet.start("worker")
        handles = await client.start_many(gated, [(path,)] * 3, ["a", "b", "c"])
        await fleet.during(until(busy(monitor, victim, 3)))
        killed_at = now()
        await victim.kill()

        async def told() -> bool:
            return bool(await client.kpis().incidents())

        async def recovered() -> bool:
            return (await client.kpis().incidents())[0].drained_at is not None

        await fleet.during(until(told, every_seconds=0.2))
        [incident] = await client.kpis().incidents()
        assert f":{victim.pid} was lost with 3 tasks in hand" in incident.cause
        assert (incident.first_progress_at, incident.drained_at) == (None, None)
        Path(path).touch()
        await fleet.start("worker")
        assert await asyncio.gather(*(handle.result() for handle in handles)) == [True] * 3
        await fleet.during(until(recovered, every_seconds=0.2))
        [incident] = await client.kpis().incidents()
        assert incident.first_progress_at is not None
        assert incident.drained_at is not None
        assert incident.fault_at.timestamp() * SECOND <= killed_at < incident.first_progress_at.timestamp() * SECOND
        assert incident.first_progress_at <= incident.drained_at


@pytest.mark.timeout(180)
async def test_a_worker_that_stops_is_no_incident(url: str, tmp_path: Path) -> None:
    """Though it was seen with tasks in hand a moment ago, and hands them back: it has said goodbye."""
    path = str(tmp_path / "open")
    async with overseen(url, tmp_path) as (_, client, fleet, monitor):
        leaver = await fleet.start("worker")
        [handle] = await client.start_many(gated, [(path,)], ["a"])
        await fleet.during(until(busy(monitor, leaver, 1)))
        stopping = asyncio.create_task(leaver.stop())
        Path(path).touch()
        assert await handle.result()
        await stopping

        async def forgotten() -> bool:
            return not monitor._duties._watch._heard

        await until(forgotten)
        await monitor.oversee_once()
        assert await client.kpis().incidents() == []


@pytest.mark.timeout(180)
async def test_tasks_without_a_worker_are_told_until_one_comes_and_takes_its_time(url: str, tmp_path: Path) -> None:
    """Nobody has ever heard of a worker. One that has it in hand is enough, however long it takes."""
    path = str(tmp_path / "open")
    async with overseen(url, tmp_path) as (system, client, fleet, _):

        async def waits() -> bool:
            return in_vain(await orchestrators(system.store), now()) is not None

        async def taken() -> bool:
            return not await waits()

        handle = await client.start(gated, path)
        await until(waits, every_seconds=0.2)
        await fleet.start("worker")
        await fleet.during(until(taken, every_seconds=0.2))
        Path(path).touch()
        assert await handle.result()
