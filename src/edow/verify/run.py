"""Starts random executions, kills random processes, waits for all to end, compares with the simulation.

What the executions do depends on the seed alone; when processes die depends on the machine as well.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

import msgspec

from edow.app import System
from edow.client import Client
from edow.client.handle import Handle
from edow.errors import Failed, WorkflowCancelled, WorkflowFailed, WrongState
from edow.model import topics
from edow.model.execution import Status
from edow.store.contract import Counts, ExecutionFilter
from edow.testing.folders import working_folder
from edow.testing.polling import until
from edow.testing.processes import Fleet, Role
from edow.testing.scratch import scratch
from edow.testing.stage import Stage
from edow.verify import counters, growth
from edow.verify.model import Options, Outcome, Result
from edow.verify.simulation import simulate
from edow.verify.tree import Cancelled, Plan, signals_of
from edow.verify.workflows import WAITS, grow, grow_and_wait

MODULES = ("edow.verify.workflows",)
ORCHESTRATOR_SHARE = 0.3  # of the kills
REST_SECONDS = (0.3, 1.2)  # between two kills
DOWN_SECONDS = (0.0, 0.5)  # until the victim is replaced
HISTORY_TAIL = 8
LEFT_SECONDS = 15.0  # a dead worker's tasks come to another after their lease, which then hears that nobody waits
SHOWN = 5


async def run(options: Options, stage: Stage) -> Outcome:
    """Raises ServiceDied when a process ends unasked."""
    async with working_folder("edow-verify-", options.keep) as folder, AsyncExitStack() as stack:
        counters.create(folder / "counters.db")
        part = scratch((options.store, options.transport), folder, MODULES, keep=options.keep)
        store, transport = await stack.enter_async_context(part)
        environment = {counters.DATABASE: str(folder / "counters.db")}
        system = await stack.enter_async_context(System(store, transport))
        client = await stack.enter_async_context(Client(store=system.store))
        fleet = await stack.enter_async_context(Fleet(MODULES, store, folder, transport, environment))
        return await fleet.during(Trial(options, stage, client, system, fleet).run(folder))


class Trial:
    """One verification."""

    def __init__(self, options: Options, stage: Stage, client: Client, system: System, fleet: Fleet) -> None:
        self._options = options
        self._stage = stage
        self._client = client
        self._system = system
        self._fleet = fleet
        self._until = 0.0
        self._plans: list[Plan] = []
        self._ended = 0
        self._killed: Counter[Role] = Counter()
        self._wrong: list[str] = []

    async def run(self, folder: Path) -> Outcome:
        services = [await self._fleet.start("orchestrator") for _ in range(self._options.orchestrators)]
        services += [await self._fleet.start("worker") for _ in range(self._options.workers)]
        await asyncio.gather(*(each.ready() for each in services))  # else those are killed that do nothing yet
        self._until = time.monotonic() + self._options.seconds
        killer = asyncio.create_task(self._keep_killing())
        feeders = [asyncio.create_task(self._keep_feeding()) for _ in range(self._options.in_flight)]
        everything = asyncio.gather(killer, *feeders, self._everything_ends())
        stuck: list[str] = []
        try:
            async with asyncio.timeout(self._options.seconds + self._options.patience_seconds):
                await everything
            self._stage.say(f"all {len(self._plans)} executions and their children have ended", "good")
        except TimeoutError:
            stuck = await self._stuck()
        outcome = await self._outcome(counters.read(folder / "counters.db"), stuck, folder)
        await self._fleet.kill()  # nothing is left to do that would be worth a graceful stop
        return outcome

    # ── run ───────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _keep_feeding(self) -> None:
        """One execution after the other."""
        while time.monotonic() < self._until:
            plan = growth.plan(self._options.seed, len(self._plans))
            self._plans.append(plan)
            await self._see_through(plan)
            self._ended += 1
            self._stage.advance("executions", self._ended, len(self._plans))

    async def _see_through(self, plan: Plan) -> None:
        handle = await self._start(plan)
        chance = Random(plan.id)
        for signal in signals_of(plan.root):
            await asyncio.sleep(chance.choice((0, 0, 0.05)))
            await self._signal(handle, signal.key, signal.amount)
        if plan.cancelled:
            await until(lambda: self._waits(handle))
            await handle.cancel("as planned")
        self._check(plan, await _end(handle))

    async def _start(self, plan: Plan) -> Handle[None]:
        if plan.cancelled and isinstance(plan.root, Cancelled):
            return await self._client.start(grow_and_wait.with_options(id=plan.id), plan.root)
        return await self._client.start(grow.with_options(id=plan.id), plan.root)

    async def _signal(self, handle: Handle[None], name: str, amount: int) -> None:
        try:
            await handle.signal(name, amount)
        except WrongState:
            pass  # it failed before it came to the wait, as its plan may say

    async def _waits(self, handle: Handle[None]) -> bool:
        row = await handle.describe()
        return row.progress is not None and msgspec.json.decode(row.progress) == WAITS

    def _check(self, plan: Plan, end: str) -> None:
        expected = "cancelled" if plan.cancelled else "completed" if simulate(plan.root)[1] else "failed"
        if end != expected:
            self._wrong.append(f"{plan.id} ended {end}, should have {expected}")

    async def _everything_ends(self) -> None:
        """Children too, which may outlive their parents by a moment."""
        await asyncio.sleep(max(0.0, self._until - time.monotonic()))

        async def nothing_open() -> bool:
            return not _open(await self._counts())

        await until(nothing_open, every_seconds=0.1)

    # ── kill ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _keep_killing(self) -> None:
        chance = Random(self._options.seed)
        while time.monotonic() < self._until:
            await asyncio.sleep(chance.uniform(*REST_SECONDS))
            role: Role = "orchestrator" if chance.random() < ORCHESTRATOR_SHARE else "worker"
            victim = chance.choice(self._fleet.alive(role))
            await victim.kill()
            self._killed[role] += 1
            await asyncio.sleep(chance.uniform(*DOWN_SECONDS))
            replacement = await self._fleet.start(role)
            self._stage.say(f"kill -9 {victim}, replaced by {replacement}", "loud")

    # ── judge ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _outcome(self, actual: Counter[str], stuck: list[str], folder: Path) -> Outcome:
        expected: Counter[str] = Counter()
        for plan in self._plans:
            expected.update(simulate(plan.root)[0])
        counts = await self._counts()
        result = Result(
            seed=self._options.seed,
            executions=len(self._plans),
            children=sum(counts.by_status.values()) - len(self._plans),
            counters=len(expected),
            additions=expected.total(),
            cancelled=sum(plan.cancelled for plan in self._plans),
            workers_killed=self._killed["worker"],
            orchestrators_killed=self._killed["orchestrator"],
            healed=counts.healed,
            difference=difference(expected, actual),
            wrong_ends=len(self._wrong),
            stuck=_open(counts),
            left_running=await self._left_running(),
        )
        findings = [*self._wrong, *differences(expected, actual), *stuck]
        return Outcome(result, findings, str(folder) if self._options.keep else None)

    async def _counts(self) -> Counts:
        return await self._system.store.counts(time.time_ns() // 1000)

    async def _left_running(self) -> int:
        """Tasks that are still in a worker's hands although nobody waits for them, some time after the end."""
        if not self._system.transport.features.lag:
            return 0
        left = 0

        async def none() -> bool:
            nonlocal left
            [topic] = await self._system.transport.describe([topics.task_topic("default")])
            left = sum(group.in_flight or 0 for group in topic.groups)
            return not left

        try:
            async with asyncio.timeout(LEFT_SECONDS):
                await until(none, every_seconds=0.2)
        except TimeoutError:
            pass
        return left

    async def _stuck(self) -> list[str]:
        """What is known of executions that should have ended."""
        page = await self._client.page(ExecutionFilter(status=(Status.RUNNING, Status.PARKED), limit=SHOWN))
        told = []
        for row in page.executions:
            history = await self._client.history(row.id)
            tail = "\n    ".join(str(event) for event in history[-HISTORY_TAIL:])
            failure = f", {bytes(row.failure).decode()}" if row.failure else ""
            told.append(
                f"{row.id} is {row.status}{failure}, run {row.run}, wake at {row.wake_at}; it ends with\n    {tail}"
            )
        return told


def difference(expected: Counter[str], actual: Counter[str]) -> int:
    """The sum of |expected − actual|."""
    return sum(abs(expected[key] - actual[key]) for key in expected | actual)


def differences(expected: Counter[str], actual: Counter[str]) -> list[str]:
    return [
        f"{key} is {actual[key]}, should be {expected[key]}"
        for key in expected | actual
        if expected[key] != actual[key]
    ]


async def _end(handle: Handle[None]) -> str:
    try:
        await handle.result()
    except WorkflowCancelled:
        return "cancelled"
    except (WorkflowFailed, Failed) as failure:
        return "failed" if "Doomed" in str(failure) else f"failed with {failure}"
    return "completed"


def _open(counts: Counts) -> int:
    return sum(counts.by_status.get(status, 0) for status in (Status.RUNNING, Status.PARKED))
