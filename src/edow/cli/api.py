"""`edow api`: serve the HTTP API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from edow.cli import options
from edow.cli.binding import load_code
from edow.cli.failure import note
from edow.cli.logs import configure
from edow.cli.serving import Part, serve_until_stopped
from edow.cli.session import run_async
from edow.console.masking import SECRET

if TYPE_CHECKING:
    from edow.app import System


def api(  # noqa: PLR0913  # options
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="Port; 0 for any.")] = 8080,
    module: Annotated[
        list[str] | None, typer.Option("--module", "-m", help="Code to check new arguments against; repeatable.")
    ] = None,
    rate: Annotated[float, typer.Option("--rate", help="Requests per second of one token or address.")] = 100.0,
    max_body: Annotated[int, typer.Option("--max-body", min=1, help="Most bytes of one request.")] = 4 * 1024 * 1024,
    mask: Annotated[
        str, typer.Option("--mask", metavar="NAMES", envvar="EDOW_MASK", help="Fields never shown, by part of name.")
    ] = ",".join(SECRET),
    prefix: Annotated[
        str, typer.Option("--prefix", metavar="PATH", help="Of a proxy in front that passes on what is below it.")
    ] = "",
    store: options.Store = None,
    transport: options.Transport = None,
) -> None:
    """Serve the console and the HTTP API until stopped: / in a browser, /api/v1, /health, /openapi.json.

    While there are no tokens (`edow token create`), only clients on this machine are served.
    """
    from edow.api import Settings
    from edow.api.server import Server
    from edow.app import System
    from edow.console.site import Site, application
    from edow.workflow.registry import Registry

    configure()
    registry = load_code(module) if module else Registry()
    settings = Settings(max_body_bytes=max_body, rate=rate, burst=max(1, int(2 * rate))).checked()

    def parts(system: System) -> list[Part]:
        site = Site(str(system), mask.split(","))
        app = application(system.store, system.transport, registry=registry, settings=settings, site=site)
        return [Server(app, host, port, prefix)]

    system = System(store, transport, registry)
    note(f"edow api: {system}")
    run_async(serve_until_stopped(system, parts, "api"))
