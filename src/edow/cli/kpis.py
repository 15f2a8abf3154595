"""Stored figures as tables: executions, stages of their tasks, traffic, cost, hot keys and partitions."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from edow.cli import output
from edow.kpi.cost import Cost
from edow.kpi.summary import Latency, Summary


def tables(summary: Summary) -> Iterator[Table | Text]:
    """Nothing is shown that was not measured."""
    if not summary.workflows and not summary.schedules:
        yield Text("nothing was measured in this time", style="dim")
        return
    yield Text(f"\nExecutions of the last {output.duration(summary.seconds * 1_000_000)}", style="bold")
    yield _workflows(summary)
    if summary.tasks:
        yield Text("\nTasks: waiting in the queue, running, and on the way back", style="bold")
        yield _tasks(summary)
        yield Text("\nWhat a completed execution costs", style="bold")
        yield _costs(summary)
    if summary.schedules:
        yield Text("\nSchedules: how late executions were started", style="bold")
        yield _schedules(summary)
    if summary.topics:
        yield Text("\nMessages", style="bold")
        yield _topics(summary)
    if summary.lag:
        yield Text("\nConsumer groups: the most that waited, and how fast messages came and left", style="bold")
        yield _groups(summary)
    if summary.hot_keys or summary.hot_partitions:
        yield Text("\nKeys and partitions with the largest shares", style="bold")
        yield _hot(summary)


def _workflows(summary: Summary) -> Table:
    numbers = ("started", "completed", "per second", "failed", "other", "success", "p50", "p95", "p99")
    table = output.table("workflow", *numbers, right=numbers)
    for each in summary.workflows:
        success = "–" if each.success_rate is None else f"{each.success_rate:.2%}"
        table.add_row(
            each.workflow,
            f"{each.started:,}",
            f"{each.completed:,}",
            f"{each.completed_per_second:,.1f}",
            f"{each.failed:,}",
            f"{each.cancelled + each.terminated:,}",
            success,
            *_quantiles(each.took),
        )
    return table


def _tasks(summary: Summary) -> Table:
    stages = ("queue p50", "p95", "p99", "run p50", "p95", "p99", "back p50", "p95", "p99")
    numbers = ("attempts", "retried", "failed", "dead letters")
    table = output.table("task", *numbers, *stages, right=(*numbers, *stages))
    for each in summary.tasks:
        table.add_row(
            f"{each.workflow} / {each.task}",
            f"{each.attempts:,}",
            _rated(each.retried, each.retry_rate),
            _rated(each.failed, each.failure_rate),
            _rated(each.dead_letters, each.dead_letter_rate),
            *_quantiles(each.queue),
            *_quantiles(each.run),
            *_quantiles(each.back),
        )
    return table


def _schedules(summary: Summary) -> Table:
    numbers = ("started", "missed", "late p50", "p95", "p99")
    table = output.table("schedule", *numbers, right=numbers)
    for each in summary.schedules:
        table.add_row(each.schedule, f"{each.late.count:,}", f"{each.missed:,}", *_quantiles(each.late))
    return table


def _rated(count: int, rate: float | None) -> str:
    return f"{count:,} ({rate:.1%})" if count and rate is not None else f"{count:,}"


def _costs(summary: Summary) -> Table:
    numbers = ("worker time", "messages", "bytes", "money")
    table = output.table("workflow / task", *numbers, right=numbers)
    for each in summary.workflows:
        table.add_row(each.workflow, *_cost(each.cost_per_completed, summary.currency))
        for task in summary.tasks:
            if task.workflow == each.workflow:
                table.add_row(f"{task.workflow} / {task.task}", *_cost(task.cost_per_completed, summary.currency))
    return table


def _groups(summary: Summary) -> Table:
    numbers = ("waiting", "in flight", "oldest", "in/s", "out/s", "bytes in/s", "bytes out/s")
    table = output.table("topic", "group", *numbers, right=numbers)
    for each in summary.lag:
        rates = ["–" if rate is None else f"{rate:,.1f}" for rate in (each.in_per_second, each.out_per_second)]
        sizes = [
            "–" if size is None else output.size(round(size))
            for size in (each.in_bytes_per_second, each.out_bytes_per_second)
        ]
        in_flight = "–" if each.in_flight is None else f"{each.in_flight:,}"
        waits = f"{each.waiting:,}", in_flight, _duration(each.oldest_seconds)
        table.add_row(each.topic, each.group, *waits, *rates, *sizes)
    return table


def _topics(summary: Summary) -> Table:
    numbers = ("messages", "per second", "bytes per second")
    table = output.table("topic", "by orchestrators", "group", *numbers, right=numbers)
    for each in summary.topics:
        rates = f"{each.messages_per_second:,.1f}", output.size(round(each.bytes_per_second))
        table.add_row(each.topic, each.direction, ", ".join(each.groups) or "–", f"{each.messages:,}", *rates)
    return table


def _hot(summary: Summary) -> Table:
    table = output.table("topic", "key or partition", "share", "what may help", right=("share",))
    for key in summary.hot_keys:
        table.add_row(key.topic, f"key {key.key}", f"{key.share:.1%}", key.action or "–")
    for one in summary.hot_partitions:
        table.add_row(one.topic, f"partition {one.partition} of {one.partitions}", f"{one.share:.1%}", one.action)
    return table


def _quantiles(latency: Latency) -> list[str]:
    return [_duration(each) for each in (latency.p50, latency.p95, latency.p99)]


def _duration(seconds: float | None) -> str:
    return "–" if seconds is None else output.duration(seconds * 1_000_000)


def _cost(cost: Cost | None, currency: str) -> list[str]:
    if cost is None:
        return ["–"] * 4
    money = "–" if cost.money is None else f"{cost.money:.4g} {currency}".rstrip()
    return [_duration(cost.worker_seconds), f"{cost.messages:,.1f}", output.size(round(cost.bytes)), money]
