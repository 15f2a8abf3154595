"""A schedule of one second while the processes that act on it are killed: no tick is missing, and none comes twice."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

import edow
from edow.model.execution import Execution, Status
from edow.store.contract import ExecutionFilter
from edow.testing.polling import until
from edow.testing.processes import Fleet
from tests.conformance.postgresql import own_schema

FLOW = str(Path(__file__).parent / "schedule_flow.py")
BEAT = edow.Schedule(workflow="beat", input={"at": "{{scheduled_time}}"}, every="1s", overlap="allow_all")


async def beats(client: edow.Client) -> list[Execution]:
    """All executions of the schedule, the oldest tick first."""
    found = [row async for row in client.list(ExecutionFilter(attributes={"schedule": "beat"}, limit=500))]
    return sorted(found, key=lambda row: row.id)


async def more(client: edow.Client, count: int) -> None:
    """Until so many more executions have begun."""
    before = len(await beats(client))

    async def there() -> bool:
        return len(await beats(client)) >= before + count

    await until(there)


async def check(store: str, folder: Path) -> None:
    """Kill each of two orchestrators in turn, then both at once."""
    async with Fleet([FLOW], store, folder) as fleet, edow.Client(store) as client:
        for _ in range(2):
            await (await fleet.start("orchestrator")).ready()
        await client.schedules().create("beat", BEAT)
        for victims in (1, 1, 2, 1):
            await more(client, 2)
            for service in fleet.alive("orchestrator")[:victims]:
                await service.kill()
            for _ in range(victims):
                await fleet.start("orchestrator")
        await more(client, 3)
        counts = (await client.schedules().pause("beat")).counts

        async def ended() -> bool:
            return all(row.status is Status.COMPLETED for row in await beats(client))

        await until(ended)
        rows = await beats(client)
    ticks = [datetime.fromisoformat(row.id.partition("@")[2]) for row in rows]
    assert ticks == [ticks[0] + timedelta(seconds=n) for n in range(len(ticks))]
    assert len(ticks) >= 11
    assert {row.run for row in rows} == {1}
    assert (counts.started, counts.missed) == (len(rows), 0)


@pytest.mark.timeout(240)
async def test_orchestrators_are_killed_on_sqlite(tmp_path: Path) -> None:
    """Every second has its execution, which ran once."""
    await check(f"sqlite:///{tmp_path / 'edow.db'}", tmp_path)


@pytest.mark.timeout(240)
async def test_orchestrators_are_killed_on_postgresql(tmp_path: Path) -> None:
    """Every second has its execution, which ran once."""
    async with own_schema() as url:
        await check(url, tmp_path)
