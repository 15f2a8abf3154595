"""Schedules whose executions run: what becomes of a tick while the one before goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

import edow
from edow.app import System
from edow.errors import RecordChanged
from edow.store.contract import RecordFilter
from edow.trigger.schedules import Overlap, Schedule
from edow.trigger.schedules.definition import instant, moment, utc
from tests.integration.system import QUICK, has_status, registry_of, until

HOUR = 3_600_000_000


@edow.workflow
async def patient(at: str) -> str:
    """Ends when it is told, and takes its time to stop when it is cancelled."""
    try:
        return await edow.wait_signal("go", str)
    finally:
        edow.progress(f"{at} is over")


class World:
    """A running system with a schedule of one hour; time passes when the test says."""

    def __init__(self, system: System, client: edow.Client) -> None:
        self.client = client
        self.runner = system.schedules()
        self.first = 0

    async def make(self, overlap: Overlap) -> None:
        values = {"at": "{{scheduled_time}}"}
        far = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)  # no tick comes by itself meanwhile
        schedule = Schedule(workflow="patient", input=values, every="1h", anchor=far, overlap=overlap)
        view = await self.client.schedules().create("s", schedule)
        self.first = moment(view.next[0]) or 0

    async def hour(self, number: int) -> list[str]:
        """Let it be the n-th hour, and a second; which of the hours' executions there are."""
        while await self.runner.run_once(self.first + number * HOUR + 1_000_000) == 0:
            pass  # somebody else was quicker: there may be more to do
        return await self.there()

    async def there(self) -> list[str]:
        return sorted([row.id async for row in self.client.list()])

    def id(self, number: int) -> str:
        return f"s@{instant(self.first + number * HOUR)}"

    def ids(self, *numbers: int) -> list[str]:
        return [self.id(number) for number in numbers]

    async def end(self, number: int) -> None:
        handle = self.client.get(self.id(number))
        await handle.signal("go", "on")
        await handle.result(30)


@pytest.fixture
async def world(database: str) -> AsyncIterator[World]:
    async with running(database) as made:
        yield made


@asynccontextmanager
async def running(url: str) -> AsyncIterator[World]:
    """An orchestrator and a client; nobody acts on schedules but the test."""
    async with (
        System(url, None, registry_of({"patient": patient})) as system,
        edow.Client(store=system.store) as client,
    ):
        orchestrator = system.orchestrator(**QUICK)
        await orchestrator.start()
        await orchestrator.ready.wait()
        try:
            yield World(system, client)
        finally:
            await orchestrator.stop()


async def test_skip(world: World) -> None:
    """While one runs the others are skipped; after its end the next tick is started."""
    await world.make("skip")
    assert await world.hour(0) == world.ids(0)
    assert await world.hour(2) == world.ids(0)
    await world.end(0)
    assert await world.hour(3) == world.ids(0, 3)
    view = await world.client.schedules().get("s")
    assert (view.counts.started, view.counts.skipped) == (2, 2)
    assert [each.status for each in view.recent] == ["running", None, None, "completed"]


async def test_buffer_one(world: World) -> None:
    """One waits, and begins with the end of the one before it."""
    await world.make("buffer_one")
    await world.hour(0)
    assert await world.hour(3) == world.ids(0)
    await world.end(0)
    assert await world.hour(3) == world.ids(0, 1)
    row = await world.client.get(world.id(1)).describe()
    assert msgspec.json.decode(row.input) == {"at": world.id(1)[2:]}


async def test_buffer_all(world: World) -> None:
    """All wait, and each begins with the end of the one before it."""
    await world.make("buffer_all")
    assert await world.hour(2) == world.ids(0)
    for number in range(2):
        await world.end(number)
        assert await world.hour(2) == world.ids(*range(number + 2))


async def test_cancel_other(world: World) -> None:
    """What runs is cancelled, its cleanup runs, and then the newest begins."""
    await world.make("cancel_other")
    await world.hour(0)
    await world.hour(2)
    first = world.client.get(world.id(0))
    with pytest.raises(edow.WorkflowCancelled, match="the next run takes its place"):
        await first.result(30)
    assert (await first.describe()).progress is not None
    assert await world.hour(2) == world.ids(0, 2)


async def test_allow_all(world: World) -> None:
    """They run at the same time."""
    await world.make("allow_all")
    assert await world.hour(2) == world.ids(0, 1, 2)
    for number in (2, 0, 1):
        await world.end(number)


