"""One failure run: start all executions, have them go on bit by bit, break something meanwhile, count at the end."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import TypeVar

from edow.app import System, now
from edow.client import Client
from edow.client.handle import Handle
from edow.errors import Unavailable, WrongState
from edow.model.execution import ENDED, Execution, Status
from edow.testing.folders import working_folder
from edow.testing.polling import until
from edow.testing.processes import Fleet
from edow.testing.stage import Stage
from scripts.failures import ledger
from scripts.failures.faults import FAULTS, Scene
from scripts.failures.model import Options, Result
from scripts.failures.place import servers
from scripts.failures.workflows import SIGNALS, STEPS, course, fan_out

T = TypeVar("T")

MODULES = ("scripts.failures.workflows",)
EACH = 3  # orchestrators, and workers
STRIKE_SHARE = 0.2  # of the executions have been signalled when the fault strikes
LOOK_SECONDS = 0.25
PAUSE_SECONDS = 0.2  # before a call is tried again
CHUNK = 500  # rows asked for at once
SHOWN = 10
SPREAD_SECONDS = 20.0  # for the shards to be spread evenly again: some renewals of leases


async def run(options: Options, stage: Stage) -> Result:
    """Raises ServiceDied when a process ends unasked, InvalidInput for a fault that this place cannot have."""
    async with working_folder("edow-failures-", options.keep) as folder, AsyncExitStack() as stack:
        ledger.create(folder / "ledger.db")
        made = servers(options.store, options.transport, folder)
        place = await asyncio.to_thread(stack.enter_context, made)
        system = await stack.enter_async_context(System(place.store, place.transport))
        client = await stack.enter_async_context(Client(store=system.store))
        environment = {ledger.LEDGER: str(folder / "ledger.db")}
        fleet = await stack.enter_async_context(Fleet(MODULES, place.store, folder, place.transport, environment))
        trial = Trial(options, stage, client, system, fleet)
        scene = Scene(fleet, place, stage, Random(options.seed), asyncio.Event(), trial.struck)
        if options.keep:
            stage.say(f"logs and ledger are kept in {folder}")
        return await fleet.during(trial.run(scene, folder))


class Trial:
    """One run, from the first start to the counting."""

    def __init__(self, options: Options, stage: Stage, client: Client, system: System, fleet: Fleet) -> None:
        self._options = options
        self._stage = stage
        self._client = client
        self._store = system.store
        self._fleet = fleet
        self._asked: dict[str, float] = {}  # by execution: when its signals were first sent, in seconds since 1970
        self._strikes: list[float] = []
        self._signalled = 0
        self._under_way = 0
        self._ended = 0
        self._findings: list[str] = []

    def struck(self) -> None:
        self._strikes.append(time.time())
        if len(self._strikes) == 1:
            self._under_way = self._total - self._ended

    @property
    def _total(self) -> int:
        return self._options.executions + self._options.fan_outs

    async def run(self, scene: Scene, folder: Path) -> Result:
        await self._begin()
        handles = await self._start(folder)
        watching = asyncio.create_task(self._watch())
        breaking = asyncio.create_task(self._break(scene))
        try:
            async with asyncio.timeout(self._options.seconds + self._options.patience_seconds):
                await self._ask(handles)
                await until(self._all_ended, LOOK_SECONDS)
                scene.over.set()
                await breaking
            self._stage.say("all have ended", "good")
        except TimeoutError:
            self._findings.append("the patience of this run is over")
        finally:
            for task in (watching, breaking):
                task.cancel()
            await asyncio.gather(watching, breaking, return_exceptions=True)
        shards = await self._spread()
        return await self._judge([handle.id for handle in handles], folder, shards)

    # ── before the fault ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _begin(self) -> None:
        services = [await self._fleet.start("orchestrator") for _ in range(EACH)]
        services += [await self._fleet.start("worker") for _ in range(EACH)]
        for service in services:
            await service.ready()

    async def _start(self, folder: Path) -> list[Handle[int]]:
        """All of them; returns when each of the courses has done its first step and waits for its signals."""
        names = [f"course-{number:06}" for number in range(self._options.executions)]
        fans = [f"fan-{number:06}" for number in range(self._options.fan_outs)]
        handles = await self._client.start_many(course, [(name,) for name in names], names)
        handles += await self._client.start_many(fan_out, [(name, self._options.width) for name in fans], fans)
        self._stage.say(f"{len(handles)} executions are under way")

        async def all_wait() -> bool:
            return len(await asyncio.to_thread(ledger.read, folder / "ledger.db")) >= len(names)

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
            except Unavailable:
                await asyncio.sleep(PAUSE_SECONDS)

    async def _break(self, scene: Scene) -> None:
        async def enough() -> bool:
            return self._signalled >= self._total * STRIKE_SHARE

        await until(enough)
        await FAULTS[self._options.fault](scene)

    async def _watch(self) -> None:
        while True:
            counts = await self._again(lambda: self._store.counts(now()))
            self._ended = sum(counts.by_status.get(status, 0) for status in ENDED)
            self._stage.advance("ended", self._ended, self._total)
            await asyncio.sleep(LOOK_SECONDS)

    async def _all_ended(self) -> bool:
        return self._ended >= self._total

    # ── afterwards ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _spread(self) -> list[int]:
        """How many shards each orchestrator that lives holds, once that is even; else it is a finding."""
        pids = [service.pid for service in self._fleet.alive("orchestrator")]
        held: list[int] = []

        async def even() -> bool:
            nonlocal held
            held = await self._again(lambda: self._held(pids))
            return max(held) <= -(-self._store.shards // len(pids)) and sum(held) == self._store.shards

        try:
            async with asyncio.timeout(SPREAD_SECONDS):
                await until(even, LOOK_SECONDS)
        except TimeoutError:
            self._findings.append(f"the {self._store.shards} shards are not spread evenly: {held}")
        return held

    async def _held(self, pids: Sequence[int]) -> list[int]:
        """Whoever wants none sees the leases of all."""
        leases = await self._store.leases_hold("failures", 0, now(), now())
        valid = Counter(lease.owner.partition("/")[0].rpartition(":")[2] for lease in leases if lease.until > now())
        return [valid[str(pid)] for pid in pids]

    async def _judge(self, ids: Sequence[str], folder: Path, shards: list[int]) -> Result:
        rows = await self._again(lambda: self._rows(ids))
        ended = [row for row in rows if row.status in ENDED]
        wrong = [row for row in ended if row.status is not Status.COMPLETED or bytes(row.result or b"") != b"3"]
        effects = await asyncio.to_thread(ledger.read, folder / "ledger.db")
        expected = self._expected()
        self._findings += [f"{row.id} is {row.status}" for row in (*wrong, *_open(rows))][:SHOWN]
        self._findings += [f"{key} was applied {effects[key]} times" for key in _different(expected, effects)][:SHOWN]
        return Result(
            store=self._options.store,
            transport=self._options.transport,
            fault=self._options.fault,
            executions=self._total,
            ended=len(ended),
            wrong_ends=len(wrong),
            signals=len(self._asked) * len(SIGNALS),
            effects=len(expected),
            lost=sum(not effects[key] for key in expected),
            twice=sum(times > 1 or key not in expected for key, times in effects.items()),
            faults=len(self._strikes),
            under_way=self._under_way,
            recovery_seconds=round(self._longest_pause(ended), 2),
            longest_wait_seconds=round(self._longest_wait(ended), 2),
            shards=shards,
            findings=self._findings,
        )

    def _expected(self) -> set[str]:
        courses = itertools.product(range(self._options.executions), range(STEPS))
        fans = itertools.product(range(self._options.fan_outs), range(self._options.width))
        return {f"course-{n:06}:{step}" for n, step in courses} | {f"fan-{n:06}:{part}" for n, part in fans}

    async def _rows(self, ids: Sequence[str]) -> list[Execution]:
        found = [await self._store.executions_get(ids[at : at + CHUNK]) for at in range(0, len(ids), CHUNK)]
        return [row for rows in found for row in rows if row is not None]

    def _longest_pause(self, ended: Sequence[Execution]) -> float:
        """From the fault on: what ended before it may have been the last for a while."""
        if not self._strikes:
            return 0.0
        after = sorted(at for row in ended if (at := _end(row)) > self._strikes[0])
        return max((late - early for early, late in itertools.pairwise([self._strikes[0], *after])), default=0.0)

    def _longest_wait(self, ended: Sequence[Execution]) -> float:
        return max((_end(row) - self._asked[row.id] for row in ended if row.id in self._asked), default=0.0)


def _end(row: Execution) -> float:
    return (row.ended_at or 0) / 1_000_000


def _open(rows: Sequence[Execution]) -> list[Execution]:
    return [row for row in rows if row.status not in ENDED]


def _different(expected: set[str], effects: Counter[str]) -> list[str]:
    return sorted(key for key in expected | set(effects) if effects[key] != (key in expected))
