"""How long one execution takes that starts 10,000 tasks at once and joins them."""

from __future__ import annotations

import statistics
import time

from edow.bench.bare import Traffic
from edow.bench.ceiling import ceiling
from edow.bench.cluster import Cluster, processes
from edow.bench.latency import latency_of, steps_of
from edow.bench.model import Measurement, Options, Place, ratio_of
from edow.bench.workflows import fan_out
from edow.testing.stage import Stage

WIDTH = 10_000
WARM_UP = 1_000
TARGET = "10,000 tasks in 1 s"


async def measure(options: Options, place: Place, stage: Stage) -> Measurement:
    width = options.workflows or WIDTH
    rounds: list[float] = []
    async with processes(place) as cluster:
        await cluster.fleet.during(_fan_out(cluster, WARM_UP, "warm"))
        for number in range(options.rounds):
            rounds.append(await cluster.fleet.during(_fan_out(cluster, width, f"bench-{number}")))
            stage.say(f"round {number + 1}: {width:,} tasks and the join in {rounds[-1]:.2f} s")
        milliseconds = steps_of([await cluster.client.history("bench-0")]).milliseconds()
        peak = cluster.peak_rss_mb()
    seconds = statistics.median(rounds)
    most = await ceiling(place, Traffic(executions=-(-width // 3), steps=3))
    return Measurement(
        scenario="fanout",
        store=place.names[0],
        transport=place.names[1],
        steps_per_second=round(width / seconds, 1),
        workflows_per_second=round(1 / seconds, 3),
        ceiling_steps_per_second=round(most, 1),
        ratio=ratio_of(width / seconds, most),
        latency_ms=latency_of(milliseconds),
        peak_rss_mb=peak,
        fsync=True,
        details={"tasks": width, "seconds": round(seconds, 3)},
        headline=f"{width:,} tasks in {seconds:.2f} s",
        target=TARGET,
    )


async def _fan_out(cluster: Cluster, width: int, name: str) -> float:
    began = time.perf_counter()
    handle = await cluster.client.start(fan_out.with_options(id=name), width)
    if await handle.result() != width:
        raise AssertionError(f"a fan-out of {width} joined something else")
    return time.perf_counter() - began