async def test_what_waits_begins_by_itself(world: World) -> None:
    """The loop notices the end of what runs, with no tick to wake it; also of a schedule that is paused."""
    await world.make("buffer_all")
    schedules = world.client.schedules()
    await schedules.pause("s", "by hand only")
    first = await schedules.trigger("s")
    assert (first.became, (await schedules.trigger("s")).became) == ("started", "buffered")
    await world.runner.start()
    try:
        handle = world.client.get(first.execution)
        await handle.signal("go", "on")
        await handle.result(30)

        async def second() -> bool:
            return len(await world.there()) == 2

        await until(second)
    finally:
        await world.runner.stop()


async def test_a_terminated_and_a_failed_execution_have_ended(world: World) -> None:
    """However it ends, the next may begin."""
    await world.make("buffer_all")
    await world.hour(0)
    await world.client.get(world.id(0)).terminate("enough")
    await has_status(world.client.get(world.id(0)), "terminated")
    assert await world.hour(1) == world.ids(0, 1)


async def test_an_unknown_workflow_is_told_at_the_first_tick(world: World) -> None:
    """Its execution is parked and says why, which the schedule shows; it counts as running."""
    schedules = world.client.schedules()
    await schedules.create("t", Schedule(workflow="nobody", every="1h"))
    outcome = await schedules.trigger("t")
    await has_status(world.client.get(outcome.execution), "parked")
    view = await schedules.get("t")
    assert [each.status for each in view.recent] == ["parked"]
    assert view.running == [outcome.execution]
    assert (await schedules.trigger("t")).became == "skipped"


async def test_a_backfill(world: World) -> None:
    """One after another; done twice it does nothing."""
    await world.make("skip")
    schedules = world.client.schedules()
    for _ in range(2):
        assert await schedules.backfill("s", utc(world.first - 3 * HOUR), utc(world.first - 2 * HOUR)) == 2
        await world.runner.run_once()
        if _ == 0:
            assert await world.there() == world.ids(-3)
            await world.end(-3)
            await world.runner.run_once()
            assert await world.there() == world.ids(-3, -2)
            await world.end(-2)
            await world.runner.run_once()
    view = await schedules.get("s")
    assert await world.there() == world.ids(-3, -2)
    assert [each.became for each in view.recent] == ["existed", "existed", "started", "started"]
    assert view.backfills == []


async def test_changes_take_hold(world: World) -> None:
    """Other times count from the change on, and ticks of a pause are not made up for."""
    await world.make("allow_all")
    schedules = world.client.schedules()
    await schedules.pause("s")
    assert await world.hour(5) == []
    await schedules.resume("s")
    changed = await schedules.update("s", lambda old: msgspec.structs.replace(old, every="30m"))
    assert changed.schedule.every == 1800.0
    assert all(each > changed.updated_at for each in changed.next)
    assert changed.next[1] - changed.next[0] == timedelta(minutes=30)
    await world.runner.run_once()
    assert await world.there() == []
    await schedules.delete("s")
    await world.runner.run_once()
    with pytest.raises(edow.NotFound, match="there is no schedule 's'"):
        await schedules.get("s")
    assert await world.client._link.store.records_list(RecordFilter("tick")) == []


async def test_whoever_saw_another_version_is_told(world: World) -> None:
    """Of two who change what they have seen, the second has to look again."""
    await world.make("skip")
    schedules = world.client.schedules()
    version = (await schedules.get("s")).version
    changed = msgspec.structs.replace((await schedules.get("s")).schedule, overlap="allow_all")
    await schedules.update("s", changed, if_version=version)
    with pytest.raises(RecordChanged):
        await schedules.update("s", changed, if_version=version)
    with pytest.raises(RecordChanged):
        await schedules.delete("s", if_version=version)


async def test_changes_and_ticks_at_the_same_time(world: World) -> None:
    """A person and a runner who write at once both succeed, and no tick is lost or doubled."""
    await world.make("allow_all")
    schedules = world.client.schedules()
    for number in range(8):
        trigger, _ = await asyncio.gather(schedules.trigger("s"), world.hour(number))
        assert trigger.became == "started"
    assert (await schedules.get("s")).counts.started == 16
    assert len(await world.there()) == 16
