"""The console put together: its pages in an application of the API's, which is asked who may see them.

    app = edow.console.site.application("postgresql://...", "redis://...")

is the API with the console. A part of the program that brings pages of its own gives them a place with `Site.add`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from litestar import Litestar, Router
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from edow import api
from edow.api.routes import Shared
from edow.console.look import Look
from edow.console.masking import SECRET, Masking
from edow.console.problems import Problems
from edow.console.render import Renderer
from edow.console.routes import PAGES, ROUTES
from edow.errors import EdowError
from edow.store.contract import Store
from edow.transport.contract import Transport
from edow.workflow.registry import Registry


class Site:
    """`place`: which system this is, for people. `masked`: fields whose values are not shown."""

    def __init__(self, place: str = "", masked: Iterable[str] = SECRET) -> None:
        self.pages = list(PAGES)
        self.render = Renderer(pages=self.pages, place=place)
        self._masking = Masking(masked)
        self._look: Look | None = None

    def look(self, backend: Shared) -> Look:
        """What the pages read by; one for all of them."""
        if self._look is None or self._look.store is not backend.store:
            self._look = Look(backend.store, backend.client, backend.transport, backend.registry, self._masking)
        return self._look

    def mount(self, app: Litestar) -> None:
        """Into an application of `edow.api`."""
        app.register(self.router("/", ROUTES))

    def router(self, path: str, handlers: Sequence[Any]) -> Router:
        """Pages like the console's own: they get `look` and `render`, and their errors are pages."""
        problems = Problems(self.render)
        return Router(
            path,
            route_handlers=list(handlers),
            dependencies={
                "look": Provide(self.look, sync_to_thread=False),
                "render": Provide(lambda: self.render, sync_to_thread=False),
            },
            exception_handlers={EdowError: problems.of_edow, HTTPException: problems.of_http},
            middleware=[rooted],
            include_in_schema=False,
        )

    def add(self, app: Litestar, key: str, path: str, title: str, handlers: Sequence[Any], templates: Path) -> None:
        """A page of somebody else's, first in the navigation."""
        self.pages.insert(0, (key, path, title))
        self.render.also(templates)
        app.register(self.router(path, handlers))


def rooted(app: ASGIApp) -> ASGIApp:
    """Redirects stay under the prefix that the application is served under."""

    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        root = str(scope.get("root_path") or "").rstrip("/").encode()

        async def send_rooted(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message.get("headers", ())
                message["headers"] = [
                    (name, root + value if name == b"location" and value.startswith(b"/") else value)
                    for name, value in headers
                ]
            await send(message)

        await app(scope, receive, send_rooted if root else send)

    return middleware


def application(  # what `edow.api.application` takes, and what is the console's
    store: str | Store | None = None,
    transport: str | Transport | None = None,
    *,
    registry: Registry | None = None,
    settings: api.Settings | None = None,
    site: Site | None = None,
) -> Litestar:
    """The API and the console as one ASGI application; see `edow.api.application`."""
    app = api.application(store, transport, registry=registry, settings=settings)
    (site or Site()).mount(app)
    return app
