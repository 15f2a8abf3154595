"""From figures to Prometheus's metric families. There is no registry: whoever asks gets what is true at that moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec
from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family

from edow.client.kpis import Snapshot
from edow.kpi.figures import Figures, TaskFigures, WorkflowFigures
from edow.kpi.histogram import Histogram
from edow.kpi.summary import Summary
from edow.metrics.table import BY_NAME
from edow.orchestrator.stats import Stats
from edow.worker.worker import WorkerStats

SECOND = 1_000_000
LIMITS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800, 3600, 86_400)
"""Seconds: upper limits of the buckets that Prometheus sees."""

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Sample = tuple[tuple[str, ...], float]


class _Told:
    """A registry for one answer, as the exposition wants one."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


def exposition(families: Iterable[Family]) -> bytes:
    """Prometheus's text format."""
    return bytes(generate_latest(_Told(families)))


def of_orchestrator(figures: Figures, stats: Stats, shards: int) -> Iterator[Family]:
    """Of one process since it has begun."""
    yield from _executions(figures)
    yield from _attempts(figures)
    directions = (("sent", figures.sent), ("received", figures.received))
    traffic = [(topic, name, each) for name, topics in directions for topic, each in topics.items()]
    yield _family("edow_messages_total", [((topic, name), each.messages) for topic, name, each in traffic])
    yield _family("edow_message_bytes_total", [((topic, name), each.bytes) for topic, name, each in traffic])
    schedules = sorted(figures.schedules.items())
    yield _histograms("edow_schedule_late_seconds", [((name,), each.late) for name, each in schedules])
    yield _family("edow_schedule_missed_total", [((name,), each.missed) for name, each in schedules])
    yield _histograms("edow_commit_seconds", [((), figures.commits)])
    yield _one("edow_duplicates_total", figures.duplicates)
    yield _one("edow_poison_total", figures.poison)
    yield _one("edow_healed_total", stats.healed)
    yield _one("edow_republished_total", stats.republished)
    yield _one("edow_retries_total", stats.retries)
    yield _one("edow_takeovers_total", stats.takeovers)
    yield _one("edow_shards", shards)


def of_worker(stats: WorkerStats) -> Iterator[Family]:
    """Of one process."""
    yield _one("edow_worker_running", stats.running)
    yield _one("edow_worker_waiting", stats.waiting)
    yield _one("edow_worker_unpublished", stats.unpublished)
    yield _one("edow_worker_stuck", stats.zombies)
    yield _one("edow_worker_received_total", stats.received)
    yield _one("edow_worker_ended_total", stats.ended)
    yield _one("edow_worker_published_total", stats.published)


def of_system(seen: Snapshot) -> Iterator[Family]:
    """Of all together, as the store tells."""
    counts = seen.counts
    yield _family("edow_executions", [((status,), count) for status, count in sorted(counts.by_status.items())])
    yield _one("edow_dead_letters_parked", counts.dead_letters)
    yield _one("edow_inbox", counts.inbox)
    oldest = 0 if counts.inbox_oldest_at is None else max(0, seen.at - counts.inbox_oldest_at)
    yield _one("edow_inbox_oldest_seconds", oldest / SECOND)
    yield _one("edow_overdue_executions", counts.overdue)
    yield _one("edow_orchestrators", seen.orchestrators)
    lag = list(seen.figures.lag.values())
    yield _family("edow_topic_waiting", [((each.topic, each.group), each.waiting) for each in lag])
    in_flight = [(each, each.in_flight) for each in lag if each.in_flight is not None]
    yield _family("edow_topic_in_flight", [((each.topic, each.group), count) for each, count in in_flight])
    aged = [each for each in lag if each.oldest is not None or each.waiting == each.in_flight == 0]  # else not told
    ages = [((each.topic, each.group), (each.oldest or 0) / SECOND) for each in aged]
    yield _family("edow_topic_oldest_seconds", ages)
    published = [(each, each.published) for each in lag if each.published is not None]
    yield _family("edow_topic_published_total", [((each.topic, each.group), count) for each, count in published])
    yield _family("edow_tasks_unanswered", [((each.topic,), each.tasks) for each in seen.unanswered])
    unbegun = [((each.topic,), max(0, seen.at - (each.since or seen.at)) / SECOND) for each in seen.unanswered]
    yield _family("edow_tasks_unbegun_seconds", unbegun)
    shares = {each.topic: each.share for each in reversed(seen.summary.hot_keys)}
    yield _family("edow_hot_key_share", [((topic,), share) for topic, share in sorted(shares.items())])
    partitions = [((each.topic, each.group), each.share) for each in lag if each.share is not None]
    yield _family("edow_hot_partition_share", partitions)
    yield _family("edow_cost_per_execution", list(_costs(seen.summary)))
    yield from _objectives(seen)
    alerts = [(each.kind, each.severity) for each in seen.alerts]
    yield _family("edow_alerts", [(key, alerts.count(key)) for key in sorted(set(alerts))])
    yield _one("edow_incidents_open", sum(not each.over for each in seen.incidents))
    over = [each.seconds for each in seen.incidents if each.seconds is not None]
    yield _family("edow_last_recovery_seconds", [((), seconds) for seconds in over[:1]])


