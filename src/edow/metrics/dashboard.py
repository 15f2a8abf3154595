"""The Grafana dashboard, as data. `python -m edow.metrics.dashboard` prints the file that the documentation holds."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

WIDTH, HEIGHT = 12, 8  # of a panel; a row is 24 wide


class Panel(NamedTuple):
    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]  # what, and how its lines are named


def _quantile(part: float, metric: str, by: str) -> str:
    return f"histogram_quantile({part}, sum by (le, {by}) (rate({metric}_bucket[$__rate_interval])))"


def _rate(metric: str, by: str) -> str:
    return f"sum by ({by}) (rate({metric}[$__rate_interval]))"


def _share(metric: str) -> str:
    """Of all attempts of the task."""
    return f"{_rate(metric, 'workflow, task')} / {_rate('edow_attempts_total', 'workflow, task')}"


def _three(metric: str, by: str, name: str) -> tuple[tuple[str, str], ...]:
    return tuple((_quantile(part, metric, by), f"{name} p{part * 100:.0f}") for part in (0.5, 0.95, 0.99))


PANELS = (
    Panel("Executions started and ended", "ops", (
        (_rate("edow_executions_started_total", "workflow"), "{{workflow}} started"),
        (_rate("edow_executions_ended_total", "workflow, status"), "{{workflow}} {{status}}"),
    )),
    Panel("Executions in the store", "short", (("edow_executions", "{{status}}"),)),
    Panel("Time to completion", "s", _three("edow_execution_seconds", "workflow", "{{workflow}}")),
    Panel("Queue", "s", _three("edow_attempt_queue_seconds", "workflow, task", "{{workflow}} {{task}}")),
    Panel("Run", "s", _three("edow_attempt_run_seconds", "workflow, task", "{{workflow}} {{task}}")),
    Panel("Back", "s", _three("edow_attempt_back_seconds", "workflow, task", "{{workflow}} {{task}}")),
    Panel("Attempts", "ops", ((_rate("edow_attempts_total", "workflow, task, outcome"), "{{task}} {{outcome}}"),)),
    Panel("Dead letters", "short", (
        (_rate("edow_dead_letters_total", "workflow, task"), "{{task}} per second"),
        ("edow_dead_letters_parked", "waiting"),
    )),
    Panel("Messages", "ops", ((_rate("edow_messages_total", "topic, direction"), "{{topic}} {{direction}}"),)),
    Panel("Bytes", "Bps", ((_rate("edow_message_bytes_total", "topic, direction"), "{{topic}} {{direction}}"),)),
    Panel("Messages waiting", "short", (
        ("edow_topic_waiting", "{{topic}} {{group}}"),
        ("edow_topic_in_flight", "{{topic}} {{group}} in flight"),
        ("edow_tasks_unanswered", "{{topic}} not answered"),
        ("edow_inbox", "commands"),
    )),
    Panel("Oldest message", "s", (
        ("edow_topic_oldest_seconds", "{{topic}} {{group}}"),
        ("edow_tasks_unbegun_seconds", "{{topic}} not begun"),
        ("edow_inbox_oldest_seconds", "commands"),
    )),
    Panel("Messages to consumer groups", "ops", (
        (_rate("edow_topic_published_total", "topic, group"), "{{topic}} {{group}}"),
    )),
    Panel("Heaviest key and partition", "percentunit", (
        ("edow_hot_key_share", "{{topic}} key"),
        ("edow_hot_partition_share", "{{topic}} {{group}} partition"),
    )),
    Panel("Cost of a completed execution", "short", (
        ('edow_cost_per_execution{of="money"}', "{{workflow}} {{task}}"),
        ('edow_cost_per_execution{of="worker_seconds"}', "{{workflow}} {{task}} worker seconds"),
    )),
    Panel("Retries, failures, dead letters", "percentunit", (
        (_share('edow_attempts_total{outcome="retried"}'), "{{workflow}} {{task}} retried"),
        (_share('edow_attempts_total{outcome="failed"}'), "{{workflow}} {{task}} failed"),
        (_share("edow_dead_letters_total"), "{{workflow}} {{task}} dead letters"),
    )),
    Panel("Error budget left", "percentunit", (("edow_slo_budget_left", "{{slo}}"),)),
    Panel("Burn rate", "short", (("edow_slo_burn_rate", "{{slo}} over {{over}} s"),)),
    Panel("Objectives: attained and target", "percentunit", (
        ("edow_slo_attained", "{{slo}}"),
        ("edow_slo_target", "{{slo}} target"),
    )),
    Panel("Alerts and incidents", "short", (
        ("edow_alerts", "{{kind}} {{severity}}"),
        ("edow_incidents_open", "incidents"),
        ("edow_last_recovery_seconds", "seconds to recover, last"),
    )),
    Panel("Schedules late", "s", _three("edow_schedule_late_seconds", "schedule", "{{schedule}}")),
    Panel("Schedules missed", "ops", ((_rate("edow_schedule_missed_total", "schedule"), "{{schedule}}"),)),
    Panel("Commit", "s", _three("edow_commit_seconds", "job", "commit")),
    Panel("Worker seconds per second", "short", (
        (_rate("edow_attempt_run_seconds_sum", "workflow, task"), "{{workflow}} {{task}}"),
    )),
    Panel("Workers", "short", (
        ("sum(edow_worker_running)", "running"),
        ("sum(edow_worker_waiting)", "waiting"),
        ("sum(edow_worker_stuck)", "stuck"),
    )),
    Panel("Orchestrators", "short", (
        ("edow_orchestrators", "running"),
        ("sum(edow_shards)", "shards held"),
        ("edow_overdue_executions", "overdue executions"),
    )),
    Panel("What was put right", "ops", (
        (_rate("edow_duplicates_total", "job"), "duplicates"),
        (_rate("edow_poison_total", "job"), "poison"),
        (_rate("edow_healed_total", "job"), "healed"),
        (_rate("edow_republished_total", "job"), "published again"),
        (_rate("edow_retries_total", "job"), "tried again"),
    )),
)  # fmt: skip


def dashboard() -> dict[str, Any]:
    """What Grafana imports; it asks for the Prometheus to use."""
    source = {"type": "prometheus", "uid": "${DS_PROMETHEUS}"}
    return {
        "__inputs": [
            {"name": "DS_PROMETHEUS", "label": "Prometheus", "type": "datasource", "pluginId": "prometheus"},
        ],
        "title": "EDOW",
        "uid": "edow",
        "schemaVersion": 39,
        "tags": ["edow"],
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "10s",
        "panels": [_panel(number, panel, source) for number, panel in enumerate(PANELS)],
    }


def text() -> str:
    """The file."""
    return json.dumps(dashboard(), indent=1) + "\n"


def _panel(number: int, panel: Panel, source: dict[str, str]) -> dict[str, Any]:
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": source,
        "gridPos": {"h": HEIGHT, "w": WIDTH, "x": number % 2 * WIDTH, "y": number // 2 * HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + at), "datasource": source, "expr": query, "legendFormat": name}
            for at, (query, name) in enumerate(panel.queries)
        ],
    }


if __name__ == "__main__":
    print(text(), end="")
