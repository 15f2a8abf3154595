"""One start names the endpoint that is told of its end: kept in the history, over replays and further runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import edow
from edow.app import now
from edow.client.endpoints import EndpointSpec
from edow.errors import InvalidInput, WorkflowFailed
from edow.store.contract import RecordFilter
from edow.trigger.outgoing import MESSAGES, OUTGOING
from edow.trigger.sender import Sender
from tests.integration.system import MODES, Running, Setup, registry_of, running


@edow.workflow
async def waiting(left: int = 0) -> str:
    said = await edow.wait_signal("go", str)
    if left:
        edow.continue_as_new(left - 1)
    return said


@edow.workflow
async def parent() -> str:
    return await waiting.with_options(notify="shop")(0)


REGISTRY = registry_of(globals())


async def told(here: Running) -> list[tuple[str, int]]:
    """(execution, run) of each message, in any order."""
    records = await here.system.store.records_list(RecordFilter(OUTGOING, MESSAGES))
    return sorted((each["id"], each["run"]) for each in (json.loads(record.body)["body"]["data"] for record in records))


async def ready(here: Running) -> None:
    """With an endpoint that is told of nothing unless a start names it; no message leaves the store."""
    await here.client.endpoints().create(EndpointSpec(name="shop", url="https://shop.example/", workflows=()))
    sender = Sender(here.system.store, now, "test")
    await sender.look_once()
    here.orchestrator.tell_ends(sender.ended)


@pytest.mark.parametrize("mode", MODES)
async def test_the_end_is_told_to_the_endpoint_that_the_start_has_named(tmp_path: Path, mode: str) -> None:
    """However it was started; also when it is rebuilt from its history before it ends, and of its last run alone where
    it continues as new. An execution that named none is told to nobody.
    """
    async with running(Setup(tmp_path, mode), REGISTRY, worker=False) as here:
        await ready(here)
        client, named = here.client, waiting.with_options(notify="shop")
        handles = [
            await client.start(named.with_options(id="a"), 1),
            *await client.start_many(named, [(0,)], ["b"]),
            await client.start_named("waiting", {}, id="c", notify="shop"),
            await client.start(waiting.with_options(id="silent")),
        ]
        await client.submit_named("waiting", [("d", {})], notify="shop")
        for each in (*handles, client.get("d"), client.get("a")):  # the first one has two runs
            await each.signal("go", "on")
        for each in (*handles, client.get("d")):
            assert await each.result(20) == "on"
        assert await told(here) == [("a", 2), ("b", 1), ("c", 1), ("d", 1)]


async def test_only_an_endpoint_that_there_is_can_be_named(tmp_path: Path) -> None:
    """An operator makes it: a start holds neither a URL nor a secret, and nothing is started for one that is wrong."""
    async with running(Setup(tmp_path), REGISTRY, worker=False) as here:
        for name in ("nobody", "https://127.0.0.1/", "a\x00b"):
            named = waiting.with_options(notify=name)
            for start in (
                here.client.start(named),
                here.client.start_many(named, [(0,)]),
                here.client.start_named("waiting", {}, notify=name),
                here.client.submit_named("waiting", [(None, {})], notify=name),
            ):
                with pytest.raises(InvalidInput, match="edow endpoint list"):
                    await start
        assert (await here.client.page()).executions == []


async def test_a_child_names_no_endpoint(tmp_path: Path) -> None:
    """Its parent hears of its end; the error says so."""
    async with running(Setup(tmp_path), REGISTRY, worker=False) as here:
        handle = await here.client.start(parent)
        with pytest.raises(WorkflowFailed, match=r"is for Client\.start"):
            await handle.result(20)
