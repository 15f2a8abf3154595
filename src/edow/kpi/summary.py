"""Figures as people and programs read them: rates, quantiles in seconds, shares, cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from edow.kpi.cost import Cost, Prices, cost_of, envelope, priced
from edow.kpi.figures import Figures, Lag, TaskFigures, Traffic, WorkflowFigures
from edow.kpi.histogram import Histogram
from edow.kpi.keys import HotKey
from edow.kpi.series import Point
from edow.model.topics import RESULTS, groups_of

HOT_PARTITION = 0.5  # share of one partition among several from which on the others cannot help


class Latency(msgspec.Struct, frozen=True):
    """Seconds; the quantiles are within 2 % of the exact ones."""

    count: int
    mean: float | None
    p50: float | None
    p95: float | None
    p99: float | None


class TaskSummary(msgspec.Struct, frozen=True):
    """Rates are shares of the attempts, None if there were none. `cost_per_completed`: of an execution."""

    workflow: str
    task: str
    attempts: int
    completed: int
    retried: int
    failed: int
    dead_letters: int
    attempts_per_second: float
    queue: Latency
    run: Latency
    back: Latency
    cost: Cost
    cost_per_completed: Cost | None = None
    retry_rate: float | None = None
    failure_rate: float | None = None
    dead_letter_rate: float | None = None


class WorkflowSummary(msgspec.Struct, frozen=True):
    workflow: str
    started: int
    completed: int
    failed: int
    cancelled: int
    terminated: int
    completed_per_second: float
    success_rate: float | None  # completed among completed and failed
    took: Latency  # of those completed
    cost: Cost
    cost_per_completed: Cost | None


class TopicSummary(msgspec.Struct, frozen=True):
    """What orchestrators published to a topic, or consumed from it."""

    topic: str
    groups: list[str]
    direction: str  # sent | received
    messages: int
    bytes: int
    messages_per_second: float
    bytes_per_second: float


class LagSummary(msgspec.Struct, frozen=True):
    """The most that was seen to wait in a consumer group, and how fast messages came and went; None: not known. Bytes
    are those of the topic's messages on average.
    """

    topic: str
    group: str
    waiting: int
    in_flight: int | None
    oldest_seconds: float | None
    in_per_second: float | None = None
    out_per_second: float | None = None
    in_bytes_per_second: float | None = None
    out_bytes_per_second: float | None = None


class ScheduleSummary(msgspec.Struct, frozen=True):
    """Ticks of a schedule. `late`: from when one was due until its execution was started."""

    schedule: str
    missed: int
    late: Latency


class HotPartition(msgspec.Struct, frozen=True):
    topic: str
    group: str
    partition: str
    share: float
    partitions: int
    action: str


class Summary(msgspec.Struct, frozen=True):
    """`seconds`: the time that it is about, not longer than anything has been measured at all."""

    seconds: float
    workflows: list[WorkflowSummary]
    tasks: list[TaskSummary]
    topics: list[TopicSummary]
    lag: list[LagSummary]
    hot_keys: list[HotKey]
    hot_partitions: list[HotPartition]
    commit: Latency
    duplicates: int
    poison: int
    currency: str
    schedules: list[ScheduleSummary]


def group_rates(points: Sequence[Point]) -> dict[str, tuple[float, float]]:
    """Messages that came to a consumer group in a second, and that left it, from the first and last time that the
    broker told how many there ever were.
    """
    seen: dict[str, list[tuple[int, int, Lag]]] = {}
    for point in points:
        for name, lag in point.figures.lag.items():
            if lag.published is not None:
                seen.setdefault(name, []).append((point.start, lag.published, lag))
    rates = {}
    for name, samples in seen.items():
        (begin, before, first), (end, after, last) = samples[0], samples[-1]
        if end > begin and after >= before:
            grown = last.waiting + (last.in_flight or 0) - first.waiting - (first.in_flight or 0)
            came = (after - before) / (end - begin)
            rates[name] = came, max(0.0, came - grown / (end - begin))
    return rates


def summary(
    figures: Figures,
    seconds: float,
    prices: Prices | None = None,
    rates: Mapping[str, tuple[float, float]] | None = None,
) -> Summary:
    """What was measured in so many seconds. `rates`: of consumer groups."""
    per_message = envelope(figures)
    workflows = sorted(figures.workflows.items())
    return Summary(
        seconds=seconds,
        workflows=[_workflow(name, each, seconds, per_message, prices) for name, each in workflows],
        tasks=[
            _task((name, task), each, seconds, cost_of(each, per_message, prices), workflow.completed)
            for name, workflow in workflows
            for task, each in sorted(workflow.tasks.items())
        ],
        topics=[*_topics("sent", figures.sent, seconds), *_topics("received", figures.received, seconds)],
        lag=[_lag(lag, (rates or {}).get(name), figures) for name, lag in sorted(figures.lag.items())],
        hot_keys=[hot for topic, keys in sorted(figures.keys.items()) for hot in keys.heaviest(topic)],
        hot_partitions=list(_hot_partitions(figures)),
        commit=latency(figures.commits),
        duplicates=figures.duplicates,
        poison=figures.poison,
        currency=prices.currency if prices is not None else "",
        schedules=[
            ScheduleSummary(name, each.missed, latency(each.late)) for name, each in sorted(figures.schedules.items())
        ],
    )


def latency(histogram: Histogram) -> Latency:
    p50, p95, p99 = (_seconds(histogram.quantile(part)) for part in (0.5, 0.95, 0.99))
    return Latency(histogram.count, _seconds(histogram.mean), p50, p95, p99)


def _seconds(microseconds: float | None) -> float | None:
    return None if microseconds is None else microseconds / 1_000_000


def _rate(count: int, seconds: float) -> float:
    return round(count / seconds, 3) if seconds > 0 else 0.0


def _workflow(
    name: str, each: WorkflowFigures, seconds: float, per_message: float, prices: Prices | None
) -> WorkflowSummary:
    costs = [cost_of(task, per_message, None) for task in each.tasks.values()]
    worker_seconds, messages = sum(one.worker_seconds for one in costs), sum(one.messages for one in costs)
    cost = priced(worker_seconds, messages, sum(one.bytes for one in costs), prices)
    decided = each.completed + each.failed
    return WorkflowSummary(
        workflow=name,
        started=each.started,
        completed=each.completed,
        failed=each.failed,
        cancelled=each.cancelled,
        terminated=each.terminated,
        completed_per_second=_rate(each.completed, seconds),
        success_rate=each.completed / decided if decided else None,
        took=latency(each.took),
        cost=cost,
        cost_per_completed=cost.per(each.completed),
    )


def _task(of: tuple[str, str], each: TaskFigures, seconds: float, cost: Cost, completed: int) -> TaskSummary:
    return TaskSummary(
        workflow=of[0],
        task=of[1],
        attempts=each.attempts,
        completed=each.completed,
        retried=each.retried,
        failed=each.failed,
        dead_letters=each.letters,
        attempts_per_second=_rate(each.attempts, seconds),
        queue=latency(each.queue),
        run=latency(each.run),
        back=latency(each.back),
        cost=cost,
        cost_per_completed=cost.per(completed),
        retry_rate=_share(each.retried, each.attempts),
        failure_rate=_share(each.failed, each.attempts),
        dead_letter_rate=_share(each.letters, each.attempts),
    )


def _share(count: int, of: int) -> float | None:
    return round(count / of, 6) if of else None


def _lag(lag: Lag, rates: tuple[float, float] | None, figures: Figures) -> LagSummary:
    told = LagSummary(lag.topic, lag.group, lag.waiting, lag.in_flight, _seconds(lag.oldest))
    if rates is None:
        return told
    size = _size_of_one(figures, lag.topic)
    bytes_ = (None, None) if size is None else (rates[0] * size, rates[1] * size)
    return msgspec.structs.replace(
        told,
        in_per_second=rates[0],
        out_per_second=rates[1],
        in_bytes_per_second=bytes_[0],
        out_bytes_per_second=bytes_[1],
    )


def _size_of_one(figures: Figures, topic: str) -> float | None:
    """Bytes of a message of this topic; results are counted for all of their topics together."""
    name = f"{RESULTS}*" if topic.startswith(RESULTS) else topic
    found = figures.sent.get(name) or figures.received.get(name)
    return found.bytes / found.messages if found is not None and found.messages else None


def _topics(direction: str, traffic: dict[str, Traffic], seconds: float) -> Iterable[TopicSummary]:
    for topic, each in sorted(traffic.items()):
        rates = _rate(each.messages, seconds), _rate(each.bytes, seconds)
        groups = list(groups_of(topic))
        yield TopicSummary(topic, groups, direction, each.messages, each.bytes, *rates)


def _hot_partitions(figures: Figures) -> Iterable[HotPartition]:
    for _, lag in sorted(figures.lag.items()):
        share = lag.share or 0.0
        if lag.hottest is not None and lag.partitions > 1 and share > max(HOT_PARTITION, 2 / lag.partitions):
            action = "one key, or few, make it: see the hot keys of the topic, and spread what they do over more keys"
            yield HotPartition(lag.topic, lag.group, lag.hottest, share, lag.partitions, action)
