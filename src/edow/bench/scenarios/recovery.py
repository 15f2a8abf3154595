"""How long nothing goes on after `kill -9` of the orchestrator, and of the only worker, under load.

Each is replaced at once, as a supervisor would, so that the start of a Python process is included. Progress is
executions that complete, read from the store every few milliseconds.
"""

from __future__ import annotations

import asyncio
import time

from edow.app import now
from edow.bench.cluster import Cluster, processes
from edow.bench.load import Load
from edow.bench.model import Measurement, Options, Place
from edow.bench.workflows import three_steps
from edow.model.execution import Status
from edow.testing.polling import until
from edow.testing.processes import Role
from edow.testing.stage import Stage

ENOUGH = 2_000  # executions that complete, for the load to be called in full flow
STEPS = 3
TARGET = "5 s, nothing lost"


async def measure(options: Options, place: Place, stage: Stage) -> Measurement:
    taken: dict[Role, float] = {}
    enough = options.workflows or ENOUGH
    async with processes(place) as cluster:
        load = Load(cluster.client, cluster.store, three_steps, "bench")
        warm = await cluster.fleet.during(load.run(enough))
        busy = asyncio.create_task(load.keep_up())
        try:
            roles: tuple[Role, ...] = ("orchestrator", "worker")
            for role in roles:
                await cluster.fleet.during(_busy(cluster, enough))
                taken[role] = await cluster.fleet.during(_recover(cluster, role, enough))
                stage.say(f"kill -9 of the {role}: work goes on after {taken[role]:.2f} s", "good")
            await cluster.fleet.during(_busy(cluster, enough))
        finally:
            busy.cancel()
            await asyncio.gather(busy, return_exceptions=True)
        peak = cluster.peak_rss_mb()
    return Measurement(
        scenario="recovery",
        store=place.names[0],
        transport=place.names[1],
        steps_per_second=round(warm.per_second * STEPS, 1),
        workflows_per_second=round(warm.per_second, 1),
        ceiling_steps_per_second=None,
        ratio=None,
        latency_ms=None,
        peak_rss_mb=peak,
        fsync=True,
        details={f"{role}_seconds": round(seconds, 3) for role, seconds in taken.items()},
        headline=", ".join(f"{role} {seconds:.2f} s" for role, seconds in taken.items()),
        target=TARGET,
    )


async def _recover(cluster: Cluster, role: Role, enough: int) -> float:
    """Kill one, replace it, and watch until work is in full flow again; the longest pause, in seconds."""
    [victim] = cluster.fleet.alive(role)
    await victim.kill()
    pulse = Pulse(cluster, await _completed(cluster))
    replacement = await cluster.fleet.start(role)
    watching = asyncio.create_task(pulse.watch())
    try:
        await replacement.ready()
        goal = pulse.completed + enough
        await until(lambda: pulse.reached(goal))
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    return pulse.longest_pause


class Pulse:
    """Sees executions complete, and how long there was none. What was under way when a process died may still end at
    once; that must not pass for recovery, so it is the longest pause that counts.
    """

    def __init__(self, cluster: Cluster, completed: int) -> None:
        self.completed = completed
        self.longest_pause = 0.0
        self._cluster = cluster
        self._last = time.perf_counter()

    async def watch(self) -> None:
        await until(self._look)

    async def reached(self, completed: int) -> bool:
        return self.completed >= completed

    async def _look(self) -> bool:
        completed, at = await _completed(self._cluster), time.perf_counter()
        if completed > self.completed:
            self.longest_pause = max(self.longest_pause, at - self._last)
            self.completed, self._last = completed, at
        return False


async def _busy(cluster: Cluster, enough: int) -> None:
    """Until so many more have completed that the load is in full flow."""
    before = await _completed(cluster)
    await until(lambda: _more_than(cluster, before + enough))


async def _more_than(cluster: Cluster, completed: int) -> bool:
    return await _completed(cluster) > completed


async def _completed(cluster: Cluster) -> int:
    counts = await cluster.store.counts(now())
    return counts.by_status.get(Status.COMPLETED, 0)
