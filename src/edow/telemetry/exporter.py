"""Spans to an OpenTelemetry collector, over OTLP/HTTP, and what else in this process traces.

Configured by the environment, as everywhere: OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER …
Needs the extra `edow[otel]`; without it, and without a collector, nothing here costs anything.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from edow.errors import InvalidInput
from edow.telemetry.spans import Span
from edow.telemetry.traceparent import Context, parse, text_of

API = "opentelemetry.trace"
SDK = "opentelemetry.sdk.trace"
CONTEXTS = "opentelemetry.context"  # imported by the former
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
SCOPE = "edow"

log = logging.getLogger("edow.telemetry")


class Exporter:
    """Give it spans of any time and id; they leave in batches, from a thread of OpenTelemetry's own.

    What is given is complete, so it is made what OpenTelemetry reads, without its bookkeeping of spans under way, which
    costs six times as much. Whether a span is wanted was decided where its trace began.
    """

    def __init__(self, provider: Any, processor: Any) -> None:
        self._provider = provider
        self._processor = processor
        self._api = importlib.import_module(API)
        self._sdk = importlib.import_module(SDK)
        self._scope = importlib.import_module("opentelemetry.sdk.util.instrumentation").InstrumentationScope(SCOPE)

    def emit(self, spans: Iterable[Span]) -> None:
        """Never blocks; when the collector is away for long, spans are dropped and OpenTelemetry says so."""
        for span in spans:
            self._processor.on_end(self._readable(span))

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()

    def _readable(self, span: Span) -> Any:
        api, sdk = self._api, self._sdk
        flags = api.TraceFlags(span.parent.flags)
        status = api.Status(api.StatusCode.ERROR, span.error) if span.error else api.Status()
        return sdk.ReadableSpan(
            name=span.name,
            context=api.SpanContext(span.parent.trace, span.id, is_remote=False, trace_flags=flags),
            parent=_span_context(span.parent),
            resource=self._provider.resource,
            attributes=span.attributes,
            events=[sdk.Event(name, attributes, 1000 * at) for name, at, attributes in span.events],
            links=[api.Link(_span_context(span.parent._replace(span=each))) for each in span.links],
            kind=api.SpanKind[span.kind.upper()],
            status=status,
            start_time=1000 * span.start,
            end_time=1000 * max(span.start, span.end),
            instrumentation_scope=self._scope,
        )


def is_wanted() -> bool:
    """Whether the environment names a collector."""
    return any(os.environ.get(name) for name in ENDPOINTS) and os.environ.get("OTEL_SDK_DISABLED", "") != "true"


def connect(service: str) -> Exporter:
    """To the collector that the environment names. What runs in this process and knows OpenTelemetry uses it, too.

    Raises InvalidInput without the extra.
    """
    try:
        api = importlib.import_module(API)
        sdk = importlib.import_module(SDK)
        export = importlib.import_module("opentelemetry.sdk.trace.export")
        otlp = importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
        resources = importlib.import_module("opentelemetry.sdk.resources")
    except ModuleNotFoundError as problem:
        raise InvalidInput(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed: pip install 'edow[otel]'"
        ) from problem
    name = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": service}
    provider = sdk.TracerProvider(resource=resources.Resource.create(name), shutdown_on_exit=False)
    processor = export.BatchSpanProcessor(otlp.OTLPSpanExporter())
    provider.add_span_processor(processor)
    api.set_tracer_provider(provider)
    return Exporter(provider, processor)


def enter(traceparent: str) -> None:
    """What this thread or task traces from now on becomes part of that span, where anything in the process traces.

    Quick: it is called for every attempt.
    """
    if API not in sys.modules:
        return
    api, contexts = sys.modules[API], sys.modules[CONTEXTS]
    contexts.attach(api.set_span_in_context(_remote_span(api)(traceparent), contexts.Context()))


@lru_cache(maxsize=1)
def _remote_span(api: Any) -> Any:
    """The class of a span that is read when somebody asks for it: few tasks trace, and all of them are entered."""

    class RemoteSpan(api.NonRecordingSpan):  # type: ignore[misc]
        def __init__(self, traceparent: str) -> None:
            self._traceparent = traceparent

        def get_span_context(self) -> Any:
            given = parse(self._traceparent)
            return api.INVALID_SPAN_CONTEXT if given is None else _span_context(given)

    return RemoteSpan


def _span_context(context: Context) -> Any:
    """Of a span in another process."""
    api = sys.modules[API]
    return api.SpanContext(context.trace, context.span, is_remote=True, trace_flags=api.TraceFlags(context.flags))


@contextmanager
def starting(workflow: str, traceparent: str) -> Iterator[str]:
    """A span of whoever starts an execution; the traceparent to start it with. As given, where nothing here traces."""
    if API not in sys.modules:
        yield traceparent
        return
    api, contexts = sys.modules[API], sys.modules[CONTEXTS]
    around = api.set_span_in_context(_remote_span(api)(traceparent), contexts.Context()) if traceparent else None
    tracer, attributes = _tracer(api.get_tracer_provider()), {"edow.workflow": workflow}
    span = tracer.start_span(f"start {workflow}", around, api.SpanKind.CLIENT, attributes)
    token = contexts.attach(api.set_span_in_context(span))
    try:
        yield _text_of(span.get_span_context()) or traceparent
    except BaseException as problem:
        span.record_exception(problem)
        span.set_status(api.Status(api.StatusCode.ERROR, f"{type(problem).__name__}: {problem}"))
        raise
    finally:
        contexts.detach(token)
        span.end()


@lru_cache(maxsize=1)
def _tracer(provider: Any) -> Any:
    """To make one anew for each span would cost more than the span."""
    return provider.get_tracer(SCOPE)


def _text_of(context: Any) -> str:
    """Empty for a span that is none, as there are where OpenTelemetry is installed but not set up."""
    return text_of(Context(context.trace_id, context.span_id, context.trace_flags)) if context.is_valid else ""
