"""Store, broker and leases that are away, and orchestrators that take over from each other. Nothing is lost."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

import edow
from edow.app import System
from edow.engine.limits import Limits
from edow.errors import Bug, StoreUnavailable, TransportUnavailable
from edow.model import history, inbox
from edow.model.execution import Execution
from edow.orchestrator.config import OrchestratorConfig
from edow.orchestrator.decider import Decider, Room
from edow.orchestrator.leases import Leases
from edow.store.contract import Stored
from tests.integration.system import MODES, SECONDS, Running, Setup, registry_of, running, until


@edow.task
async def add(a: int, b: int) -> int:
    return a + b


@edow.workflow
async def sums(a: int) -> int:
    return await add(await add(a, 1), 1)


@edow.workflow
async def waits(data: str = "") -> int:
    return await edow.wait_signal("go", int)


REGISTRY = registry_of(globals())


modes = pytest.mark.parametrize("mode", MODES)


class Flaky:
    """Passes everything on, but for verbs that fail while `away`."""

    def __init__(self, inner: Any, error: Exception, *verbs: str) -> None:
        self._inner = inner
        self._error = error
        self._verbs = verbs
        self.away = False
        self.refused = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in self._verbs:
            return found

        @functools.wraps(found)
        async def verb(*args: Any, **kwargs: Any) -> Any:
            if self.away:
                self.refused.set()
                raise self._error
            return await found(*args, **kwargs)

        return verb


STORE_VERBS = ("commit", "load", "inbox_read", "due_read", "leases_share", "leases_hold", "leases_release", "stalled")


READS = ("load", "inbox_read", "due_read", "stalled", "outbox_read")


def flaky_store(*verbs: str) -> Callable[[System], None]:
    def change(system: System) -> None:
        system.store = Flaky(system.store, StoreUnavailable("away for a test"), *verbs)  # type: ignore[assignment]

    return change


def flaky_transport(system: System) -> None:
    error = TransportUnavailable("away for a test")
    system.transport = Flaky(system.transport, error, "publish", "subscribe", "describe")  # type: ignore[assignment]


@modes
@pytest.mark.parametrize(
    "verbs", [("commit",), ("load",), READS, STORE_VERBS], ids=["commits", "loads", "reads", "all"]
)
async def test_a_store_that_is_away_for_a_while(tmp_path: Any, mode: str, verbs: tuple[str, ...]):
    """Whichever verbs fail, what was accepted goes on once the store is back."""
    async with running(Setup(tmp_path, mode), REGISTRY, change=flaky_store(*verbs)) as here:
        store: Any = here.system.store
        store.away = True
        handles = [await here.client.start(sums, n) for n in range(20)]
        await asyncio.wait_for(store.refused.wait(), SECONDS)
        store.away = False
        assert [await handle.result(SECONDS) for handle in handles] == [n + 2 for n in range(20)]


@pytest.mark.parametrize("mode", ["separate", "separate-cold"])
async def test_a_broker_that_is_away_for_a_while(tmp_path: Any, mode: str):
    """Task events that could not be published are published later."""
    async with running(Setup(tmp_path, mode), REGISTRY, change=flaky_transport) as here:
        transport: Any = here.system.transport
        transport.away = True
        handles = [await here.client.start(sums, n) for n in range(20)]
        await asyncio.wait_for(transport.refused.wait(), SECONDS)
        transport.away = False
        assert [await handle.result(SECONDS) for handle in handles] == [n + 2 for n in range(20)]


@modes
@pytest.mark.parametrize("verbs", [("commit", "leases_release"), STORE_VERBS], ids=["commits", "all"])
async def test_stopping_while_the_store_is_away(tmp_path: Any, mode: str, verbs: tuple[str, ...]):
    """stop() returns, may be called again, and start() afterwards serves again."""
    async with running(Setup(tmp_path, mode), REGISTRY, change=flaky_store(*verbs)) as here:
        store: Any = here.system.store
        store.away = True
        handle = await here.client.start(sums, 1)
        await asyncio.wait_for(store.refused.wait(), SECONDS)
        await asyncio.wait_for(here.orchestrator.stop(), SECONDS)
        await here.orchestrator.stop()
        store.away = False
        await here.orchestrator.start()
        assert await handle.result(SECONDS) == 3


async def test_a_bug_in_a_loop_is_told(tmp_path: Any):
    """When a background loop raises something unexpected, wait() raises with its text."""
    async with running(Setup(tmp_path), REGISTRY, worker=False) as here:
        store = here.system.store

        async def broken(*args: object) -> None:
            raise ZeroDivisionError("broken on purpose")

        store.commit = broken  # type: ignore[method-assign,assignment]
        await here.client.start(sums, 1)
        with pytest.raises(Bug, match="broken on purpose"):
            await asyncio.wait_for(here.orchestrator.wait(), SECONDS)


@modes
@pytest.mark.parametrize("verb", ["commit", "load", "inbox_read", "receive"])
async def test_a_call_that_ends_as_cancelled_though_nobody_has_cancelled_it(tmp_path: Any, mode: str, verb: str):
    """As some client libraries have it when a connection breaks: an orchestrator that took it for its own end would
    hold its shards for ever, and do nothing.
    """
    let_out = asyncio.Event()

    def once(of: Any) -> None:
        found = getattr(of, verb)

        async def cancelled(*args: Any, **kwargs: Any) -> Any:
            if not let_out.is_set():
                let_out.set()
                raise asyncio.CancelledError
            return await found(*args, **kwargs)

        setattr(of, verb, cancelled)

    async with running(Setup(tmp_path, mode), REGISTRY) as here:
        once(here.orchestrator._cycle.subscriber if verb == "receive" else here.system.store)
        handle = await here.client.start(sums, 1)
        await asyncio.wait_for(let_out.wait(), SECONDS)
        assert await handle.result(SECONDS) == 3


@pytest.mark.parametrize("mode", ["joined-cold", "separate-cold"])
async def test_an_execution_in_somebody_elses_shard(tmp_path: Any, mode: str):
    """Whatever comes for it, an execution that is not in memory is moved by the owner of its shard alone."""
    async with running(Setup(tmp_path, mode), REGISTRY, worker=False) as here:
        handle = await here.client.start(waits)
        await until(lambda: _nothing_in_memory(here))
        before = await here.client.history(handle.id)
        cycle = here.orchestrator._cycle
        shard = (await handle.describe()).shard
        cycle.leases = {each: epoch for each, epoch in cycle.leases.items() if each != shard}
        here.orchestrator._inputs.wake([(0, handle.id)])  # asked for before the lease was lost
        await handle.signal("go", 1)
        await until(lambda: _empty_inbox(here))
        assert await here.client.history(handle.id) == before


async def _nothing_in_memory(here: Running) -> bool:
    return await _empty_inbox(here) and not here.orchestrator._decider.exceeds(Room(0, 0))


async def _empty_inbox(here: Running) -> bool:
    return (await here.system.store.counts(0)).inbox == 0


@pytest.mark.parametrize("mode", ["joined-cold", "separate"])
async def test_two_orchestrators_share_the_shards(tmp_path: Any, mode: str):
    """The shards are spread; when one stops the other takes over, and every execution ends."""
    setup = Setup(tmp_path, mode)
    async with running(setup, REGISTRY) as here:
        other = here.system.orchestrator(**setup.orchestrator_config())
        await other.start()

        async def spread() -> bool:
            return len(other.shards) == len(here.orchestrator.shards) == here.system.store.shards // 2

        await until(spread)
        handles = [await here.client.start(sums, n) for n in range(50)]
        await other.stop()
        assert [await handle.result(SECONDS) for handle in handles] == [n + 2 for n in range(50)]


async def test_shards_are_spread_evenly_whatever_their_number(tmp_path: Any):
    """Nobody has two more than another, also where the shards cannot be divided by their owners."""
    async with Setup(tmp_path).system(REGISTRY) as system:
        now, config = time.time_ns() // 1000, OrchestratorConfig()
        owners = [Leases(system.store, config, lambda: now) for _ in range(3)]
        held = [[len(await owner.run_once()) for owner in owners] for _ in range(5)]
        assert sorted(held[-1]) == [1, 1, 2]
        assert held[-1] == held[-2]


async def test_who_cannot_reach_the_broker_leaves_the_shards_to_others(tmp_path: Any):
    """They end what was under way; once it can reach the broker again it has its share again."""
    setup = Setup(tmp_path, "separate")
    async with (
        running(setup, REGISTRY, worker=False, change=flaky_transport) as here,
        running(setup, REGISTRY) as there,
    ):
        transport: Any = here.system.transport
        half = here.system.store.shards // 2

        async def shared() -> bool:
            return len(here.orchestrator.shards) == len(there.orchestrator.shards) == half

        await until(shared)
        transport.away = True
        handles = [await there.client.start(sums, n) for n in range(20)]
        assert [await handle.result(SECONDS) for handle in handles] == [n + 2 for n in range(20)]
        assert not here.orchestrator.shards
        transport.away = False
        await until(shared)


async def test_who_has_lost_the_leases_keeps_no_results(tmp_path: Any):
    """Also while a commit waits for a store that is away: whoever has the shards then needs them."""
    async with running(Setup(tmp_path, "separate"), REGISTRY, change=flaky_store(*STORE_VERBS)) as here:
        store: Any = here.system.store
        subscriber: Any = here.orchestrator._cycle.subscriber
        closed, close = asyncio.Event(), subscriber.close

        async def told() -> None:
            closed.set()
            await close()

        subscriber.close = told
        store.away = True
        handle = await here.client.start(sums, 1)
        await asyncio.wait_for(closed.wait(), SECONDS)
        store.away = False
        assert await handle.result(SECONDS) == 3


@modes
async def test_a_stolen_lease(tmp_path: Any, mode: str):
    """An orchestrator whose leases another owner has taken commits nothing more, and recovers by itself."""
    setup = Setup(tmp_path, mode, {"lease_ttl": 3600.0})  # it does not look after its leases meanwhile
    async with running(setup, REGISTRY) as here:
        store = here.system.store
        future = 2 * time.time_ns() // 1000
        stolen = await store.leases_hold("thief", store.shards, future, future)
        assert {lease.owner for lease in stolen} == {"thief"}
        handle = await here.client.start(sums, 1)

        async def noticed() -> bool:
            return not here.orchestrator.shards

        await until(noticed)
        assert len(await here.client.history(handle.id)) == 1
        await store.leases_release("thief")
        await here.orchestrator._renew()
        assert await handle.result(SECONDS) == 3


ROOM = Room(10, 1_000_000)


@edow.workflow
async def endless(run: int) -> int:
    return edow.continue_as_new(run + 1)


def test_an_end_that_is_not_committed_stays_in_memory():
    """Until its commit is on disk a continued run must not be forgotten: it would be loaded as it was before."""
    decider = Decider(registry_of({"endless": endless}), Limits(), 1)
    row = Execution(id="e", workflow="endless", shard=0, input=msgspec.Raw(b'{"run":1}'))
    started = history.encoder.encode([history.Started(at=1, workflow="endless", input=row.input)])
    draft = decider.decide({"e": [inbox.Start()]}, [Stored(row, [started], {})], 2, [])
    assert draft.ended == ["e"]
    decider.settle(["e"], ROOM, draft.touched)  # an earlier end of it is on disk
    assert decider.must_refresh({"e": []}, [])
    decider.settle(["e"], ROOM, [])
    assert decider.cold(["e"]) == ["e"]
