"""The first page: how much is going on, whether it goes on, and what waits for a person."""

from __future__ import annotations

import msgspec

from edow.cli.findings import Finding
from edow.console.charts import Chart, chart, rates
from edow.console.look import Look, Sample, now_us
from edow.console.performance import Trouble, completed_chart, measured, retries, took, trouble, whole
from edow.kpi import series
from edow.kpi.histogram import Histogram
from edow.kpi.series import Point
from edow.kpi.waiting import unanswered
from edow.model.execution import Execution, Status
from edow.store.contract import Counts

LATEST = 8
WINDOW_SECONDS = 10
HISTORY_SECONDS = 3600  # of the charts
LATELY_SECONDS = 300
RECENT = 2  # buckets
SECOND = 1_000_000


class Overview(msgspec.Struct, frozen=True):
    now: int
    counts: Counts
    findings: list[Finding]
    throughput: float | None  # executions that ended, per second
    lag: int | None
    unanswered: int  # tasks, where the transport does not tell what waits
    in_flight: int | None
    oldest_at: int | None
    charts: list[Chart]
    latency: tuple[float, float] | None  # p50 and p95 from start to end of the last minutes, in microseconds
    retried: int | None  # attempts that failed and were tried again, in the last minutes
    trouble: Trouble
    failed: list[Execution]
    parked: list[Execution]

    @property
    def in_progress(self) -> int:
        return self.counts.by_status.get("running", 0)

    @property
    def healthy(self) -> bool:
        """Nothing is wrong that needs somebody now."""
        paged = any(each.severity == "page" for each in self.trouble.open)
        return not paged and all(each.level != "fail" for each in self.findings)

    @property
    def worst(self) -> list[Finding]:
        """What is not in order first."""
        return sorted(self.findings, key=lambda each: ("fail", "warn", "ok").index(each.level))


async def overview(look: Look) -> Overview:
    await look.sample()
    samples = list(look.samples)
    carried = await look.carried()
    points = await measured(look, HISTORY_SECONDS)
    finished = whole(points)
    since = now_us() // SECOND - LATELY_SECONDS
    lately = series.added_up(each.figures for each in points if each.start >= since)
    return Overview(
        now=now_us(),
        counts=await look.counts(),
        findings=await look.findings(),
        throughput=rate_of(finished) if finished else recent_rate(samples),
        lag=carried.lag,
        unanswered=sum(each.tasks for each in unanswered(await look.present(), now_us())),
        in_flight=carried.in_flight,
        oldest_at=carried.oldest_at,
        charts=[
            completed_chart(finished)
            if len(finished) > 1
            else chart("Executions ended", "per second", rates([(each.at, each.ended) for each in changes(samples)])),
            chart("Messages waiting", "", [(each.at, each.lag) for each in samples if each.lag is not None]),
        ],
        latency=_latency(took(lately)),
        retried=retries(lately) if points else None,
        trouble=await trouble(look),
        failed=await look.newest(Status.FAILED, LATEST),
        parked=await look.newest(Status.PARKED, LATEST),
    )


def rate_of(points: list[Point]) -> float | None:
    """Executions that ended per second, in the last buckets that are whole."""
    latest = points[-RECENT:]
    ended = sum(workflow.ended for point in latest for workflow in point.figures.workflows.values())
    if now_us() // SECOND - (latest[-1].start + latest[-1].seconds) > LATELY_SECONDS:
        return 0.0
    return ended / sum(point.seconds for point in latest)


def _latency(histogram: Histogram) -> tuple[float, float] | None:
    half, most = histogram.quantile(0.5), histogram.quantile(0.95)
    return None if half is None or most is None else (half, most)


def changes(samples: list[Sample]) -> list[Sample]:
    """Without samples whose counts were those of the one before: they are read again only after a while."""
    return [
        each
        for before, each in zip([None, *samples], samples, strict=False)
        if before is None or each.ended != before.ended or each.at - before.at > 1_500_000
    ]


def recent_rate(samples: list[Sample]) -> float | None:
    """Over the last seconds; None while nobody can know."""
    if not samples:
        return None
    recent = [each for each in samples if samples[-1].at - each.at <= WINDOW_SECONDS * 1_000_000]
    if len(recent) < 2:
        recent = samples[-2:]
    seconds = (recent[-1].at - recent[0].at) / 1_000_000
    return max(0, recent[-1].ended - recent[0].ended) / seconds if seconds else None
