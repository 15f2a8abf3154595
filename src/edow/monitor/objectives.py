"""The objectives of a store, and how they stand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

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
    await store.records_put([Put(FIGURES, LATEST, msgspec.json.encode(evaluations), None, now + KEPT, quiet=True)], now)


async def latest(store: Store) -> list[Evaluation]:
    """How they stood when a monitor last looked."""
    (record,) = await store.records_get(FIGURES, [LATEST])
    return [] if record is None else msgspec.json.decode(record.body, type=list[Evaluation])


class Span(NamedTuple):
    """`alerting`: only of what ended since the objective was made."""

    seconds: float
    alerting: bool

    def begin(self, of: Objective, now: int) -> int:
        """In microseconds."""
        begin = now - round(self.seconds * SECOND)
        return max(begin, of.since) if self.alerting else begin


class Evaluator:
    """Evaluates objectives again and again; long windows, which change little, are not read each time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._long: dict[tuple[Objective, Span], tuple[int, Tally]] = {}

    async def evaluate(self, each: Iterable[Objective], now: int) -> list[Evaluation]:
        all_of_them = list(each)
        tallies: dict[tuple[Objective, Span], Tally] = {}
        wanted: dict[int, list[tuple[Objective, Span]]] = {}
        for one in all_of_them:
            for span in (Span(one.window, False), *(Span(window, True) for window in windows(one))):
                known = self._long.get((one, span))
                if known is not None and now - known[0] < REMEMBERED:
                    tallies[one, span] = known[1]
                else:
                    wanted.setdefault(span.begin(one, now), []).append((one, span))
        for begin, of in wanted.items():
            figures = await reading.figures(self._store, begin, now)
            for one, span in of:
                tallies[one, span] = tally(one, figures)
                if span.seconds > LONG:
                    self._long[one, span] = now, tallies[one, span]
        self._long = {key: known for key, known in self._long.items() if now - known[0] < REMEMBERED}
        return [
            evaluate(
                one,
                tallies[one, Span(one.window, False)],
                {window: tallies[one, Span(window, True)] for window in windows(one)},
            )
            for one in all_of_them
        ]
