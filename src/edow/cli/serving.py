"""Commands that serve until they are told to stop: `edow orchestrator`, `edow worker`, `edow dev`.

SIGTERM and Ctrl-C stop gracefully (a worker finishes or hands back what it holds); a second one stops at once.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar, runtime_checkable

import typer

from edow.cli import options
from edow.cli.binding import load_code
from edow.cli.failure import note
from edow.cli.logs import configure
from edow.cli.reload import CHILD, keep_running
from edow.cli.session import run_async
from edow.cli.tracing import traced
from edow.errors import Unavailable

if TYPE_CHECKING:
    from edow.app import System, Workplace
    from edow.worker.worker import Worker
    from edow.workflow.registry import Registry

T = TypeVar("T")
Place = TypeVar("Place", bound="System | Workplace")
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
RELOAD_SECONDS = 1.0  # that `edow dev` waits for running tasks, which then run again with the changed code


class Part(Protocol):
    """What can be started and stopped."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...


@runtime_checkable
class Watched(Protocol):
    """A part that can tell that it has ended by itself."""

    async def wait(self) -> None: ...


def orchestrator(
    modules: options.Modules,
    store: options.Store = None,
    transport: options.Transport = None,
    outbox: Annotated[
        list[str] | None,
        typer.Option(
            "--outbox",
            metavar="URL",
            envvar="EDOW_OUTBOX",
            help="PostgreSQL database whose edow_outbox to empty; repeatable.",
        ),
    ] = None,
    metrics_port: options.MetricsPort = None,
    metrics_host: options.MetricsHost = "127.0.0.1",
) -> None:
    """Advance the executions of these modules' workflows until stopped. Any number may share one store.

    With --outbox it also hands on what edow.start_in has put into databases of your own.
    """
    from edow.app import System
    from edow.client.forwarder import Forwarder

    def parts(system: System) -> list[Part]:
        return [
            *orchestrating(system, (metrics_host, metrics_port)),
            *(Forwarder(url, system.store) for url in outbox or ()),
        ]

    _serve(modules, lambda registry: System(store, transport, registry), parts, "orchestrator")


def worker(  # noqa: PLR0913  # options
    modules: options.Modules,
    concurrency: Annotated[int | None, typer.Option("--concurrency", help="Async tasks at once.", min=1)] = None,
    threads: Annotated[int | None, typer.Option("--threads", help="Sync tasks at once.", min=1)] = None,
    processes: Annotated[int | None, typer.Option("--processes", help="CPU-bound tasks at once.", min=1)] = None,
    metrics_port: options.MetricsPort = None,
    metrics_host: options.MetricsHost = "127.0.0.1",
    store: options.Store = None,
    transport: options.Transport = None,
) -> None:
    """Run these modules' tasks until stopped. Any number may share one transport."""
    given = {"concurrency": concurrency, "threads": threads, "processes": processes}
    config = {name: value for name, value in given.items() if value is not None}
    from edow.app import Workplace, store_url, transport_url

    url = transport or os.environ.get("EDOW_TRANSPORT") or store_url(store)
    _serve(
        modules,
        lambda registry: Workplace(transport_url(url, url), registry),
        lambda workplace: _working(workplace.worker(**config), (metrics_host, metrics_port)),
        "worker",
    )


def serve(
    modules: options.Modules,
    console: Annotated[bool, typer.Option("--console/--no-console")] = True,
    port: Annotated[int | None, typer.Option("--port")] = None,
    store: options.Store = None,
    transport: options.Transport = None,
) -> None:
    """Orchestrator, worker and console in one process; what `edow dev` starts again and again."""
    from edow.app import System
    from edow.cli.console import ConsolePart

    def parts(system: System) -> list[Part]:
        reloaded = {"grace_seconds": RELOAD_SECONDS, "cancel_grace_seconds": RELOAD_SECONDS}
        worker = system.worker(**(reloaded if CHILD in os.environ else {}))
        working: list[Part] = [*orchestrating(system), worker]
        return [*working, ConsolePart(system, port)] if console else working

    _serve(modules, lambda registry: System(store, transport, registry), parts, "orchestrator and worker")


