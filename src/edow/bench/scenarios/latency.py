"""How long one step takes on an idle system, from the client's `start` to the result in its hands.

By default everything is in one process; with `--processes` orchestrator and worker have their own. The ceiling is one
step at a time through the bare store.
"""

from __future__ import annotations

import time

from edow.bench.bare import Traffic
from edow.bench.ceiling import ceiling, ceiling_in_one_process
from edow.bench.cluster import Cluster, one_process, processes
from edow.bench.latency import latency_of
from edow.bench.model import Measurement, Options, Place, ratio_of
from edow.bench.workflows import one_step
from edow.testing.processes import Memory
from edow.testing.stage import Stage

WARM_UP = 100
DEFAULT_RUNS = 500
TARGETS = {False: "p50 1 ms, p99 5 ms", True: "p50 3 ms"}


async def measure(options: Options, place: Place, stage: Stage) -> Measurement:
    runs = options.workflows or DEFAULT_RUNS
    async with (processes if options.processes else one_process)(place) as cluster:
        await cluster.fleet.during(_one_by_one(cluster, WARM_UP, "warm", stage))
        began = time.perf_counter()
        milliseconds = await cluster.fleet.during(_one_by_one(cluster, runs, "bench", stage))
        seconds = time.perf_counter() - began
        peak = cluster.peak_rss_mb() or round(Memory.of_this_process().peak_mb, 1)
    alone = Traffic(executions=runs, steps=1, batch=1, in_flight=1)
    most = await (ceiling if options.processes else ceiling_in_one_process)(place, alone)
    latency = latency_of(milliseconds)
    return Measurement(
        scenario="latency",
        store=place.names[0],
        transport=place.names[1],
        steps_per_second=round(runs / seconds, 1),
        workflows_per_second=round(runs / seconds, 1),
        ceiling_steps_per_second=round(most, 1),
        ratio=ratio_of(runs / seconds, most),
        latency_ms=latency,
        peak_rss_mb=peak,
        fsync=True,
        details={"runs": runs, "processes": 2 if options.processes else 1},
        headline=f"p50 {latency.p50:.2f} ms, p99 {latency.p99:.2f} ms; bare store {1000 / most:.2f} ms",
        target=TARGETS[options.processes],
    )


async def _one_by_one(cluster: Cluster, runs: int, name: str, stage: Stage) -> list[float]:
    """Milliseconds of each run."""
    taken = []
    for number in range(runs):
        began = time.perf_counter()
        handle = await cluster.client.start(one_step.with_options(id=f"{name}-{number:06}"), number)
        await handle.result()
        taken.append((time.perf_counter() - began) * 1000)
        if number % 20 == 19:
            stage.advance(name, number + 1, runs)
    return taken
