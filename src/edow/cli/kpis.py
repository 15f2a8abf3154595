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
    if not summary.workflows:
        yield Text("nothing was measured in this time", style="dim")
        return
    yield Text(f"\nExecutions of the last {output.duration(summary.seconds * 1_000_000)}", style="bold")
    yield _workflows(summary)
    if summary.tasks:
        yield Text("\nTasks: waiting in the queue, running, and on the way back", style="bold")
        yield _tasks(summary)
    if summary.topics:
        yield Text("\nMessages", style="bold")
        yield _topics(summary)
    if summary.hot_keys or summary.hot_partitions:
        yield Text("\nKeys and partitions with the largest shares", style="bold")
        yield _hot(summary)


def _workflows(summary: Summary) -> Table:
    numbers = ("started", "completed", "failed", "other", "success", "p50", "p95", "p99", "cost of one")
    table = output.table("workflow", *numbers, right=numbers)
    for each in summary.workflows:
        success = "–" if each.success_rate is None else f"{each.success_rate:.2%}"
        table.add_row(
            each.workflow,
            f"{each.started:,}",
            f"{each.completed:,}",
            f"{each.failed:,}",
            f"{each.cancelled + each.terminated:,}",
            success,
            *_quantiles(each.took),
            _cost(each.cost_per_completed, summary.currency),
        )
    return table


def _tasks(summary: Summary) -> Table:
    stages = ("queue p50", "p95", "p99", "run p50", "p95", "p99", "back p50", "p95", "p99")
    numbers = ("attempts", "retried", "failed", "dead letters")
    table = output.table("task", *numbers, *stages, right=(*numbers, *stages))
    for each in summary.tasks:
        counts = (each.attempts, each.retried, each.failed, each.dead_letters)
        table.add_row(
            f"{each.workflow} / {each.task}",
            *(f"{count:,}" for count in counts),
            *_quantiles(each.queue),
            *_quantiles(each.run),
            *_quantiles(each.back),
        )
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


def _cost(cost: Cost | None, currency: str) -> str:
    if cost is None:
        return "–"
    if cost.money is None:
        return f"{output.duration(cost.worker_seconds * 1_000_000)}, {cost.messages:,.1f} messages"
    return f"{cost.money:.6g} {currency}".rstrip()
