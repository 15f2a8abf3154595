"""How many durable steps a second: executions of three steps that do nothing, orchestrator and worker as processes.

Rounds of load and rounds of the bare store take turns, so that a machine which slows down does so for both.
"""

from __future__ import annotations

import statistics

from edow.bench.bare import Traffic
from edow.bench.ceiling import ceiling
from edow.bench.cluster import processes
from edow.bench.latency import latency_of, steps_of
from edow.bench.load import WARM_UP, Load, Round
from edow.bench.model import Measurement, Options, Place, ratio_of
from edow.bench.workflows import three_steps
from edow.testing.stage import Stage

STEPS = 3
DEFAULT_EXECUTIONS = 10_000
TARGET = "20,000 steps/s, or 0.30 of the ceiling"


async def measure(options: Options, place: Place, stage: Stage) -> Measurement:
    rounds: list[Round] = []
    ceilings: list[float] = []
    async with processes(place) as cluster:
        load = Load(cluster.client, cluster.store, three_steps, "bench")
        warm = await cluster.fleet.during(load.run(WARM_UP))
        executions = _executions(options, warm)
        for number in range(options.rounds):
            one = load.run(executions, lambda done, total: stage.advance("executions", done, total))
            rounds.append(await cluster.fleet.during(one))
            stage.say(f"round {number + 1}: {rounds[-1].per_second * STEPS:,.0f} steps/s")
            ceilings.append(await ceiling(place, Traffic(executions, STEPS)))
            stage.say(f"bare store: {ceilings[-1]:,.0f} steps/s")
        histories = [await cluster.client.history(execution) for execution in rounds[-1].sample]
        peak = cluster.peak_rss_mb()
    workflows, most = statistics.median(each.per_second for each in rounds), statistics.median(ceilings)
    return Measurement(
        scenario="steps",
        store=place.names[0],
        transport=place.names[1],
        steps_per_second=round(workflows * STEPS, 1),
        workflows_per_second=round(workflows, 1),
        ceiling_steps_per_second=round(most, 1),
        ratio=ratio_of(workflows * STEPS, most),
        latency_ms=latency_of(steps_of(histories).milliseconds()),
        peak_rss_mb=peak,
        fsync=True,
        details={"rounds": options.rounds, "executions_per_round": executions},
        headline=f"{workflows * STEPS:,.0f} steps/s, {workflows * STEPS / most:.2f} of the ceiling",
        target=TARGET,
    )


def _executions(options: Options, warm: Round) -> int:
    """As asked; for a duration, as many as the warm-up's speed suggests."""
    if options.workflows is not None:
        return options.workflows
    if options.seconds is None:
        return DEFAULT_EXECUTIONS
    return max(1_000, int(warm.per_second * options.seconds / options.rounds))
