"""Opens and closes everything around the live demo, in one place: folder, store, transport, processes, page."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import webbrowser
from collections import deque
from collections.abc import Iterator
from contextlib import AsyncExitStack, closing, contextmanager
from pathlib import Path

import msgspec

from edow.api import Settings
from edow.api.server import Server
from edow.app import System, load_registry
from edow.client import Client
from edow.console.site import Site, application
from edow.demo import effects, samples, shop
from edow.demo.live.crew import Crew
from edow.demo.live.page import PLACE, TITLE, handlers
from edow.demo.live.part import FOLDER, MODULES, PARENT
from edow.demo.live.show import Happening, Props, Show, now_us
from edow.demo.live.truth import Truth
from edow.demo.payments import URL, PaymentService
from edow.errors import InvalidInput
from edow.testing.folders import working_folder
from edow.testing.processes import Fleet
from edow.testing.scratch import scratch
from edow.testing.stage import Stage

HOST = "127.0.0.1"
SIGNALS = (signal.SIGINT, signal.SIGTERM)
APART = "sqlite:///transport.db"  # a file of its own: messages that one transaction moves cannot be doubled
ENOUGH = 1_000_000_000  # in stock
LINES = 200  # of what happened
TEMPLATES = Path(__file__).parent / "templates"


class LiveOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`rate`: orders a second. `port` 0: any that is free."""

    source: Path
    store: str | None = None
    transport: str | None = None
    keep: bool = False
    port: int = 0
    rate: int = 5
    open_page: bool = True


class LiveOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What can be said when somebody has stopped it."""

    orders: int
    effects: int
    lost: int
    twice: int
    kept: Path | None


async def run_live(options: LiveOptions, stage: Stage) -> LiveOutcome:
    """Until Ctrl-C (or SIGTERM). Raises InvalidInput."""
    if options.transport is not None and options.transport == options.store:
        raise InvalidInput(
            "the live demo doubles messages on their way, so its transport cannot be its store; leave one of them out"
        )
    async with working_folder("edow-demo-", options.keep) as folder, AsyncExitStack() as stack:
        samples.write(folder / "samples")
        effects.create(folder / "effects.db", dict.fromkeys(shop.opening_stock(), ENOUGH) | {shop.SOLD_OUT: 0})
        applied = stack.enter_context(closing(effects.Effects(folder / "effects.db")))
        part = scratch((options.store, options.transport or APART), folder, MODULES, keep=options.keep)
        store, transport = await stack.enter_async_context(part)
        registry = load_registry(MODULES)
        system = await stack.enter_async_context(System(store, transport, registry))
        client = await stack.enter_async_context(Client(store=system.store))
        payments = PaymentService()
        await payments.start()
        stack.push_async_callback(payments.stop)
        happenings: deque[Happening] = deque(maxlen=LINES)

        def said(text: str, mood: str = "plain") -> None:
            happenings.appendleft(Happening(now_us(), text, mood))

        environment = {
            effects.DATABASE: str(folder / "effects.db"),
            URL: payments.url,
            FOLDER: str(folder),
            PARENT: str(os.getpid()),
        }
        fleet = Fleet(MODULES, store, folder, transport, environment)
        crew = Crew(fleet, folder, said)
        stack.push_async_callback(crew.stop)
        await crew.start()
        truth = Truth(applied)
        show = Show(
            Props(client, system.transport, crew, payments, truth, folder, options.source), happenings, options.rate
        )
        stop = stack.enter_context(_asked_to_stop())
        await stack.enter_async_context(_Served(show, system, options.port, stage, options.open_page))
        await _until(stop, show)
        truth.look()
        return LiveOutcome(
            orders=show.watcher.ended,
            effects=truth.applied,
            lost=truth.lost,
            twice=truth.twice,
            kept=folder if options.keep else None,
        )


class _Served:
    """The page, while the show goes on."""

    def __init__(self, show: Show, system: System, port: int, stage: Stage, open_page: bool) -> None:
        site = Site(str(system))
        settings = Settings(rate=1000.0, burst=2000)
        app = application(system.store, system.transport, registry=system.registry, settings=settings, site=site)
        site.add(app, "demo", PLACE, TITLE, handlers(show), TEMPLATES)
        self._server = Server(app, HOST, port)
        self._stage = stage
        self._open_page = open_page
        self._opening: asyncio.Task[bool] | None = None

    async def __aenter__(self) -> None:
        await self._server.start()
        url = self._server.url + PLACE
        self._stage.say(f"the page is at {url}", "good")
        self._stage.say("Ctrl-C ends it")
        if self._open_page and _has_a_screen():
            self._opening = asyncio.create_task(asyncio.to_thread(webbrowser.open, url))

    async def __aexit__(self, *_: object) -> None:
        if self._opening is not None:
            await asyncio.gather(self._opening, return_exceptions=True)
        await self._server.stop()


def _has_a_screen() -> bool:
    """Elsewhere a browser of text would take the terminal over."""
    graphical = sys.platform in ("darwin", "win32")
    return graphical or any(name in os.environ for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"))


@contextmanager
def _asked_to_stop() -> Iterator[asyncio.Event]:
    """Set by Ctrl-C and SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)


async def _until(stop: asyncio.Event, show: Show) -> None:
    """Raises what the show raises."""
    running = asyncio.create_task(show.run())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
    finally:
        running.cancel()
        stopping.cancel()
        await asyncio.gather(running, stopping, return_exceptions=True)
