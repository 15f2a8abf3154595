"""Runs scenarios one after the other, each on a store of its own unless one is named."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from edow.bench.model import Measurement, Options, Place
from edow.bench.scenarios import SCENARIOS
from edow.testing.stage import Stage


async def run(names: Sequence[str], options: Options, stage: Stage) -> list[Measurement]:
    """In this order. Raises ServiceDied when a process ends unasked."""
    return [await _run(name, options, stage) for name in names]


async def _run(name: str, options: Options, stage: Stage) -> Measurement:
    stage.say(name, "loud")
    with tempfile.TemporaryDirectory(prefix="edow-bench-", ignore_cleanup_errors=True) as made:
        async with Place.on((options.store, options.transport), Path(made)) as place:
            measurement = await SCENARIOS[name](options, place, stage)
    stage.say(f"{name}: {measurement.headline}", "good")
    return measurement
