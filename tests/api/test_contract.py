"""The API does what its own OpenAPI document says: nothing else, and nothing worse, whatever it is sent."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from edow.api import Settings, application
from edow.api.document import document as document_of
from edow.api.server import Server
from tests.api.serving import serving
from tests.conformance.postgresql import drop_schema
from tests.conformance.transports import url_of

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
UNLIMITED = Settings(rate=1e6, burst=10**9, longest_wait_seconds=0.01)
EXAMPLES = 5  # of each operation, besides the document's own: the same ones in every run
HEALTH = "^/health"  # 503 is what it is there to say
BY_DATABASE = "^/api/v1/(executions|dead-letter|jobs|tokens|audit)"
SECONDS = 30.0

document = document_of(application("sqlite:///unused.db"))
schema = schemathesis.openapi.from_dict(document)


class Served:
    """An API on a port of its own, in a thread of its own."""

    def __init__(self, store: str | Path) -> None:
        self._store = store
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="served")
        self.url = ""
        self.token = ""

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(SECONDS)

    def stop(self) -> None:
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(SECONDS)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with serving(self._store, settings=UNLIMITED) as api:
            server = Server(api.app, "127.0.0.1", 0)
            await server.start()
            self.url, self.token = server.url, await api.token("admin", "fuzz")
            self._ready.set()
            await self._stop.wait()
            await server.stop()


@pytest.fixture(scope="module")
def on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    made = Served(tmp_path_factory.mktemp("served"))
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def on_postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    url = url_of("POSTGRES", tmp_path_factory.mktemp("served"))
    made = Served(url)
    made.start()
    yield made
    made.stop()
    asyncio.run(drop_schema(url))


same_examples = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@schema.exclude(path_regex=HEALTH).parametrize()
@same_examples
def test_every_answer_is_documented(case: schemathesis.Case, on_sqlite: Served):
    """No 5xx, and no status, type, header or body that the document does not have."""
    check(case, on_sqlite)


@schema.include(path_regex=BY_DATABASE).parametrize()
@same_examples
def test_every_answer_is_documented_on_postgresql(case: schemathesis.Case, on_postgresql: Served):
    """The same where what was sent becomes part of queries: not every text is one for every database."""
    check(case, on_postgresql)


def check(case: schemathesis.Case, served: Served) -> None:
    headers = {"Authorization": f"Bearer {served.token}"}
    case.call_and_validate(base_url=served.url, headers=headers, checks=CHECKS, timeout=SECONDS)
