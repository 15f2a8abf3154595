"""Spans to an OpenTelemetry collector, over OTLP/HTTP, and what else in this process traces.

Configured by the environment, as everywhere: OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER …
Needs the extra `edow[otel]`; without it, and without a collector, nothing here costs anything.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from edow.errors import InvalidInput
from edow.telemetry.spans import Span
from edow.telemetry.traceparent import Context, parse

API = "opentelemetry.trace"
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
SCOPE = "edow"

log = logging.getLogger("edow.telemetry")


class Exporter:
    """Give it spans of any time and id; they leave in batches, from a thread of OpenTelemetry's own."""

    def __init__(self, provider: Any, ids: Any) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer(SCOPE)
        self._ids = ids
        self._api = importlib.import_module(API)

    def emit(self, spans: Iterable[Span]) -> None:
        """Never blocks; when the collector is away for long, spans are dropped and OpenTelemetry says so."""
        for span in spans:
            self._emit(span)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()

    def _emit(self, span: Span) -> None:
        api = self._api
        self._ids.chosen.id = span.id
        made = self._tracer.start_span(
            span.name,
            context=api.set_span_in_context(api.NonRecordingSpan(self._context(span.parent))),
            kind=api.SpanKind[span.kind.upper()],
            attributes=dict(span.attributes),
            links=[api.Link(self._context(span.parent._replace(span=each))) for each in span.links],
            start_time=1000 * span.start,
        )
        for name, at, attributes in span.events:
            made.add_event(name, dict(attributes), timestamp=1000 * at)
        if span.error:
            made.set_status(api.StatusCode.ERROR, span.error)
        made.end(end_time=1000 * max(span.start, span.end))

    def _context(self, context: Context) -> Any:
        flags = self._api.TraceFlags(context.flags)
        return self._api.SpanContext(context.trace, context.span, is_remote=True, trace_flags=flags)


def is_wanted() -> bool:
    """Whether the environment names a collector."""
    return any(os.environ.get(name) for name in ENDPOINTS) and os.environ.get("OTEL_SDK_DISABLED", "") != "true"


def connect(service: str) -> Exporter:
    """To the collector that the environment names. What runs in this process and knows OpenTelemetry uses it, too.

    Raises InvalidInput without the extra.
    """
    try:
        api = importlib.import_module(API)
        sdk = importlib.import_module("opentelemetry.sdk.trace")
        export = importlib.import_module("opentelemetry.sdk.trace.export")
        otlp = importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
        resources = importlib.import_module("opentelemetry.sdk.resources")
    except ModuleNotFoundError as problem:
        raise InvalidInput(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed: pip install 'edow[otel]'"
        ) from problem
    ids = _chosen_ids()
    name = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": service}
    provider = sdk.TracerProvider(resource=resources.Resource.create(name), id_generator=ids, shutdown_on_exit=False)
    provider.add_span_processor(export.BatchSpanProcessor(otlp.OTLPSpanExporter()))
    api.set_tracer_provider(provider)
    return Exporter(provider, ids)


def _chosen_ids() -> Any:
    base = importlib.import_module("opentelemetry.sdk.trace.id_generator").RandomIdGenerator

    class ChosenIds(base):  # type: ignore[misc,valid-type]
        """A span's id is the one that its thread has chosen for it, if there is one."""

        def __init__(self) -> None:
            self.chosen = threading.local()

        def generate_span_id(self) -> int:
            chosen: int | None = getattr(self.chosen, "id", None)
            self.chosen.id = None
            return int(super().generate_span_id()) if chosen is None else chosen

    return ChosenIds()


def enter(traceparent: str) -> None:
    """What this thread or task traces from now on becomes part of that span, where anything in the process traces."""
    if API not in sys.modules:
        return
    contexts = importlib.import_module("opentelemetry.context")
    given = parse(traceparent)
    contexts.attach(contexts.Context() if given is None else _remote(given))


def _remote(context: Context) -> Any:
    api = sys.modules[API]
    flags = api.TraceFlags(context.flags)
    span = api.NonRecordingSpan(api.SpanContext(context.trace, context.span, is_remote=True, trace_flags=flags))
    return api.set_span_in_context(span)


@contextmanager
def starting(workflow: str, traceparent: str) -> Iterator[str]:
    """A span of whoever starts an execution; the traceparent to start it with. As given, where nothing here traces."""
    if API not in sys.modules:
        yield traceparent
        return
    api = sys.modules[API]
    given = parse(traceparent)
    context = None if given is None else _remote(given)
    tracer = api.get_tracer(SCOPE)
    attributes = {"edow.workflow": workflow}
    with tracer.start_as_current_span(f"start {workflow}", context, api.SpanKind.CLIENT, attributes) as span:
        made = span.get_span_context()
        yield f"00-{made.trace_id:032x}-{made.span_id:016x}-{made.trace_flags:02x}" if made.is_valid else traceparent
