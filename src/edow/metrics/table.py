"""Every metric there is: name, kind, labels, who tells it. Documentation and dashboard are checked against it."""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["counter", "gauge", "histogram"]
Where = Literal["orchestrator", "worker", "api"]


class Metric(NamedTuple):
    """A counter's name ends with `_total`, as Prometheus shows it."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    where: Where
    help: str


_TASK = ("workflow", "task")

METRICS = (
    Metric("edow_executions_started_total", "counter", ("workflow",), "orchestrator", "Executions that have begun."),
    Metric("edow_executions_ended_total", "counter", ("workflow", "status"), "orchestrator", "Executions that ended."),
    Metric(
        "edow_execution_seconds", "histogram", ("workflow",), "orchestrator", "From start to end, of those completed."
    ),
    Metric(
        "edow_attempts_total",
        "counter",
        (*_TASK, "outcome"),
        "orchestrator",
        "Attempts that ended: completed, retried (another follows), failed.",
    ),
    Metric("edow_dead_letters_total", "counter", _TASK, "orchestrator", "Dead letters made."),
    Metric("edow_attempt_queue_seconds", "histogram", _TASK, "orchestrator", "From publication to a worker's start."),
    Metric("edow_attempt_run_seconds", "histogram", _TASK, "orchestrator", "Run of an attempt, as its worker says."),
    Metric("edow_attempt_back_seconds", "histogram", _TASK, "orchestrator", "From its end to the decision upon it."),
    Metric("edow_payload_bytes_total", "counter", _TASK, "orchestrator", "Arguments and results."),
    Metric(
        "edow_messages_total",
        "counter",
        ("topic", "direction"),
        "orchestrator",
        "Messages that orchestrators published (sent) and consumed (received).",
    ),
    Metric("edow_message_bytes_total", "counter", ("topic", "direction"), "orchestrator", "Their bytes."),
    Metric(
        "edow_schedule_late_seconds",
        "histogram",
        ("schedule",),
        "orchestrator",
        "From when a tick was due until its start.",
    ),
    Metric("edow_schedule_missed_total", "counter", ("schedule",), "orchestrator", "Ticks that nobody has started."),
    Metric("edow_commit_seconds", "histogram", (), "orchestrator", "A commit of a batch in the store."),
    Metric("edow_duplicates_total", "counter", (), "orchestrator", "Inputs that had been answered before."),
    Metric("edow_poison_total", "counter", (), "orchestrator", "Messages that nobody could read."),
    Metric("edow_healed_total", "counter", (), "orchestrator", "Executions that made no progress and were woken."),
    Metric("edow_republished_total", "counter", (), "orchestrator", "Attempts whose message the transport had lost."),
    Metric("edow_retries_total", "counter", (), "orchestrator", "Commits and publishes that were tried again."),
    Metric("edow_takeovers_total", "counter", (), "orchestrator", "Shards taken."),
    Metric("edow_shards", "gauge", (), "orchestrator", "Shards held."),
    Metric("edow_worker_running", "gauge", (), "worker", "Attempts that run."),
    Metric("edow_worker_waiting", "gauge", (), "worker", "Messages received whose attempt has not begun."),
    Metric("edow_worker_unpublished", "gauge", (), "worker", "Answers that the broker does not have yet."),
    Metric("edow_worker_stuck", "gauge", (), "worker", "Threads and loops left behind because they were stuck."),
    Metric("edow_worker_received_total", "counter", (), "worker", "Messages received."),
    Metric("edow_worker_ended_total", "counter", (), "worker", "Attempts that ended."),
    Metric("edow_worker_published_total", "counter", (), "worker", "Answers published."),
    Metric("edow_executions", "gauge", ("status",), "api", "Executions in the store."),
    Metric("edow_dead_letters_parked", "gauge", (), "api", "Dead letters that wait for somebody."),
    Metric("edow_inbox", "gauge", (), "api", "Commands that no orchestrator has taken yet."),
    Metric("edow_inbox_oldest_seconds", "gauge", (), "api", "Age of the oldest of them."),
    Metric("edow_overdue_executions", "gauge", (), "api", "Executions to be looked at more than 10 s ago."),
    Metric("edow_orchestrators", "gauge", (), "api", "Orchestrators that said in the last 10 s that they run."),
    Metric("edow_topic_waiting", "gauge", ("topic", "group"), "api", "Messages waiting in a consumer group."),
    Metric("edow_topic_in_flight", "gauge", ("topic", "group"), "api", "Messages being worked on."),
    Metric("edow_topic_oldest_seconds", "gauge", ("topic", "group"), "api", "Age of the oldest not acknowledged."),
    Metric("edow_topic_published_total", "counter", ("topic", "group"), "api", "Messages that ever came to a group."),
    Metric("edow_tasks_unanswered", "gauge", ("topic",), "api", "Tasks published and not answered, on any broker."),
    Metric("edow_tasks_unbegun_seconds", "gauge", ("topic",), "api", "Age of the oldest that no worker is yet at."),
    Metric("edow_hot_key_share", "gauge", ("topic",), "api", "Share of the heaviest key (`edow stats` names it)."),
    Metric("edow_hot_partition_share", "gauge", ("topic", "group"), "api", "Share of the heaviest partition."),
    Metric(
        "edow_cost_per_execution",
        "gauge",
        (*_TASK, "of"),
        "api",
        "A completed execution in the last 5 min: worker_seconds, messages, bytes, money. Without task: the whole.",
    ),
    Metric("edow_slo_target", "gauge", ("slo", "workflow"), "api", "Share of executions that shall be good."),
    Metric("edow_slo_attained", "gauge", ("slo", "workflow"), "api", "Share that was good in the window."),
    Metric("edow_slo_budget_left", "gauge", ("slo", "workflow"), "api", "Share of the error budget that is left."),
    Metric(
        "edow_slo_burn_rate", "gauge", ("slo", "workflow", "over"), "api", "How fast it goes, over so many seconds."
    ),
    Metric("edow_alerts", "gauge", ("kind", "severity"), "api", "Alerts that hold."),
    Metric("edow_incidents_open", "gauge", (), "api", "Incidents that are not over."),
    Metric("edow_last_recovery_seconds", "gauge", (), "api", "Time to recover of the latest incident that is over."),
)
BY_NAME = {metric.name: metric for metric in METRICS}


def series_names() -> set[str]:
    """The names of the time series that these make."""
    suffixes = ("_bucket", "_sum", "_count")
    names = {metric.name for metric in METRICS if metric.kind != "histogram"}
    return names | {metric.name + suffix for metric in METRICS if metric.kind == "histogram" for suffix in suffixes}


def markdown() -> str:
    """The table as documentation shows it."""
    lines = ["| metric | kind | labels | told by | |", "|---|---|---|---|---|"]
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels) or "–"
        lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.where} | {metric.help} |")
    return "\n".join(lines)
