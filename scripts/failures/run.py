"""One failure run: start all executions, have them go on bit by bit, break something meanwhile, count at the end."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from random import Random
from typing import TypeVar

import asyncpg

from edow.app import connect_store, now
from edow.client import Client
from edow.client.handle import Handle
from edow.errors import Unavailable, WrongState
from edow.model.execution import ENDED, Execution
from edow.store.contract import Store
from edow.testing.folders import working_folder
from edow.testing.polling import until
from edow.testing.processes import Fleet, Memory, Role, Service
from edow.testing.stage import Stage
from scripts.failures import judge
from scripts.failures.faults import FAULTS, Crew, Scene
from scripts.failures.ledger import LEDGER, Ledger
from scripts.failures.model import Options, Result
from scripts.failures.network import Host
from scripts.failures.place import Place, servers
from scripts.failures.workflows import SIGNALS, course, fan_out

T = TypeVar("T")

MODULES = ("scripts.failures.workflows",)
EACH = 3  # orchestrators, and workers
STRIKE_SHARE = 0.03  # of the executions have been signalled when the fault strikes
LOOK_SECONDS = 0.25
PAUSE_SECONDS = 0.2  # before a call is tried again
CHUNK = 500  # rows asked for at once
MOST_GROWTH_MB = 128  # of an orchestrator while something is broken: it may get the shards of two others
SPREAD_SECONDS = 20.0  # for the shards to be spread evenly: who was cut off silently has connections to give up
ROLES: tuple[Role, ...] = ("orchestrator", "worker")
AWAY = (Unavailable, OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


async def run(options: Options, stage: Stage) -> Result:
    """Raises ServiceDied when a process ends unasked, InvalidInput for a fault that this place cannot have."""
    async with working_folder("edow-failures-", options.keep) as folder, AsyncExitStack() as stack:
        fault = FAULTS[options.fault]
        made = servers(options.transport, broker=fault.broker, networked=fault.networked)
        place = await asyncio.to_thread(stack.enter_context, made)
        ledger = Ledger(place.database.url)
        stack.push_async_callback(ledger.close)
        await ledger.create()
        store = connect_store(place.store)
        await store.open()
        stack.push_async_callback(store.close)
        client = await stack.enter_async_context(Client(store=store))
        environment = {LEDGER: place.database.url}
        fleet = await stack.enter_async_context(Fleet(MODULES, place.store, folder, place.transport, environment))
        if options.keep:
            stage.say(f"logs are kept in {folder}")
        trial = Trial(options, stage, Parts(place, store, client, ledger, fleet))
        return await fleet.during(trial.run())


class Parts:
    """What a run consists of."""

    def __init__(self, place: Place, store: Store, client: Client, ledger: Ledger, fleet: Fleet) -> None:
        self.place = place
        self.store = store
        self.client = client
        self.ledger = ledger
        self.fleet = fleet


class Trial:
    """One run, from the first start to the counting."""

    def __init__(self, options: Options, stage: Stage, parts: Parts) -> None:
        self._options = options
        self._stage = stage
        self._parts = parts
        self._hosts: dict[int, Host] = {}
        self._asked: dict[str, float] = {}  # by execution: when its signals were first sent, in seconds since 1970
        self._strikes: list[judge.Strike] = []
        self._signalled = 0
        self._under_way = 0
        self._ended = 0
        self._spread_seconds = 0.0
        self._shards: list[int] = []
        self._memory_mb: list[float] = []  # of the largest orchestrator: when the fault struck first, and since
        self._findings: list[str] = []

    @property
    def _total(self) -> int:
        return self._options.executions + self._options.fan_outs

    async def run(self) -> Result:
        services = [await self._launch(role) for role in ROLES for _ in range(EACH)]
        for service in services:
            await service.ready()
        await self._spread(self._parts.fleet.alive("orchestrator"))
        handles = await self._start()
        over = asyncio.Event()
        watching = asyncio.create_task(self._watch())
        breaking = asyncio.create_task(self._break(over))
        try:
            async with asyncio.timeout(self._options.seconds + self._options.patience_seconds):
                await self._ask(handles)
                await until(self._all_ended, LOOK_SECONDS)
                over.set()
                await breaking
            self._stage.say("all have ended", "good")
        except TimeoutError:
            self._findings.append("the patience of this run is over")
        finally:
            for task in (watching, breaking):
                task.cancel()
            _, broke = await asyncio.gather(watching, breaking, return_exceptions=True)
        if isinstance(broke, Exception):
            raise broke
        await self._spread(self._parts.fleet.alive("orchestrator"))
        return await self._judge([handle.id for handle in handles])

    # ── before the fault ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _launch(self, role: Role) -> Service:
        network = self._parts.place.network
        host = await asyncio.to_thread(network.add_host) if network else None
        service = await self._parts.fleet.start(role, within=host.within if host else ())
        if host is not None:
            self._hosts[service.pid] = host
        return service

    async def _start(self) -> list[Handle[int]]:
        """All of them; returns when each of the courses has done its first step and waits for its signals."""
        names = [f"course-{number:06}" for number in range(self._options.executions)]
        fans = [f"fan-{number:06}" for number in range(self._options.fan_outs)]
        handles = await self._parts.client.start_many(course, [(name,) for name in names], names)
        handles += await self._parts.client.start_many(fan_out, [(name, self._options.width) for name in fans], fans)
        self._stage.say(f"{len(handles):,} executions are under way")

        async def all_wait() -> bool:
            return await self._parts.ledger.count() >= len(names)

        async with asyncio.timeout(self._options.patience_seconds):
            await until(all_wait, LOOK_SECONDS)
        Random(self._options.seed).shuffle(handles)
        return handles

    # ── meanwhile ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _ask(self, handles: Sequence[Handle[int]]) -> None:
        """Send the signals at an even pace; a store that is away is asked again, as any client would."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number, handle in enumerate(handles):
                due = began + number * self._options.seconds / len(handles)
                if (early := due - time.monotonic()) > 0:
                    await asyncio.sleep(early)
                self._asked[handle.id] = time.time()
                group.create_task(self._signal(handle))
                self._signalled = number + 1
                self._stage.advance("signalled", number + 1, len(handles))

    async def _signal(self, handle: Handle[int]) -> None:
        for value, name in enumerate(SIGNALS, start=1):
            try:
                await self._again(lambda name=name, value=value: handle.signal(name, value))  # type: ignore[misc]
            except WrongState:
                pass  # an answer was lost, and what was sent again came after the end

    async def _again(self, call: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await call()
            except AWAY:
                await asyncio.sleep(PAUSE_SECONDS)

    async def _break(self, over: asyncio.Event) -> None:
        async def enough() -> bool:
            return self._signalled >= self._total * STRIKE_SHARE

        await until(enough)
        alive = self._parts.fleet.alive
        crew = Crew(alive, self._launch, self._spread, self._hosts)
        chance = Random(self._options.seed)
        scene = Scene(crew, self._parts.place, self._stage, chance, over, self._broken)
        await FAULTS[self._options.fault].act(scene)

    @contextmanager
    def _broken(self) -> Iterator[None]:
        if not self._strikes:
            self._under_way = self._total - self._ended
            self._weigh()
        strike = judge.Strike(time.time())
        self._strikes.append(strike)
        yield
        strike.healed_at = time.time()

    async def _watch(self) -> None:
        while True:
            counts = await self._again(lambda: self._parts.store.counts(now()))
            self._ended = sum(counts.by_status.get(status, 0) for status in ENDED)
            self._stage.advance("ended", self._ended, self._total)
            if self._strikes:
                self._weigh()
            await asyncio.sleep(LOOK_SECONDS)

    def _weigh(self) -> None:
        self._memory_mb.append(max(Memory(each.pid).now_mb for each in self._parts.fleet.alive("orchestrator")))

    async def _all_ended(self) -> bool:
        return self._ended >= self._total

    # ── shards ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _spread(self, services: Collection[Service]) -> None:
        """Until the shards are spread evenly over these orchestrators; if that takes too long, it is a finding."""
        pids, shards, began = [service.pid for service in services], self._parts.store.shards, time.monotonic()

        async def even() -> bool:
            self._shards = held = await self._again(lambda: self._held(pids))
            return max(held) - min(held) <= 1 and sum(held) == shards

        try:
            async with asyncio.timeout(SPREAD_SECONDS):
                await until(even, LOOK_SECONDS)
        except TimeoutError:
            self._findings.append(f"the {shards} shards are not spread evenly: {self._shards}")
        self._spread_seconds = max(self._spread_seconds, time.monotonic() - began)

    async def _held(self, pids: Sequence[int]) -> list[int]:
        """Whoever wants none sees the leases of all."""
        leases = await self._parts.store.leases_hold("failures", 0, now(), now())
        valid = Counter(lease.owner.partition("/")[0].rpartition(":")[2] for lease in leases if lease.until > now())
        return [valid[str(pid)] for pid in pids]

    # ── afterwards ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _judge(self, ids: Sequence[str]) -> Result:
        rows = await self._again(lambda: self._rows(ids))
        effects = await self._again(self._parts.ledger.read)
        noted = await self._again(self._parts.ledger.noted)
        expected = judge.expected_effects(self._options)
        pause, recovery = judge.pauses(effects, self._strikes, self._parts.store.shards)
        if noted != len(effects):
            self._findings.append(f"edow.once has noted {noted} effects, and {len(effects)} were applied")
        peak = max(self._memory_mb, default=0.0)
        grown = peak - self._memory_mb[0] if self._memory_mb else 0.0
        if grown > MOST_GROWTH_MB:
            self._findings.append(f"an orchestrator grew by {grown:.0f} MB: it kept what it should have left alone")
        return Result(
            transport=self._options.transport,
            fault=self._options.fault,
            executions=self._total,
            under_way=self._under_way,
            ended=sum(row.status in ENDED for row in rows),
            wrong_ends=len(judge.wrong_ends(rows)),
            signals=len(self._asked) * len(SIGNALS),
            effects=len(expected),
            lost=len(judge.lost(expected, effects)),
            twice=len(judge.applied_too_often(expected, effects)),
            strikes=len(self._strikes),
            pause_seconds=round(pause, 2),
            recovery_seconds=round(recovery, 2),
            wait_seconds=round(judge.longest_wait(effects, self._asked), 2),
            spread_seconds=round(self._spread_seconds, 2),
            shards=self._shards,
            peak_mb=round(peak),
            grown_mb=round(grown),
            findings=[*self._findings, *judge.findings(rows, expected, effects)],
        )

    async def _rows(self, ids: Sequence[str]) -> list[Execution]:
        found = [await self._parts.store.executions_get(ids[at : at + CHUNK]) for at in range(0, len(ids), CHUNK)]
        return [row for rows in found for row in rows if row is not None]
