"""What was measured, objectives, alerts and incidents as operators see them: times as times, durations in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from edow.client.audit import Value
from edow.client.definitions import Definitions
from edow.client.link import Link
from edow.errors import InvalidInput
from edow.kpi.alert import Alert, Kind, Thresholds
from edow.kpi.cost import Prices
from edow.kpi.figures import Figures
from edow.kpi.histogram import merged
from edow.kpi.incident import Incident, Presence
from edow.kpi.series import Point
from edow.kpi.slo import LONGEST, Burn, Evaluation, Objective, Rule, Severity
from edow.kpi.summary import Summary
from edow.kpi.waiting import Unanswered, unanswered
from edow.monitor import alerts, incidents, objectives, prices, reading, thresholds
from edow.store.contract import Counts, Put
from edow.workflow.duration import microseconds, optional_seconds, seconds

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = 100
NOW = 30_000_000  # microseconds
RECENT = 300_000_000


class AlertSpec(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Tell somebody when that share of the error budget went within `long`, and it goes as fast within `short`: a
    twelfth of it, if not given.
    """

    severity: Severity
    budget: float
    long: str
    short: str | None = None

    def rule(self) -> Rule:
        """Raises InvalidInput."""
        long = seconds(self.long, "long")
        return Rule(self.severity, self.budget, long, long / 12 if self.short is None else seconds(self.short, "short"))


