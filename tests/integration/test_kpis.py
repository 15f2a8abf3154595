"""What is measured is what happened: figures against the truth that the event histories tell, with injected faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random
from typing import NamedTuple

import pytest

import edow
from edow.app import System, now
from edow.kpi.figures import Figures, TaskFigures
from edow.kpi.histogram import Histogram
from edow.kpi.series import HOUR, SECOND
from edow.model import history
from edow.model.execution import Execution
from edow.monitor import reading
from edow.monitor.monitor import Monitor
from edow.orchestrator import Orchestrator
from edow.store.contract import ExecutionFilter, Store
from edow.testing.faults import Faults, FaultyTransport
from tests.integration.system import QUICK, registry_of


@edow.task
async def double(number: int) -> int:
    return 2 * number


@edow.task(retry=edow.Retry(attempts=4, initial="1ms"))
async def hitch(name: str, times: int) -> str:
    if edow.context().attempt <= times:
        raise RuntimeError("not yet")
    return name


@edow.task(retry=1)
async def doom(name: str) -> None:
    raise RuntimeError(name)


@edow.task(key=lambda name: name)
async def ordered(name: str) -> str:
    return name


@edow.workflow
async def steady(number: int) -> int:
    return await double(number) + await double(number + 1)


@edow.workflow
async def flaky(name: str, times: int) -> str:
    await ordered("one customer")
    return await hitch(name, times)


@edow.workflow
async def doomed(name: str) -> None:
    await doom(name)


@pytest.fixture
def url(database: str) -> str:
    return database


class Running(NamedTuple):
    system: System
    client: edow.Client
    monitor: Monitor
    orchestrator: Orchestrator


@asynccontextmanager
async def running(url: str, doubled: float = 0.0) -> AsyncIterator[Running]:
    """A system with its monitor. `doubled`: the chance that a message comes twice."""
    async with AsyncExitStack() as stack:
        system = System(url, None, registry_of(globals()))
        if doubled:
            system = System(
                url, f"{url}_messages" if "postgresql" in url else f"{url}.messages", registry_of(globals())
            )
            system.transport = FaultyTransport(system.transport, Faults(doubled=doubled), Random(7))
        await stack.enter_async_context(system)
        orchestrator = system.orchestrator(**QUICK)
        monitor = system.monitor(orchestrator)
        client = await stack.enter_async_context(edow.Client(store=system.store))
        for part in (monitor, orchestrator, system.worker(grace_seconds=0.1)):
            stack.push_async_callback(part.stop)
            await part.start()
        yield Running(system, client, monitor, orchestrator)


async def work(client: edow.Client, name: str) -> None:
    """Executions that succeed, that need retries, and that fail with a dead letter."""
    handles = [await client.start(steady.with_options(id=f"{name}-steady-{each}"), each) for each in range(10)]
    handles += [
        await client.start(flaky.with_options(id=f"{name}-flaky-{each}"), f"{name}{each}", 2) for each in range(5)
    ]
    handles += [await client.start(doomed.with_options(id=f"{name}-doomed-{each}"), name) for each in range(3)]
    await asyncio.gather(*(handle.result() for handle in handles), return_exceptions=True)


async def everything(store: Store) -> list[Execution]:
    return (await store.executions_list(ExecutionFilter(limit=10_000))).executions


async def truth(store: Store) -> Figures:
    """The same figures, counted from rows and histories."""
    figures = Figures()
    for row in await everything(store):
        workflow = figures.workflow(row.workflow)
        workflow.started += 1
        if row.status == "completed":
            workflow.completed += 1
            workflow.took.add([(row.ended_at or 0) - row.started_at])
        elif row.status == "failed":
            workflow.failed += 1
        segments = await store.history_get(row.id, row.run)
        tell([event for segment in segments for event in history.decoder.decode(segment)], workflow.tasks)
    return figures


def tell(events: Sequence[history.AnyEvent], tasks: dict[str, TaskFigures]) -> None:
    """Attempts, one by one, with their stages."""
    asked: dict[str, history.TaskScheduled] = {}
    published: dict[str, int] = {}
    for event in events:
        match event:
            case history.TaskScheduled():
                asked[event.step] = event
                published[event.step] = event.at
                tasks.setdefault(event.task, TaskFigures())
            case history.TaskRetried():
                published[event.step] = event.at
            case history.TaskCompleted():
                task = tasks[asked[event.step].task]
                task.completed += 1
                task.payload += len(asked[event.step].args) + len(event.result)
            case history.AttemptFailed():
                tasks[asked[event.step].task].retried += 1
            case history.TaskFailed():
                tasks[asked[event.step].task].failed += 1
                tasks[asked[event.step].task].letters += 1
        if isinstance(event, history.AttemptEnded):
            task = tasks[asked[event.step].task]
            task.queue.add([event.started_at - published[event.step]])
            task.run.add([event.duration])
            task.back.add([event.at - event.started_at - event.duration])


def counts(figures: Figures) -> dict[str, tuple[int, ...]]:
    """Everything that is counted exactly."""
    found: dict[str, tuple[int, ...]] = {}
    for name, each in figures.workflows.items():
        found[name] = (each.started, each.completed, each.failed, each.took.count, each.took.total)
        for task, of in each.tasks.items():
            found[f"{name}/{task}"] = (of.completed, of.retried, of.failed, of.letters)
    return found


async def seen(store: Store) -> Figures:
    return await reading.figures(store, now() - HOUR * SECOND // 2, now() + 60 * SECOND)


def stages(figures: Figures, workflow: str, task: str) -> tuple[Histogram, ...]:
    found = figures.workflows[workflow].tasks[task]
    return found.queue, found.run, found.back


@pytest.mark.parametrize("doubled", [0.0, 0.5], ids=["faithful", "doubling"])
async def test_figures_are_what_the_histories_tell(url: str, doubled: float) -> None:
    """With retries, failures, dead letters and doubled messages every count is exact and every histogram of times is
    the one that follows from the histories, bucket by bucket.
    """
    async with running(url, doubled) as here:
        await work(here.client, "a")
    async with System(url, None) as system:
        found, expected = await seen(system.store), await truth(system.store)
    assert counts(found) == counts(expected)
    assert expected.workflows["flaky"].tasks["hitch"].retried == 10
    assert expected.workflows["doomed"].tasks["doom"].letters == 3
    for workflow, task in (("steady", "double"), ("flaky", "ordered"), ("flaky", "hitch"), ("doomed", "doom")):
        assert stages(found, workflow, task) == stages(expected, workflow, task)
    for workflow, task in (("steady", "double"), ("flaky", "ordered")):
        assert found.workflows[workflow].tasks[task].payload == expected.workflows[workflow].tasks[task].payload
    assert found.workflows["flaky"].tasks["hitch"].run.count == 15  # those that failed ran, too
    assert found.keys["edow.tasks.default"].counts == {"one customer": 5}
    assert found.sent["edow.tasks.default"].messages >= 20 + 5 + 15 + 3
    assert found.received["edow.results.*"].messages >= 20 + 5 + 15 + 3


async def test_who_stops_says_goodbye(url: str) -> None:
    """A monitor that runs is seen with its shards; one that was stopped was not lost."""
    async with running(url) as here:
        await here.orchestrator.ready.wait()
        await here.monitor.run_once()
        [one] = await here.client.kpis().orchestrators()
        assert one.shards == sorted(here.orchestrator.shards)
    async with System(url, None) as system, edow.Client(store=system.store) as client:
        assert await client.kpis().orchestrators() == []
        assert await client.kpis().incidents() == []


async def test_stored_again_after_an_outage_nothing_is_counted_twice(url: str) -> None:
    """A write of which nobody knows whether it was applied is repeated under its own name, also much later."""
    async with running(url) as here:
        await work(here.client, "a")
        store, put = here.system.store, here.system.store.records_put

        async def applied_and_unheard(*given: object) -> list[object]:
            await put(*given)  # type: ignore[arg-type]
            raise edow.errors.StoreUnavailable("no answer")

        keeper = here.monitor._keeper
        await here.monitor.stop()
        store.records_put = applied_and_unheard  # type: ignore[method-assign,assignment]
        keeper._unstored = True
        with pytest.raises(edow.errors.StoreUnavailable):
            await keeper.flush(now())
        store.records_put = put  # type: ignore[method-assign]
        await work(here.client, "b")
        await here.orchestrator.stop()  # clients hear of a result a moment before it is counted
        await keeper.flush(now() + 60 * SECOND)
    async with System(url, None) as system:
        assert counts(await seen(system.store)) == counts(await truth(system.store))
