"""What 100,000 executions cost that sleep for a month: disk, memory, and the start of an orchestrator over them."""

from __future__ import annotations

import time

from edow.app import System, now
from edow.bench.cluster import Cluster, processes
from edow.bench.model import Measurement, Options, Place
from edow.bench.workflows import hibernate, no_step
from edow.testing.polling import until
from edow.testing.processes import Memory
from edow.testing.stage import Stage

EXECUTIONS = 100_000
DAYS = 30
BATCH = 1_000
BEHIND = 20_000  # commands waiting in the inbox above which the client holds back
TARGET = "1 KB of disk each and no memory"


async def measure(options: Options, place: Place, stage: Stage) -> Measurement:
    executions = options.workflows or EXECUTIONS
    async with processes(place, workers=0) as cluster:
        [first] = cluster.fleet.alive("orchestrator")
        before = Memory(first.pid).now_mb
        began = time.perf_counter()
        await cluster.fleet.during(_put_to_sleep(cluster, executions, stage))
        seconds = time.perf_counter() - began
        peak = cluster.peak_rss_mb()
        await first.stop()
        stage.say(f"{executions:,} executions sleep after {seconds:.1f} s")
        began = time.perf_counter()
        fresh = await cluster.fleet.start("orchestrator")
        await cluster.fleet.during(_answer(cluster))
        start_up = time.perf_counter() - began
        after = Memory(fresh.pid).now_mb
    size = await _bytes_on_disk(place) / executions
    return Measurement(
        scenario="sleepers",
        store=place.names[0],
        transport=place.names[1],
        steps_per_second=round(executions / seconds, 1),
        workflows_per_second=round(executions / seconds, 1),
        ceiling_steps_per_second=None,
        ratio=None,
        latency_ms=None,
        peak_rss_mb=peak,
        fsync=True,
        details={
            "executions": executions,
            "disk_bytes_each": round(size, 1),
            "orchestrator_rss_mb_when_empty": round(before, 1),
            "orchestrator_rss_mb_over_sleepers": round(after, 1),
            "start_up_seconds": round(start_up, 3),
        },
        headline=f"{size:,.0f} bytes each; a fresh orchestrator holds {after:.0f} MB (empty: {before:.0f}), "
        f"answers after {start_up:.2f} s",
        target=TARGET,
    )


async def _put_to_sleep(cluster: Cluster, executions: int, stage: Stage) -> None:
    for first in range(0, executions, BATCH):
        count = min(BATCH, executions - first)
        await cluster.client.start_many(hibernate, [(DAYS,)] * count)
        if first % BEHIND == 0:
            await until(lambda: _inbox_below(cluster, BEHIND))
        stage.advance("asleep", first + count, executions)
    await until(lambda: _inbox_below(cluster, 1), every_seconds=0.05)


async def _inbox_below(cluster: Cluster, limit: int) -> bool:
    return (await cluster.store.counts(now())).inbox < limit


async def _answer(cluster: Cluster) -> None:
    """A new execution comes to its end: the orchestrator serves."""
    await (await cluster.client.start(no_step, 1)).result()


async def _bytes_on_disk(place: Place) -> int:
    """Of a database that everybody has closed before, and that has come to rest."""
    async with System(place.store, place.transport) as system:
        return (await system.store.counts(now())).bytes
