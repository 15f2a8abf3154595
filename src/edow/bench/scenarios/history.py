"""What a step costs as the history of its execution grows: it should cost the same at any length.

One execution does one step after the other, in one process on an idle system; the times are those in its history.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import pairwise

from edow.bench.cluster import one_process
from edow.bench.latency import latency_of, steps_of
from edow.bench.model import Measurement, Options, Place
from edow.bench.workflows import loop
from edow.model.history import AnyEvent, TaskCompleted
from edow.testing.processes import Memory
from edow.testing.stage import Stage

LENGTHS = (10, 1_000, 10_000)
WINDOW = 200  # steps looked at from each length on
EVENTS_PER_STEP = 2
TARGET = "flat"


async def measure(options: Options, place: Place, stage: Stage) -> Measurement:
    rounds = options.workflows or LENGTHS[-1] // EVENTS_PER_STEP + WINDOW
    async with one_process(place) as cluster:
        await (await cluster.client.start(loop.with_options(id="warm"), WINDOW)).result()
        stage.say(f"one execution takes {rounds:,} steps, one after the other")
        await (await cluster.client.start(loop.with_options(id="bench"), rounds)).result()
        events = await cluster.client.history("bench")
        peak = round(Memory.of_this_process().peak_mb, 1)
    steps = steps_of([events])
    costs = {length: cost for length in LENGTHS if (cost := step_cost(events, length)) is not None}
    told = ", ".join(f"{cost:.2f} ms at {length:,}" for length, cost in costs.items())
    return Measurement(
        scenario="history",
        store=place.names[0],
        transport=place.names[1],
        steps_per_second=steps.per_second,
        workflows_per_second=round(steps.per_second / rounds, 3),
        ceiling_steps_per_second=None,
        ratio=None,
        latency_ms=latency_of(steps.milliseconds()),
        peak_rss_mb=peak,
        fsync=True,
        details={f"step_ms_at_{length}": round(cost, 3) for length, cost in costs.items()},
        headline=told,
        target=TARGET,
    )


def step_cost(events: Sequence[AnyEvent], length: int) -> float | None:
    """Milliseconds from one answered step to the next, the median of a window that begins at this length."""
    ends = [
        event.at for event in events[length : length + WINDOW * EVENTS_PER_STEP] if isinstance(event, TaskCompleted)
    ]
    if len(ends) < 2:
        return None
    return statistics.median((after - before) / 1000 for before, after in pairwise(ends))
