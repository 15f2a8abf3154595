"""What is measured, as pages show it: KPIs of workflows and tasks over a time, objectives, alerts and incidents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain

import msgspec

from edow.console.charts import Chart, chart
from edow.console.look import Look, now_us
from edow.errors import InvalidInput
from edow.kpi import series
from edow.kpi.alert import Alert
from edow.kpi.figures import Figures, TaskFigures, Traffic
from edow.kpi.histogram import Histogram, merged
from edow.kpi.incident import Incident
from edow.kpi.series import Point
from edow.kpi.slo import Evaluation
from edow.kpi.summary import Summary, group_rates
from edow.kpi.summary import summary as summarise
from edow.monitor import reading
from edow.monitor.alerts import alerts
from edow.monitor.incidents import incidents
from edow.monitor.objectives import Evaluator, objectives
from edow.monitor.prices import prices

SECOND = 1_000_000
WINDOWS = {"15m": 900, "1h": 3600, "24h": 86_400, "7d": 7 * 86_400, "30d": 30 * 86_400}
INCIDENTS = 20
LATE_US = 3 * SECOND  # after the end of a bucket: processes store what they count every two seconds


class Trouble(msgspec.Struct, frozen=True):
    """What somebody should know now. `recovering`: incidents that are not over."""

    open: list[Alert]
    past: list[Alert]
    incidents: list[Incident]

    @property
    def recovering(self) -> list[Incident]:
        return [each for each in self.incidents if not each.over]

    @property
    def last(self) -> Incident | None:
        """The last one that is over."""
        return next((each for each in self.incidents if each.over), None)


class Performance(msgspec.Struct, frozen=True):
    now: int
    window: str
    summary: Summary
    charts: list[Chart]
    objectives: list[Evaluation]
    trouble: Trouble


async def trouble(look: Look) -> Trouble:
    async def read() -> Trouble:
        holding, held = await alerts(look.store, limit=INCIDENTS)
        return Trouble(holding, held, await incidents(look.store, INCIDENTS))

    return await look.shared.get("trouble", read)


async def measured(look: Look, seconds: int) -> list[Point]:
    """What was measured in the last seconds, up to the last whole bucket."""
    return await look.shared.get(("measured", seconds), lambda: _points(look, seconds))


async def performance(look: Look, window: str) -> Performance:
    """Raises InvalidInput."""
    if window not in WINDOWS:
        raise InvalidInput(f"window {window!r} is none of {', '.join(WINDOWS)}")
    seconds = WINDOWS[window]
    points = await measured(look, seconds)
    figures = series.added_up(point.figures for point in points)
    price_list = await look.shared.get("prices", lambda: prices(look.store))
    return Performance(
        now=now_us(),
        window=window,
        summary=summarise(figures, await _covered(look, seconds), price_list, group_rates(points)),
        charts=charts_of(whole(points)),
        objectives=await look.shared.get("objectives", lambda: _evaluated(look)),
        trouble=await trouble(look),
    )


def charts_of(points: list[Point]) -> list[Chart]:
    """Throughput, latency by stage, traffic and lag. Times between two points at which nothing was measured count as
    nothing.
    """
    filled = _filled(points)

    def rate(title: str, count: Callable[[Figures], float], unit: str = "per second") -> Chart:
        return chart(title, unit, [(at, count(one) / length) for at, length, one in filled])

    return [
        completed_chart(points),
        rate("Attempts failed", _failures),
        rate("Dead letters", lambda one: sum(task.letters for task in _tasks(one))),
        _latency("Start to end", points, took),
        _latency("Queued", points, lambda one: merged(task.queue for task in _tasks(one))),
        _latency("Run", points, lambda one: merged(task.run for task in _tasks(one))),
        _latency("Back", points, lambda one: merged(task.back for task in _tasks(one))),
        rate("Messages", lambda one: sum(each.messages for each in _traffic(one))),
        rate("Traffic", lambda one: sum(each.bytes for each in _traffic(one)) / 1000, "kB per second"),
        chart("Messages waiting", "at most", [(at, _waiting(one)) for at, _, one in filled]),
        chart("Oldest message", "seconds", [(at, _oldest(one)) for at, _, one in filled]),
        _latency("Commit", points, lambda one: one.commits),
    ]


def whole(points: list[Point]) -> list[Point]:
    """Without the bucket that is still being filled: it would look like a fall."""
    return [each for each in points if (each.start + each.seconds) * SECOND <= now_us() - LATE_US]


def completed_chart(points: list[Point]) -> Chart:
    filled = _filled(points)
    return chart("Executions ended", "per second", [(at, _ended(one) / length) for at, length, one in filled])


def retries(figures: Figures) -> int:
    """Attempts that failed, with another to follow."""
    return sum(task.retried for task in _tasks(figures))


def took(figures: Figures) -> Histogram:
    """Of all workflows together: from start to end of what completed."""
    return merged(workflow.took for workflow in figures.workflows.values())


def _tasks(figures: Figures) -> Iterator[TaskFigures]:
    return (task for workflow in figures.workflows.values() for task in workflow.tasks.values())


def _traffic(figures: Figures) -> Iterator[Traffic]:
    return chain(figures.sent.values(), figures.received.values())


def _waiting(figures: Figures) -> int:
    return sum(lag.waiting for lag in figures.lag.values())


def _oldest(figures: Figures) -> float:
    return max((lag.oldest or 0 for lag in figures.lag.values()), default=0) / SECOND


def _ended(figures: Figures) -> int:
    return sum(workflow.ended for workflow in figures.workflows.values())


def _failures(figures: Figures) -> int:
    return sum(task.retried + task.failed for task in _tasks(figures))


def _latency(title: str, points: list[Point], of: Callable[[Figures], Histogram]) -> Chart:
    found = [(point.start * SECOND, of(point.figures).quantile(0.95)) for point in points]
    return chart(f"{title}, p95", "ms", [(at, high / 1000) for at, high in found if high is not None])


def _filled(points: list[Point]) -> list[tuple[int, int, Figures]]:
    """With an empty one on either side of a gap, so that a line drawn through them does not bridge it."""
    found: list[tuple[int, int, Figures]] = []
    nothing = Figures()
    for before, point in zip([None, *points], points, strict=False):
        if before is not None and point.start > before.start + before.seconds:
            found.append(((before.start + before.seconds) * SECOND, before.seconds, nothing))
            if point.start - point.seconds > before.start + before.seconds:
                found.append(((point.start - point.seconds) * SECOND, point.seconds, nothing))
        found.append((point.start * SECOND, point.seconds, point.figures))
    return found


async def _covered(look: Look, seconds: int) -> float:
    """The time that the figures are about: not more than there has been to measure."""
    now = now_us()
    read = partial(reading.measured_seconds, look.store, now - seconds * SECOND, now)
    return await look.shared.get(("covered", seconds), read)


async def _points(look: Look, seconds: int) -> list[Point]:
    now = now_us()
    return await reading.points(look.store, now - seconds * SECOND, now)


async def _evaluated(look: Look) -> list[Evaluation]:
    return await Evaluator(look.store).evaluate(await objectives(look.store), now_us())