def dev(
    modules: options.Modules,
    console: Annotated[bool, typer.Option("--console/--no-console", help="Serve the console too.")] = True,
    port: Annotated[
        int | None,
        typer.Option("--port", "-p", min=0, max=65535, help="Of the console.", show_default="8080, or any free one"),
    ] = None,
    store: options.Store = None,
    transport: options.Transport = None,
) -> None:
    """Orchestrator, worker and console for development: started again whenever a .py file changes."""
    from edow.app import store_url, transport_url

    # By the environment: URLs hold secrets, and everybody may read the arguments of a process.
    os.environ["EDOW_STORE"] = url = store_url(store)
    os.environ["EDOW_TRANSPORT"] = transport_url(transport, url)
    given = ["--port", str(port)] if port is not None else []
    keep_running(["serve", *modules, *given, *([] if console else ["--no-console"])], modules)


Address = tuple[str, int | None]
"""Where metrics are served; without a port they are not."""


def orchestrating(system: System, metrics: Address = ("", None)) -> list[Part]:
    """An orchestrator with whatever belongs beside it, in the order in which they start."""
    orchestrator = system.orchestrator()
    sender = system.sender(orchestrator)
    events = system.events(orchestrator)
    monitor = system.monitor(orchestrator, sender, events)
    parts: list[Part] = [sender, monitor, orchestrator]
    parts += [system.redriver(), system.jobs(), system.schedules(orchestrator), events]
    host, port = metrics
    if port is not None:
        from edow.metrics.families import of_orchestrator
        from edow.metrics.server import MetricsServer

        told = lambda: of_orchestrator(monitor.total, orchestrator.stats, len(orchestrator.shards))  # noqa: E731
        parts.append(MetricsServer(host, port, told, note))
    return parts


def _working(worker: Worker, metrics: Address) -> list[Part]:
    host, port = metrics
    if port is None:
        return [worker]
    from edow.metrics.families import of_worker
    from edow.metrics.server import MetricsServer

    return [worker, MetricsServer(host, port, lambda: of_worker(worker.stats()), note)]


def _serve(
    modules: Sequence[str], place: Callable[[Registry], Place], parts: Callable[[Place], Sequence[Part]], what: str
) -> None:
    configure()
    registry = load_code(modules)
    system = place(registry)
    has = f"{len(registry.workflows)} workflows, {len(registry.tasks)} tasks"
    note(f"edow {what}: {has}, {system}")
    run_async(serve_until_stopped(system, parts, what))


async def serve_until_stopped(system: Place, parts: Callable[[Place], Sequence[Part]], what: str) -> None:
    """Open the place, start its parts in order, and stop them the other way round when a signal comes."""
    stop = _stop_on_signals()
    if CHILD in os.environ:  # of `edow dev`: its parent's end of the pipe closes when the parent dies
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), stop.set)
    async with AsyncExitStack() as stack:
        spans = stack.enter_context(traced(what))
        system.emit = None if spans is None else spans.emit
        made = await _unless(stop, _started(stack, system, parts))
        if made is None:
            note(f"edow {what}: stopped before it was ready")
            return
        note(f"edow {what}: ready (Ctrl-C stops gracefully)")
        await _first(stop, made)
        note(f"edow {what}: stopping; once more stops at once")


async def _started(stack: AsyncExitStack, system: Place, parts: Callable[[Place], Sequence[Part]]) -> Sequence[Part]:
    try:
        await stack.enter_async_context(system)
        made = parts(system)
        for part in made:
            stack.push_async_callback(part.stop)
            await part.start()
    except Unavailable as problem:
        problem.add_note("nothing is lost: start this again once that can be reached from here")
        raise
    return made


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """What the work gives; None when told to stop before that: a broker that does not answer is waited for no more."""
    working, told = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([working, told], return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in (working, told):
            task.cancel()
        await asyncio.gather(working, told, return_exceptions=True)


async def _first(stop: asyncio.Event, parts: Sequence[Part]) -> None:
    """Until told to stop, or until a part has ended by itself; raises its error."""
    waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(stop.wait())]
    waits += [asyncio.ensure_future(part.wait()) for part in parts if isinstance(part, Watched)]
    try:
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in waits:
            task.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()

    def asked(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)  # at once: leases expire, and others take over
        stop.set()

    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, asked, number)
    return stop
