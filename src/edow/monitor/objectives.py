"""The objectives of a store, and how they stand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from edow.kpi.slo import DAY, Evaluation, Objective, Tally, evaluate, tally, windows
from edow.monitor import reading
from edow.monitor.keeper import KIND as FIGURES
from edow.store.contract import Put, RecordFilter, Store

KIND = "slo"
LIMIT = 1000
SECOND = 1_000_000
LONG = DAY  # of longer windows the tallies are remembered for a while
REMEMBERED = 300 * SECOND
LATEST = "now/slos"
KEPT = 3600 * SECOND

_decode = msgspec.json.Decoder(Objective).decode


async def objectives(store: Store) -> list[Objective]:
    """By name."""
    return [_decode(record.body) for record in await store.records_list(RecordFilter(KIND, limit=LIMIT))]


async def keep(store: Store, evaluations: Sequence[Evaluation], now: int) -> None:
    """For those who want to know how objectives stood a moment ago, and often."""
    await store.records_put([Put(FIGURES, LATEST, msgspec.json.encode(evaluations), None, now + KEPT)], now)


async def latest(store: Store) -> list[Evaluation]:
    """How they stood when a monitor last looked."""
    (record,) = await store.records_get(FIGURES, [LATEST])
    return [] if record is None else msgspec.json.decode(record.body, type=list[Evaluation])


class Evaluator:
    """Evaluates objectives again and again; long windows, which change little, are not read each time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._long: dict[tuple[Objective, float], tuple[int, Tally]] = {}

    async def evaluate(self, each: Iterable[Objective], now: int) -> list[Evaluation]:
        all_of_them = list(each)
        tallies: dict[tuple[Objective, float], Tally] = {}
        wanted: dict[float, list[Objective]] = {}
        for one in all_of_them:
            for window in windows(one):
                known = self._long.get((one, window))
                if known is not None and now - known[0] < REMEMBERED:
                    tallies[one, window] = known[1]
                else:
                    wanted.setdefault(window, []).append(one)
        for window, of in wanted.items():
            figures = await reading.figures(self._store, now - round(window * SECOND), now)
            for one in of:
                tallies[one, window] = tally(one, figures)
                if window > LONG:
                    self._long[one, window] = now, tallies[one, window]
        self._long = {key: known for key, known in self._long.items() if now - known[0] < REMEMBERED}
        return [evaluate(one, {window: tallies[one, window] for window in windows(one)}) for one in all_of_them]
