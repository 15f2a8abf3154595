"""Whoever looks on while a system works: a console that is open, a Prometheus that scrapes, a collector of spans."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import itertools
import threading
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from edow.errors import EdowError, InvalidInput

OVERVIEW_SECONDS = 1.0  # as often as the page in a browser asks for itself
SCRAPE_SECONDS = 5.0
REQUESTS = "opentelemetry.proto.collector.trace.v1.trace_service_pb2"


def is_possible() -> bool:
    """Whether spans can be made and read here."""
    return importlib.util.find_spec("opentelemetry") is not None and importlib.util.find_spec(REQUESTS) is not None


class Unseen(EdowError):
    """Something was to be watched and was not."""


class Collector:
    """Takes spans by OTLP/HTTP, in a thread, and counts them. Raises InvalidInput without the extra `edow[otel]`."""

    def __init__(self) -> None:
        self.spans = 0
        try:
            self._request = importlib.import_module(REQUESTS).ExportTraceServiceRequest
        except ModuleNotFoundError as problem:
            raise InvalidInput(
                "watching needs OpenTelemetry, which is not installed: pip install 'edow[otel]'"
            ) from problem
        collector = self

        class Taking(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # the standard library's name
                collector.take(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Taking)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def take(self, body: bytes) -> None:
        request = self._request.FromString(body)
        self.spans += sum(len(scope.spans) for each in request.resource_spans for scope in each.scope_spans)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Page:
    """Asked for again and again, as a browser or a scraper does. Raises Unseen for an answer that is none."""

    def __init__(self, url: str, every_seconds: float) -> None:
        self.url = url
        self.seen = 0
        self._every = every_seconds
        self._tag: str | None = None

    async def keep_looking(self) -> None:
        """For ever."""
        for _ in itertools.count():
            await asyncio.to_thread(self._look)
            await asyncio.sleep(self._every)

    def _look(self) -> None:
        request = urllib.request.Request(self.url, headers={"If-None-Match": self._tag} if self._tag else {})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                self._tag = answer.headers.get("ETag")
                answer.read()
        except urllib.error.HTTPError as problem:
            if problem.code != 304:
                raise Unseen(f"{self.url} answered {problem.code}") from problem
        except OSError as problem:
            raise Unseen(f"{self.url} does not answer: {problem}") from problem
        self.seen += 1


@asynccontextmanager
async def looking_at(pages: Sequence[Page]) -> AsyncIterator[None]:
    """All of them, in the meantime. Raises Unseen when one could not be had, even if only once."""
    async with AsyncExitStack() as stack:
        looking = [asyncio.create_task(page.keep_looking()) for page in pages]
        for task in looking:
            stack.callback(task.cancel)
        yield
        for page, task in zip(pages, looking, strict=True):
            if task.done():
                task.result()
            if not page.seen:
                raise Unseen(f"{page.url} was not seen once")
