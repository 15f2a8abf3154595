"""Pausing through a whole system: nothing goes out while paused, nothing is lost, on hot and on cold executions."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from typing import Any

import pytest

import edow
from edow.client.outcome import failure_of, is_paused
from edow.model import history
from tests.integration.system import MODES, SECONDS, Running, Setup, happened, has_status, registry_of, running, until

modes = pytest.mark.parametrize("mode", MODES)
BEGAN: defaultdict[str, threading.Event] = defaultdict(threading.Event)
MAY_END: defaultdict[str, threading.Event] = defaultdict(threading.Event)


@edow.task
async def first(name: str) -> int:
    BEGAN[name].set()
    await asyncio.to_thread(MAY_END[name].wait, SECONDS)
    return 1


@edow.task
async def second(name: str) -> int:
    BEGAN[f"{name} second"].set()
    return 2


@edow.workflow
async def two(name: str) -> int:
    return await first(name) + await edow.wait_signal("more", int) + await second(name)


REGISTRY = registry_of(globals())


async def inbox_is_empty(here: Running) -> bool:
    return (await here.system.store.counts(0)).inbox == 0


async def recorded(here: Running, handle: edow.Handle[Any], kind: type[history.Event]) -> None:
    """Until an event of the kind is in the history."""

    async def there() -> bool:
        return any(isinstance(event, kind) for event in await here.client.history(handle.id))

    await until(there)


@modes
async def test_what_comes_is_kept_and_nothing_goes_out(tmp_path: Any, mode: str):
    """A result and a signal that reach a paused execution are recorded; the next task runs after the resume."""
    name = f"paused {mode}"
    async with running(Setup(tmp_path, mode), REGISTRY) as here:
        handle = await here.client.start(two, name)
        await happened(BEGAN[name])
        await handle.pause("looking into it")
        await has_status(handle, "parked")
        row = await handle.describe()
        failure = failure_of(row)
        assert is_paused(row)
        assert failure is not None
        assert failure.message == "looking into it"

        await handle.signal("more", 40)
        MAY_END[name].set()
        await recorded(here, handle, history.TaskCompleted)
        await recorded(here, handle, history.SignalReceived)
        assert not BEGAN[f"{name} second"].is_set()
        assert not any(
            isinstance(event, history.TaskScheduled) and event.task == "second"
            for event in await here.client.history(handle.id)
        )

        await handle.resume()
        assert await handle.result(SECONDS) == 43
        assert not is_paused(await handle.describe())


@modes
async def test_a_pause_outlives_the_orchestrator(tmp_path: Any, mode: str):
    """Another one keeps to it, and goes on when told."""
    name = f"outlived {mode}"
    setup = Setup(tmp_path, mode)
    async with running(setup, REGISTRY) as here:
        handle = await here.client.start(two, name)
        await happened(BEGAN[name])
        await handle.pause()
        await has_status(handle, "parked")
    MAY_END[name].set()
    async with running(setup, REGISTRY) as here:
        again = here.client.get(handle.id)
        await again.signal("more", 40)
        await recorded(here, again, history.SignalReceived)
        assert is_paused(await again.describe())
        await again.resume()
        assert await again.result(SECONDS) == 43


@modes
async def test_many_pauses_and_resumes(tmp_path: Any, mode: str):
    """In any number and order, they change nothing about the result."""
    name = f"to and fro {mode}"
    MAY_END[name].set()
    async with running(Setup(tmp_path, mode), REGISTRY) as here:
        handle = await here.client.start(two, name)
        for _ in range(5):
            await handle.pause()
            await has_status(handle, "parked")
            await handle.pause()
            await handle.resume()
            await until(lambda: inbox_is_empty(here))
        await handle.signal("more", 40)
        assert await handle.result(SECONDS) == 43
