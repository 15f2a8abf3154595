"""The scenarios of `edow bench`, by name, in the order in which `all` runs them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from edow.bench.model import Measurement, Options, Place
from edow.bench.scenarios import fanout, history, latency, recovery, sleepers, steps, watched
from edow.testing.stage import Stage

Scenario = Callable[[Options, Place, Stage], Awaitable[Measurement]]

SCENARIOS: dict[str, Scenario] = {
    "steps": steps.measure,
    "latency": latency.measure,
    "fanout": fanout.measure,
    "history": history.measure,
    "sleepers": sleepers.measure,
    "recovery": recovery.measure,
    "watched": watched.measure,
}