def _costs(summary: Summary) -> Iterator[Sample]:
    whole = [((each.workflow, ""), each.cost_per_completed) for each in summary.workflows]
    parts = [((each.workflow, each.task), each.cost_per_completed) for each in summary.tasks]
    for key, cost in (*whole, *parts):
        for of, value in (msgspec.structs.asdict(cost) if cost is not None else {}).items():
            if value is not None:
                yield (*key, of), value


def _executions(figures: Figures) -> Iterator[Family]:
    workflows = sorted(figures.workflows.items())
    yield _family("edow_executions_started_total", [((name,), each.started) for name, each in workflows])
    ended = [((name, status), count) for name, each in workflows for status, count in _ends(each)]
    yield _family("edow_executions_ended_total", ended)
    yield _histograms("edow_execution_seconds", [((name,), each.took) for name, each in workflows])


def _ends(each: WorkflowFigures) -> Iterator[tuple[str, int]]:
    yield "completed", each.completed
    yield "failed", each.failed
    yield "cancelled", each.cancelled
    yield "terminated", each.terminated


def _attempts(figures: Figures) -> Iterator[Family]:
    tasks: list[tuple[tuple[str, str], TaskFigures]] = [
        ((workflow, task), each)
        for workflow, of in sorted(figures.workflows.items())
        for task, each in sorted(of.tasks.items())
    ]
    outcomes = ("completed", "retried", "failed")
    attempts = [((*key, outcome), getattr(each, outcome)) for key, each in tasks for outcome in outcomes]
    yield _family("edow_attempts_total", attempts)
    yield _family("edow_dead_letters_total", [(key, each.letters) for key, each in tasks])
    yield _family("edow_payload_bytes_total", [(key, each.payload) for key, each in tasks])
    yield _histograms("edow_attempt_queue_seconds", [(key, each.queue) for key, each in tasks])
    yield _histograms("edow_attempt_run_seconds", [(key, each.run) for key, each in tasks])
    yield _histograms("edow_attempt_back_seconds", [(key, each.back) for key, each in tasks])


def _objectives(seen: Snapshot) -> Iterator[Family]:
    slos = [((each.objective.name, each.objective.workflow), each) for each in seen.evaluations]
    yield _family("edow_slo_target", [(key, each.objective.target) for key, each in slos])
    yield _family("edow_slo_attained", [(key, each.attained) for key, each in slos if each.attained is not None])
    yield _family("edow_slo_budget_left", [(key, each.budget_left) for key, each in slos])
    rates = {
        (*key, f"{seconds:.0f}"): rate
        for key, each in slos
        for burn in each.burns
        for seconds, rate in ((burn.long_seconds, burn.long_rate), (burn.short_seconds, burn.short_rate))
    }
    yield _family("edow_slo_burn_rate", list(rates.items()))


def _one(name: str, value: float) -> Family:
    return _family(name, [((), value)])


def _family(name: str, samples: Sequence[Sample]) -> Family:
    metric = BY_NAME[name]
    make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family: Family = make(name, metric.help, labels=metric.labels)
    for labels, value in samples:
        family.add_metric(labels, value)  # type: ignore[attr-defined]
    return family


def _histograms(name: str, histograms: Sequence[tuple[tuple[str, ...], Histogram]]) -> Family:
    metric = BY_NAME[name]
    family = HistogramMetricFamily(name, metric.help, labels=metric.labels)
    for labels, histogram in histograms:
        buckets = [(str(float(limit)), histogram.at_most(limit * SECOND)) for limit in LIMITS]
        family.add_metric(labels, [*buckets, ("+Inf", histogram.count)], histogram.total / SECOND)
    return family
