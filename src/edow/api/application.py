"""The application factory: routes, the gate in front of them, and what they share.

To add routes, write a module with `ROUTES`, and give it a line in RESOURCES.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from litestar import Litestar, Request, Response, Router, get
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.handlers import BaseRouteHandler

from edow.api import (
    audit,
    dead_letters,
    desk,
    endpoints,
    executions,
    health,
    hooks,
    jobs,
    kpis,
    metrics,
    schedules,
    stats,
    tokens,
    triggers,
)
from edow.api.backend import Backend
from edow.api.document import config, document
from edow.api.gate import Gate
from edow.api.health import HealthCheck
from edow.api.problems import of_bug, of_depth, of_edow, of_http
from edow.api.queries import refuse_unknown_queries
from edow.api.routes import Shared, allows
from edow.api.schemas import RawSchema
from edow.api.settings import Settings
from edow.app import now
from edow.client import Client
from edow.client.job_runner import JobRunner
from edow.errors import Bug, EdowError
from edow.store.contract import Store
from edow.transport.contract import Transport
from edow.workflow.registry import Registry

VERSIONED = "/api/v1"
RESOURCES: tuple[Sequence[BaseRouteHandler], ...] = (
    executions.ROUTES,
    dead_letters.ROUTES,
    desk.ROUTES,
    hooks.ROUTES,
    schedules.ROUTES,
    jobs.ROUTES,
    stats.ROUTES,
    kpis.ROUTES,
    audit.ROUTES,
    tokens.ROUTES,
    triggers.ROUTES,
    endpoints.ROUTES,
)
"""Routes under VERSIONED."""

PLACES: tuple[Sequence[BaseRouteHandler], ...] = (health.ROUTES, hooks.PLACES, metrics.PLACES)
"""Routes under / itself."""


def application(
    store: str | Store | None = None,
    transport: str | Transport | None = None,
    *,
    registry: Registry | None = None,
    settings: Settings | None = None,
) -> Litestar:
    """The API as an ASGI application, to be served by any ASGI server or mounted in another application.

    `store` and `transport` are URLs (default: EDOW_STORE, EDOW_TRANSPORT), or open ones of the caller's own, which stay
    open. `registry`: code against which arguments are checked where an operator gives new ones.
    """
    backend = Backend(store, transport, registry or Registry(), (settings or Settings()).checked())
    check = HealthCheck(backend)
    handlers = [openapi_document, *(each for routes in PLACES for each in routes)]
    routes = [each for routes in RESOURCES for each in routes]
    resources = Router(VERSIONED, route_handlers=routes, guards=[refuse_unknown_queries])
    app = Litestar(
        [*handlers, resources],
        guards=[Gate(backend)],
        dependencies={
            "backend": Provide(lambda: backend, sync_to_thread=False),
            "check": Provide(lambda: check, sync_to_thread=False),
            "client": Provide(client_of_request, sync_to_thread=False),
        },
        exception_handlers={EdowError: of_edow, HTTPException: of_http, RecursionError: of_depth, Exception: of_bug},
        lifespan=[_lifespan(backend)],
        logging_config=None,
        openapi_config=config(),
        plugins=[RawSchema()],
        request_max_body_size=backend.settings.max_body_bytes,
    )
    _refuse_unguarded(app)
    return app


def client_of_request(request: Request[Any, Any, Any], backend: Shared) -> Client:
    """A client that acts as whoever sent the request."""
    return backend.acting_as(request.user)


@get("/openapi.json", include_in_schema=False, sync_to_thread=False, **allows("public"))
def openapi_document(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
    """What this API can do, for programs that make clients, tests and documentation from it."""
    return Response(document(request.app))


def _lifespan(backend: Backend) -> Any:
    @asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncIterator[None]:
        await backend.open()
        runner = JobRunner(backend.store, now)
        await runner.start()
        try:
            yield
        finally:
            await runner.stop()
            await backend.close()

    return lifespan


def _refuse_unguarded(app: Litestar) -> None:
    """A route that does not say who may use it would be served to nobody, and noticed by whoever needs it."""
    for route in app.routes:
        for handler in getattr(route, "route_handlers", ()):
            if "access" not in handler.opt and handler.http_methods != {"OPTIONS"}:
                raise Bug(f"route {route.path} does not say who may use it: give it **allows(...)")
