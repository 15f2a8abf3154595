"""What waits to be tried again is told from what runs: in its row, in lists, and after a crash as before."""

from __future__ import annotations

from typing import Any

import pytest

import edow
from edow.client.outcome import failure_of, standing_of
from edow.model.execution import Standing
from edow.store.contract import ExecutionFilter
from tests.integration.system import MODES, SECONDS, Running, Setup, registry_of, running, until

modes = pytest.mark.parametrize("mode", MODES)


class Away(Exception):
    """Of somebody else's service."""


@edow.task(retry=edow.Retry(attempts=2, initial="1h"))
async def call(where: str) -> None:
    raise Away(where)


@edow.task(retry=edow.Retry(attempts=3, initial="5ms"))
async def call_soon() -> int:
    if (number := edow.context().attempt) < 3:
        raise Away(f"attempt {number}")
    return number


@edow.workflow
async def calls(where: str) -> None:
    await call(where)


@edow.workflow
async def calls_soon() -> int:
    return await call_soon()


REGISTRY = registry_of(globals())


async def listed(here: Running, standing: Standing, *ids: str) -> None:
    """Until exactly these are."""

    async def so() -> bool:
        page = await here.client.page(ExecutionFilter(status=[standing]))
        return sorted(row.id for row in page.executions) == sorted(ids)

    await until(so)


@modes
async def test_what_waits_for_its_next_attempt_is_listed_until_it_goes_on(tmp_path: Any, mode: str):
    """With what went wrong; also when another orchestrator has taken it, when it is paused, and resumed."""
    setup = Setup(tmp_path, mode)
    async with running(setup, REGISTRY) as here:
        handle = await here.client.start(calls.with_options(id="a"), "bank")
        await listed(here, Standing.RETRYING, "a")
        failure = failure_of(await handle.describe())
        assert failure is not None
        assert (failure.message, failure.step, failure.stack) == ("bank", "call", "")
    async with running(setup, REGISTRY) as here:
        handle = here.client.get("a")
        await handle.pause("not now")
        await listed(here, Standing.PAUSED, "a")
        await listed(here, Standing.RETRYING)
        await handle.resume()
        await listed(here, Standing.RETRYING, "a")
        await listed(here, Standing.PAUSED)
        await handle.cancel()
        with pytest.raises(edow.errors.WorkflowCancelled):
            await handle.result(SECONDS)
        await listed(here, Standing.RETRYING)


@modes
async def test_what_has_been_tried_again_is_running_and_then_ends(tmp_path: Any, mode: str):
    """Nothing of the attempts that failed is left in the row."""
    async with running(Setup(tmp_path, mode), REGISTRY) as here:
        handle = await here.client.start(calls_soon)
        assert await handle.result(SECONDS) == 3
        row = await handle.describe()
        assert row.failure is None
        assert standing_of(row) is Standing.COMPLETED
