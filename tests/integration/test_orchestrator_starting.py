"""Attach, reject and replace while an orchestrator serves; commands that race with a replacement."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from typing import Any

import pytest

import edow
from edow.errors import AlreadyExists
from tests.integration.system import MODES, SECONDS, Running, Setup, happened, registry_of, running

EVENTS: defaultdict[str, threading.Event] = defaultdict(threading.Event)
CALLS: Counter[str] = Counter()


@edow.task(timeout=None, retry=1)
async def hang(name: str) -> int:
    """Stops when told to; its late result must mean nothing."""
    EVENTS[f"{name} runs"].set()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        EVENTS[f"{name} cancelled"].set()
    return -1


@edow.workflow
async def job(name: str, hangs: bool) -> str:
    CALLS[name] += 1
    if hangs:
        await hang(name)
    return name


@edow.workflow
async def listens(name: str) -> str:
    EVENTS[f"{name} listens"].set()
    return f"{name} {await edow.wait_signal('x', str)}"


REGISTRY = registry_of(globals())


@pytest.fixture(params=MODES)
async def here(request: pytest.FixtureRequest, tmp_path: Any) -> AsyncIterator[Running]:
    """In each mode."""
    async with running(Setup(tmp_path, request.param), REGISTRY) as found:
        yield found


async def test_attach_and_reject(here: Running):
    """A second start attaches to the first, or is refused; the workflow runs once."""
    name = f"attach {here.number}"
    first = await here.client.start(job.with_options(id=name), name, False)
    again = await here.client.start(job.with_options(id=name), "other", True)
    assert await first.result(SECONDS) == await again.result(SECONDS) == name
    with pytest.raises(AlreadyExists):
        await here.client.start(job.with_options(id=name, if_exists="reject"), name, False)


async def test_replacing_a_run_whose_task_is_running(here: Running):
    """The old run's task is cancelled at its worker, and its late result is not the new run's."""
    name = f"replace {here.number}"
    first = await here.client.start(job.with_options(id=name), f"{name} old", True)
    await happened(EVENTS[f"{name} old runs"])
    second = await here.client.start(job.with_options(id=name, if_exists="replace"), f"{name} new", False)
    await happened(EVENTS[f"{name} old cancelled"])
    assert await second.result(SECONDS) == f"{name} new"
    with pytest.raises(edow.WorkflowTerminated):
        await first.result(SECONDS)


async def test_many_replacements_in_a_row(here: Running):
    """Only the last of many runs counts, and the task of the first is stopped."""
    name = f"many {here.number}"
    await here.client.start(job.with_options(id=name), f"{name} 0", True)
    await happened(EVENTS[f"{name} 0 runs"])
    replacing = job.with_options(id=name, if_exists="replace")
    for number in range(1, 20):
        last = await here.client.start(replacing, f"{name} {number}", number < 19)
    assert await last.result(SECONDS) == f"{name} 19"
    await happened(EVENTS[f"{name} 0 cancelled"])


@pytest.mark.parametrize("mode", MODES)
async def test_what_was_meant_for_the_replaced_run(tmp_path: Any, mode: str):
    """Commands sent before a replacement do not reach the new run, those sent after it do."""
    setup = Setup(tmp_path, mode)
    async with setup.system(REGISTRY) as system, edow.Client(store=system.store) as client:
        for how in ("cancel", "terminate", "signal"):
            handle = await client.start(listens.with_options(id=how), "old")
            await (handle.signal("x", "early") if how == "signal" else getattr(handle, how)())
            await client.start(listens.with_options(id=how, if_exists="replace"), "new")
            await handle.signal("x", "late")
    async with running(setup, REGISTRY) as here:
        for how in ("cancel", "terminate", "signal"):
            assert await here.client.get(how).result(SECONDS) == "new late"


@pytest.mark.parametrize("mode", MODES)
async def test_replaced_before_it_was_started(tmp_path: Any, mode: str):
    """A run that was replaced before an orchestrator saw it never runs."""
    setup = Setup(tmp_path, mode)
    name = f"before {mode}"
    async with setup.system(REGISTRY) as system, edow.Client(store=system.store) as client:
        await client.start(job.with_options(id=name), f"{name} old", False)
        await client.start(job.with_options(id=name, if_exists="replace"), f"{name} new", False)
    async with running(setup, REGISTRY) as here:
        assert await here.client.get(name).result(SECONDS) == f"{name} new"
    assert CALLS[f"{name} old"] == 0


@pytest.mark.parametrize("mode", MODES)
async def test_commands_behind_continue_as_new_in_one_batch(tmp_path: Any, mode: str):
    """What came in the same batch, behind the signal that ended a run, reaches the next run."""
    setup = Setup(tmp_path, mode)
    async with setup.system(CONTINUING) as system, edow.Client(store=system.store) as client:
        counted = await client.start(continues.with_options(id="counted"), 0)
        cancelled = await client.start(continues.with_options(id="cancelled"), 0)
        for number in range(5):
            await counted.signal("n", number)
        await cancelled.signal("n", 0)
        await cancelled.cancel("enough")
    async with running(setup, CONTINUING, worker=False) as here:
        assert await here.client.get("counted").result(SECONDS) == 5
        with pytest.raises(edow.WorkflowCancelled, match="enough"):
            await here.client.get("cancelled").result(SECONDS)


@edow.workflow
async def continues(done: int) -> int:
    if done == 5:
        return done
    await edow.wait_signal("n", int)
    return edow.continue_as_new(done + 1)


CONTINUING = registry_of({"continues": continues})
