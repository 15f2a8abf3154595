"""Metrics: what is told is what the table says, and the dashboard asks for nothing else."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import suppress
from pathlib import Path

import httpx
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from edow.client.kpis import Snapshot
from edow.errors import InvalidInput
from edow.kpi.alert import Alert
from edow.kpi.cost import Prices
from edow.kpi.figures import Figures, Lag
from edow.kpi.incident import Incident
from edow.kpi.keys import Keys
from edow.kpi.meter import Meter
from edow.kpi.slo import Objective, Tally, evaluate
from edow.kpi.summary import summary
from edow.kpi.waiting import Unanswered
from edow.metrics import dashboard, table
from edow.metrics.families import LIMITS, exposition, of_orchestrator, of_system, of_worker
from edow.metrics.server import MetricsServer
from edow.model.attempted import Attempted
from edow.model.execution import Execution, Status
from edow.model.message import Message
from edow.orchestrator.stats import Stats
from edow.store.contract import Counts
from edow.worker.worker import WorkerStats

SECOND = 1_000_000
ROOT = Path(__file__).parents[3]
NAME = re.compile(r"\bedow_[a-z_]+")


def figures() -> Figures:
    meter = Meter()
    attempts = [Attempted("pay", became, 1, SECOND, 3 * SECOND, 10) for became in ("completed", "retried", "failed")]
    meter.attempts([("order", attempts)], 4 * SECOND)
    row = Execution(id="1", workflow="order", shard=0, status=Status.COMPLETED, started_at=1, ended_at=1 + SECOND)
    meter.executions(["order"], [row])
    meter.dead_letter("order", "pay")
    meter.sent([Message("edow.tasks.default", b"12345")])
    meter.received("edow.results.*", 2, 30)
    meter.ticks("nightly", [3 * SECOND], 2)
    return meter.take()


def with_keys(figures: Figures) -> Figures:
    keys = figures.keys["t"] = Keys()
    keys.add({"a": 3, "b": 1})
    return figures


def snapshot() -> Snapshot:
    objective = Objective(name="orders", workflow="order", target=0.9)
    return Snapshot(
        at=10 * SECOND,
        counts=Counts({"running": 2}, 1, 3, 4 * SECOND, 0, 5, 0, 0),
        orchestrators=1,
        unanswered=[Unanswered("t", 5, 8 * SECOND)],
        figures=Figures(lag={"a": Lag("t", "workers", 7, 2, 3 * SECOND, 90, 4, "3", 0.75)}),
        summary=summary(with_keys(figures()), 300.0, Prices(worker_hour=3600.0)),
        evaluations=[evaluate(objective, Tally(8, 10), lambda _: Tally(8, 10))],
        alerts=[Alert(id="1", kind="lag", subject="t", severity="ticket", message="", since=1)],
        incidents=[
            Incident(id="2", cause="", fault_at=9, found_at=9),
            Incident(id="1", cause="", fault_at=SECOND, found_at=9, drained_at=5 * SECOND),
        ],
    )


def told() -> bytes:
    stats = WorkerStats(1, 2, 3, 4, 5, 6, 7)
    return exposition([*of_orchestrator(figures(), Stats(healed=2), 16), *of_system(snapshot()), *of_worker(stats)])


def samples(text: bytes) -> dict[tuple[str, tuple[str, ...]], float]:
    """By name and the values of the labels, in the order of the table."""
    return {
        (each.name, labels_of(each.name, each.labels)): each.value
        for family in text_string_to_metric_families(text.decode())
        for each in family.samples
    }


def labels_of(series: str, labels: dict[str, str]) -> tuple[str, ...]:
    return tuple(labels[label] for label in (*metric_of(series).labels, "le") if label in labels)


def metric_of(series: str) -> table.Metric:
    return table.BY_NAME.get(series) or table.BY_NAME[series.rpartition("_")[0]]


def test_exactly_the_metrics_of_the_table_are_told():
    """Every one of them, with the labels that it says, and none besides."""
    names = {name for name, _ in samples(told())}
    assert names == table.series_names()
    for family in text_string_to_metric_families(told().decode()):
        for each in family.samples:
            assert set(each.labels) - {"le"} == set(metric_of(each.name).labels)


def test_the_values_are_the_figures():
    """Counts as they are, times in seconds, histograms with all that is at most each limit."""
    found = samples(told())
    assert found["edow_attempts_total", ("order", "pay", "retried")] == 1
    assert found["edow_execution_seconds_sum", ("order",)] == 1.0
    assert found["edow_attempt_run_seconds_bucket", ("order", "pay", "2.0")] == 0
    assert found["edow_attempt_run_seconds_bucket", ("order", "pay", "5.0")] == 3
    assert found["edow_attempt_run_seconds_bucket", ("order", "pay", "+Inf")] == 3
    assert found["edow_messages_total", ("edow.results.*", "received")] == 2
    assert found["edow_inbox_oldest_seconds", ()] == 6.0
    assert found["edow_schedule_late_seconds_sum", ("nightly",)] == 3.0
    assert found["edow_schedule_missed_total", ("nightly",)] == 2
    assert found["edow_topic_oldest_seconds", ("t", "workers")] == 3.0
    assert found["edow_tasks_unanswered", ("t",)] == 5
    assert found["edow_tasks_unbegun_seconds", ("t",)] == 2.0
    assert found["edow_topic_published_total", ("t", "workers")] == 90
    assert found["edow_hot_partition_share", ("t", "workers")] == 0.75
    assert found["edow_hot_key_share", ("t",)] == 0.75
    assert found["edow_cost_per_execution", ("order", "pay", "worker_seconds")] == 9.0
    assert found["edow_cost_per_execution", ("order", "", "messages")] == 6.0
    assert found["edow_cost_per_execution", ("order", "", "money")] == pytest.approx(9.0)
    assert found["edow_slo_burn_rate", ("orders", "order", "3600")] == pytest.approx(2.0)
    assert found["edow_last_recovery_seconds", ()] == 4.0
    assert found["edow_incidents_open", ()] == 1
    assert found["edow_healed_total", ()] == 2


def test_what_the_broker_does_not_tell_is_no_sample():
    """A zero would be a lie."""
    lag = {"a": Lag("t", "workers", 7, None), "b": Lag("u", "workers", 0, 0)}
    found = samples(exposition(of_system(msgspec.structs.replace(snapshot(), figures=Figures(lag=lag)))))
    assert found["edow_topic_waiting", ("t", "workers")] == 7
    assert found["edow_topic_oldest_seconds", ("u", "workers")] == 0
    assert (
        not {("edow_topic_in_flight", ("t", "workers")), ("edow_topic_oldest_seconds", ("t", "workers"))} & found.keys()
    )


def test_nothing_measured_is_told_without_error():
    """A process that has just begun has figures of nothing."""
    found = samples(exposition(of_orchestrator(Figures(), Stats(), 0)))
    assert found["edow_commit_seconds_count", ()] == 0


def test_the_dashboard_asks_for_metrics_that_exist():
    """Every name in it is a time series of the table, and nearly all of the table is on it."""
    queries = [target["expr"] for panel in dashboard.dashboard()["panels"] for target in panel["targets"]]
    asked = {name for query in queries for name in NAME.findall(query)}
    assert asked <= table.series_names()
    shown = {name.removesuffix("_bucket").removesuffix("_sum") for name in asked}
    assert {metric.name for metric in table.METRICS} - shown <= {
        "edow_payload_bytes_total",
        "edow_takeovers_total",
        "edow_worker_unpublished",
        "edow_worker_received_total",
        "edow_worker_ended_total",
        "edow_worker_published_total",
    }


def test_its_queries_group_by_labels_that_the_metrics_have():
    """A misspelt label would make one line of many."""
    for panel in dashboard.PANELS:
        for query, _ in panel.queries:
            for name in set(NAME.findall(query)):
                for labels in re.findall(r"by \(([^)]*)\)", query):
                    assert set(labels.split(", ")) <= {*metric_of(name).labels, "le", "job"}, query


def test_documentation_holds_what_the_code_says():
    """`docs/metrics.md` has the table, `docs/grafana.json` the dashboard."""
    assert table.markdown() in (ROOT / "docs/metrics.md").read_text()
    assert (ROOT / "docs/grafana.json").read_text() == dashboard.text()
    assert json.loads(dashboard.text())["panels"]


def test_limits_of_buckets_grow():
    """As Prometheus needs it."""
    assert list(LIMITS) == sorted(set(LIMITS))


async def test_the_page_is_served_on_its_port():
    """One page, for GET and HEAD; anything else is refused, and nonsense does no harm."""
    server = MetricsServer("127.0.0.1", 0, lambda: of_orchestrator(figures(), Stats(), 4))
    await server.start()
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as http:
            page = await http.get("/metrics")
            assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
            assert samples(page.content)["edow_shards", ()] == 4
            assert (await http.head("/metrics")).status_code == 200
            assert (await http.get("/")).status_code == 404
            assert (await http.post("/metrics")).status_code == 405
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"\xff" * 200_000 + b"\n\n")
            with suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
            assert (await http.get("/metrics")).status_code == 200
        with pytest.raises(InvalidInput, match="choose another port"):
            await MetricsServer("127.0.0.1", server.port, lambda: []).start()
    finally:
        await server.stop()
