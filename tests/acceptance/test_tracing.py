"""Tracing and logging by real processes: to a real OTLP receiver, and as JSON lines."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from edow.client import Client
from edow.telemetry.traceparent import attempt_span, execution_span, parse
from edow.testing.polling import until
from edow.testing.processes import Fleet
from tests.acceptance.commands import edow_command

FLOW = "tests.acceptance.traced_flow"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CALLER = parse(TRACE)


class Receiver(ThreadingHTTPServer):
    """A collector that keeps what it is sent: spans with the name of the service that sent them."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Taking)
        self.spans: list[tuple[str, Any]] = []

    def names(self) -> set[str]:
        return {span.name for _, span in self.spans}


class Taking(BaseHTTPRequestHandler):
    """POST /v1/traces, protobuf."""

    server: Receiver

    def do_POST(self) -> None:  # the standard library's name
        assert self.path == "/v1/traces"
        request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        for resource in request.resource_spans:
            [service] = [each for each in resource.resource.attributes if each.key == "service.name"]
            for scope in resource.scope_spans:
                self.server.spans += [(service.value.string_value, span) for span in scope.spans]
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on stderr."""


@contextmanager
def receiving() -> Iterator[tuple[Receiver, str]]:
    """A receiver and its endpoint."""
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


async def test_one_trace_through_real_processes(tmp_path: Path) -> None:
    """Orchestrator, worker and what tasks trace by themselves reach the collector as one tree; log lines name it."""
    store = f"sqlite:///{tmp_path}/edow.db"
    with receiving() as (collector, endpoint):
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "100", "EDOW_LOG_JSON": "1"}
        async with Fleet([FLOW], store, tmp_path, environment=environment) as fleet, Client(store) as client:
            services = [await fleet.start(role) for role in ("orchestrator", "worker")]
            for service in services:
                await fleet.during(service.ready())
            handle = await client.start_named("traced", {"question": "who"}, id="t", traceparent=TRACE)
            assert await fleet.during(handle.result()) == "WHO 2"

            async def told() -> bool:
                return {"workflow traced", "process compute", "compute it", "return"} <= collector.names()

            await fleet.during(until(told))
            logged = "".join(path.read_text() for path in tmp_path.rglob("*.log"))
        spans = [span for _, span in collector.spans]
        assert CALLER
        assert {int.from_bytes(span.trace_id) for span in spans} == {CALLER.trace}
        ids = {int.from_bytes(span.span_id): span for span in spans}
        assert len(ids) == len(spans)
        strangers = [span.name for span in spans if int.from_bytes(span.parent_span_id) not in {*ids, CALLER.span}]
        assert strangers == []
        assert int.from_bytes(ids[execution_span("t", 1)].parent_span_id) == CALLER.span
        for own, step in (("ask the bank", "ask"), ("compute it", "compute")):
            [span] = [span for span in spans if span.name == own]
            assert int.from_bytes(span.parent_span_id) == attempt_span(f"t/1/{step}", 1)
        assert {service for service, _ in collector.spans} == {"edow-orchestrator", "edow-worker"}
        lines = [json.loads(line) for line in logged.splitlines() if line.startswith("{")]
        [line] = [each for each in lines if each["message"] == "asking who"]
        assert (line["execution_id"], line["correlation_id"], line["step"]) == ("t", "t", "ask")
        assert line["trace_id"] == TRACE[3:35]
        [line] = [each for each in lines if each["message"] == "wondering about who"]
        assert (line["execution_id"], line["correlation_id"], line["trace_id"]) == ("t", "t", TRACE[3:35])


def test_a_command_begins_the_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`edow run`, with nothing but the environment: all spans under the one of the start, sent before it ends."""
    with receiving() as (collector, endpoint):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        ran = edow_command("run", f"{FLOW}:traced", "--input", '"x"', "--store", f"sqlite:///{tmp_path}/edow.db")
        assert (ran.returncode, json.loads(ran.stdout)) == (0, "X 2"), ran.stderr
        spans = {span.name: span for _, span in collector.spans}
        assert {"start traced", "process ask", "ask the bank", "process compute", "compute it"} <= spans.keys()
        assert spans["start traced"].parent_span_id == b""
        assert {span.trace_id for _, span in collector.spans} == {spans["start traced"].trace_id}
        assert {service for service, _ in collector.spans} == {"edow-run"}


async def test_a_webhook_goes_on_with_the_callers_trace_or_begins_one(tmp_path: Path) -> None:
    """Over HTTP, by an API process that knows the collector."""
    store = f"sqlite:///{tmp_path}/edow.db"
    with receiving() as (collector, endpoint):
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        async with Client(store) as client:
            made = edow_command(
                "hook", "create", "open", "--scheme", "none", "--workflow", "traced", "--input", "{question: body.q}",
                "--id", "body.id", "--store", store,
            )  # fmt: skip
            assert made.returncode == 0, made.stderr
            async with Fleet([FLOW], store, tmp_path, environment=environment) as fleet:
                api = await fleet.spawn("api", ["-m", "edow", "api", "--port", "0"])
                await fleet.during(api.ready())
                [url] = re.findall(r"http://127\.0\.0\.1:\d+", api.log.read_text())
                async with httpx.AsyncClient(base_url=url) as http:
                    for id, headers in (("told", {"traceparent": TRACE}), ("own", {})):
                        answer = await http.post("/hooks/open", json={"q": "?", "id": id}, headers=headers)
                        assert answer.status_code == 202, answer.text

                async def told() -> bool:
                    return len(collector.spans) == 2

                await fleet.during(until(told))
                rows = {id: await client.get(id).describe() for id in ("told", "own")}
        spans = {span.trace_id: span for _, span in collector.spans}
        assert CALLER
        found = {id: parse(row.trace) for id, row in rows.items()}
        for id, parent in (("told", CALLER.span.to_bytes(8)), ("own", b"")):
            context = found[id]
            assert context
            span = spans[context.trace.to_bytes(16)]
            assert (span.name, span.span_id, span.parent_span_id) == (
                "start traced", context.span.to_bytes(8), parent,
            )  # fmt: skip
        assert {service for service, _ in collector.spans} == {"edow-api"}


def test_a_share_of_executions_is_traced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As OpenTelemetry's own variables say; here none."""
    with receiving() as (collector, endpoint):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
        monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
        ran = edow_command("run", f"{FLOW}:traced", "--input", '"x"', "--store", f"sqlite:///{tmp_path}/edow.db")
        assert (ran.returncode, collector.spans) == (0, [])


def test_a_collector_that_is_away_is_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The result is there, and the exit code."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    ran = edow_command("run", f"{FLOW}:traced", "--input", '"x"', "--store", f"sqlite:///{tmp_path}/edow.db")
    assert (ran.returncode, json.loads(ran.stdout)) == (0, "X 2"), ran.stderr