class SloSpec(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """An objective to be made. `target` is a share, like 0.999; durations are like "30s", "30d". Without `alerts` it
    has the usual ones.
    """

    name: str
    workflow: str
    target: float
    within: str | None = None
    window: str = "30d"
    alerts: list[AlertSpec] = []

    def objective(self) -> Objective:
        """Raises InvalidInput."""
        return Objective(
            name=self.name,
            workflow=self.workflow,
            target=self.target,
            within=optional_seconds(self.within, "within"),
            window=seconds(self.window, "window"),
            rules=tuple(each.rule() for each in self.alerts),
        ).checked()


class SloView(msgspec.Struct, kw_only=True, frozen=True):
    """An objective and how it stands. `budget`: executions that may be bad; `severity` None: nothing alarming."""

    name: str
    workflow: str
    target: float
    within_seconds: float | None
    window_seconds: float
    good: int
    total: int
    attained: float | None
    budget: float
    budget_left: float
    severity: Severity | None
    burns: list[Burn]


class AlertView(msgspec.Struct, kw_only=True, frozen=True):
    """`until` None: it holds."""

    id: str
    kind: Kind
    subject: str
    severity: Severity
    message: str
    since: datetime
    until: datetime | None


class IncidentView(msgspec.Struct, kw_only=True, frozen=True):
    """None: not yet."""

    id: str
    cause: str
    fault_at: datetime
    found_at: datetime
    first_progress_at: datetime | None
    drained_at: datetime | None
    seconds_to_progress: float | None
    seconds_to_recover: float | None
    backlog_before: int
    backlog_most: int


class OrchestratorView(msgspec.Struct, kw_only=True, frozen=True):
    process: str
    seen_at: datetime
    started_at: datetime
    shards: list[int]
    last_commit_at: datetime | None


class SeriesPoint(msgspec.Struct, kw_only=True, frozen=True):
    """What happened from `at` on. Latencies in seconds; `waiting` and `oldest_seconds`: the most that was seen."""

    at: datetime
    seconds: int
    started: int
    completed: int
    failed: int
    attempts: int
    retried: int
    dead_letters: int
    messages: int
    bytes: int
    took_p50: float | None
    took_p95: float | None
    took_p99: float | None
    queue_p95: float | None
    run_p95: float | None
    back_p95: float | None
    waiting: int
    oldest_seconds: float


class Snapshot(msgspec.Struct, frozen=True):
    """How everything stood a moment ago. `orchestrators`: how many run."""

    at: int
    counts: Counts
    orchestrators: int
    unanswered: list[Unanswered]
    figures: Figures  # of the last half minute
    summary: Summary  # of the last five minutes
    evaluations: list[Evaluation]
    alerts: list[Alert]  # that hold
    incidents: list[Incident]  # the latest first


class Kpis:
    """Of one store."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._store = link.store
        self._slos = Definitions(link, objectives.KIND, "slo", Objective)

    async def summary(self, window: str = "5m") -> Summary:
        """What was measured in the last so much time. Raises InvalidInput."""
        length, now = _length(window), self._link.clock()
        return await reading.summary(self._store, now - length, now)

    async def series(self, window: str = "1h", workflow: str | None = None) -> list[SeriesPoint]:
        """The same over time: in tens of seconds within an hour, in minutes within a day, in hours beyond."""
        length, now = _length(window), self._link.clock()
        return [_point(each, workflow) for each in await reading.points(self._store, now - length, now)]

    async def slos(self) -> list[SloView]:
        """All objectives, by name."""
        return await self._evaluated(await self._slos.list())

    async def slo(self, name: str) -> SloView:
        """Raises NotFound."""
        [view] = await self._evaluated([await self._slos.get(name)])
        return view

    async def create_slo(self, spec: SloSpec) -> SloView:
        """Raises InvalidInput, AlreadyExists."""
        objective = msgspec.structs.replace(spec.objective(), since=self._link.clock())
        told: dict[str, Value] = {"workflow": objective.workflow, "target": objective.target}
        await self._slos.make(objective.name, objective, told)
        return await self.slo(objective.name)

    async def delete_slo(self, name: str) -> None:
        """Raises NotFound."""
        await self._slos.delete(name)

    async def prices(self) -> Prices | None:
        """None: nobody has set any."""
        return await prices.prices(self._store)

    async def set_prices(self, given: Prices) -> Prices:
        """Raises InvalidInput."""
        put: Put = prices.put(given)
        await self._link.act("prices.set", prices.KEY, msgspec.structs.asdict(given), puts=[put])
        return given

    async def thresholds(self) -> Thresholds:
        """From when on there are alerts besides those of objectives."""
        return await thresholds.thresholds(self._store)

    async def set_thresholds(self, given: Thresholds) -> Thresholds:
        """Raises InvalidInput."""
        put = thresholds.put(given)
        await self._link.act("thresholds.set", thresholds.KEY, msgspec.structs.asdict(given), puts=[put])
        return given

    async def alerts(self) -> list[AlertView]:
        """Those that hold first, then the latest that held."""
        holding, held = await alerts.alerts(self._store, LATEST)
        return [_alert(each) for each in (*holding, *held)]

    async def incidents(self) -> list[IncidentView]:
        """The latest first."""
        return [_incident(each) for each in await incidents.incidents(self._store, LATEST)]

    async def orchestrators(self) -> list[OrchestratorView]:
        """Those that run, or did until a moment ago."""
        return [_orchestrator(each) for each in await incidents.orchestrators(self._store)]

    async def snapshot(self) -> Snapshot:
        """For metrics: cheap enough to be asked for every few seconds."""
        store, now = self._store, self._link.clock()
        present = await incidents.orchestrators(store)
        return Snapshot(
            at=now,
            counts=await store.counts(now),
            orchestrators=sum(now - each.at <= incidents.PATIENCE for each in present),
            unanswered=unanswered(present, now),
            figures=await reading.figures(store, now - NOW, now),
            summary=await reading.summary(store, now - RECENT, now),
            evaluations=await objectives.latest(store),
            alerts=(await alerts.alerts(store, 1))[0],
            incidents=await incidents.incidents(store, LATEST),
        )

    async def _evaluated(self, each: Sequence[Objective]) -> list[SloView]:
        found = await objectives.Evaluator(self._store).evaluate(each, self._link.clock())
        return [_slo(evaluation) for evaluation in found]


def _length(window: str) -> int:
    length = microseconds(window, "window")
    if not 0 < length <= LONGEST * 1_000_000:
        raise InvalidInput(f"window={window!r} is not possible: figures are kept for 90 days; give 1s to 90d")
    return length


def _moment(at: int) -> datetime:
    return EPOCH + timedelta(microseconds=at)


def _optional(at: int | None) -> datetime | None:
    return _moment(at) if at else None


def _slo(found: Evaluation) -> SloView:
    objective = found.objective
    return SloView(
        name=objective.name,
        workflow=objective.workflow,
        target=objective.target,
        within_seconds=objective.within,
        window_seconds=objective.window,
        good=found.good,
        total=found.total,
        attained=found.attained,
        budget=found.budget,
        budget_left=found.budget_left,
        severity=found.severity,
        burns=found.burns,
    )


def _alert(alert: Alert) -> AlertView:
    return AlertView(
        id=alert.id,
        kind=alert.kind,
        subject=alert.subject,
        severity=alert.severity,
        message=alert.message,
        since=_moment(alert.since),
        until=_optional(alert.until),
    )


def _incident(found: Incident) -> IncidentView:
    progress = found.progress_at
    return IncidentView(
        id=found.id,
        cause=found.cause,
        fault_at=_moment(found.fault_at),
        found_at=_moment(found.found_at),
        first_progress_at=_optional(progress),
        drained_at=_optional(found.drained_at),
        seconds_to_progress=None if progress is None else (progress - found.fault_at) / 1_000_000,
        seconds_to_recover=found.seconds,
        backlog_before=found.backlog_before,
        backlog_most=found.backlog_most,
    )


def _orchestrator(found: Presence) -> OrchestratorView:
    return OrchestratorView(
        process=found.process,
        seen_at=_moment(found.at),
        started_at=_moment(found.started_at),
        shards=found.shards,
        last_commit_at=_optional(found.progress_at),
    )


def _point(point: Point, name: str | None) -> SeriesPoint:
    figures = point.figures
    chosen = [each for key, each in figures.workflows.items() if name in (None, key)]
    tasks = [task for each in chosen for task in each.tasks.values()]
    took = merged(each.took for each in chosen)
    messages, size = _traffic(figures)
    return SeriesPoint(
        at=_moment(point.start * 1_000_000),
        seconds=point.seconds,
        started=sum(each.started for each in chosen),
        completed=sum(each.completed for each in chosen),
        failed=sum(each.failed for each in chosen),
        attempts=sum(each.attempts for each in tasks),
        retried=sum(each.retried for each in tasks),
        dead_letters=sum(each.letters for each in tasks),
        messages=messages,
        bytes=size,
        took_p50=_seconds(took.quantile(0.5)),
        took_p95=_seconds(took.quantile(0.95)),
        took_p99=_seconds(took.quantile(0.99)),
        queue_p95=_seconds(merged(task.queue for task in tasks).quantile(0.95)),
        run_p95=_seconds(merged(task.run for task in tasks).quantile(0.95)),
        back_p95=_seconds(merged(task.back for task in tasks).quantile(0.95)),
        waiting=sum(lag.waiting for lag in figures.lag.values()),
        oldest_seconds=max((lag.oldest or 0 for lag in figures.lag.values()), default=0) / 1_000_000,
    )


def _traffic(figures: Figures) -> tuple[int, int]:
    """Messages and bytes of all topics, whatever the workflow."""
    all_of_them = (*figures.sent.values(), *figures.received.values())
    return sum(each.messages for each in all_of_them), sum(each.bytes for each in all_of_them)


def _seconds(microseconds: float | None) -> float | None:
    return None if microseconds is None else microseconds / 1_000_000
