"""`edow run`: one execution with everything it needs in this process: orchestrator, worker and client.

The execution is as durable as any other: interrupted, it goes on with the same `--id`, here or in other processes.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from typing import Annotated, Any

import typer

from edow.cli import options
from edow.cli.binding import AnyWorkflow, bind, load_target
from edow.cli.failure import note
from edow.cli.jsons import print_json, read_json
from edow.cli.logs import configure
from edow.cli.progress import follow
from edow.cli.session import run_async
from edow.cli.tracing import traced
from edow.client import Client, Handle
from edow.client.outcome import failure_of, is_paused
from edow.errors import WrongState
from edow.model.execution import Execution, Status
from edow.store.contract import DeadLetterFilter
from edow.workflow.registry import Registry
from edow.workflow.signature import Arguments


def run(
    target: Annotated[
        str,
        typer.Argument(metavar="FILE_OR_MODULE:WORKFLOW", help="Like shop.py:fulfil.", show_default=False),
    ],
    given: options.Input = None,
    id: Annotated[
        str | None, typer.Option("--id", help="Execution id; the same id again attaches to it and goes on.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")] = False,
    store: options.Store = None,
    transport: options.Transport = None,
) -> None:
    """Run one workflow in this process: its result as JSON on stdout, exit code 0, or 1 if it failed.

    --input is a JSON object of parameters by name, an array of positional arguments, or the only parameter's value.
    """
    configure(quiet=True)
    registry, workflow = load_target(target)
    args = bind(workflow, {} if given is None else read_json(given, "--input"))
    chosen: AnyWorkflow = workflow.with_options(id=id) if id is not None else workflow
    print_json(run_async(_run(_Job(registry, chosen, args, quiet), store, transport)))


class _Job:
    """What to run and how to show it."""

    def __init__(self, registry: Registry, workflow: AnyWorkflow, args: Arguments, quiet: bool) -> None:
        self.registry = registry
        self.workflow = workflow
        self.args = args
        self.quiet = quiet


async def _run(job: _Job, store: str | None, transport: str | None) -> object:
    from edow.app import System

    async with AsyncExitStack() as stack:
        spans = stack.enter_context(traced("run"))
        system = await stack.enter_async_context(System(store, transport, job.registry))
        system.emit = None if spans is None else spans.emit
        client = await stack.enter_async_context(Client(store=system.store))
        args, kwargs = job.args
        handle = await client.start(job.workflow, *args, **kwargs)
        orchestrator = system.orchestrator()
        for part in (system.monitor(orchestrator), orchestrator, system.schedules(orchestrator), system.worker()):
            stack.push_async_callback(part.stop)
            await part.start()
        return await _follow(client, handle, job)


async def _follow(client: Client, handle: Handle[Any], job: _Job) -> object:
    result = asyncio.ensure_future(handle.result())
    watching = asyncio.create_task(_watch(client, handle, quiet=job.quiet))
    try:
        await asyncio.wait({result, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not result.done():
            watching.result()  # raises why there is nothing to wait for
        return await result
    except asyncio.CancelledError:
        note(f"execution {handle.id} is safe: go on with `edow run … --id {handle.id}`")
        raise
    finally:
        for task in (watching, result):
            task.cancel()
        await asyncio.gather(watching, result, return_exceptions=True)


async def _watch(client: Client, handle: Handle[Any], *, quiet: bool) -> None:
    """Show progress until the execution is parked, which nobody here can end: raises WrongState."""
    row = await follow(client, handle.id, show=not quiet and sys.stderr.isatty())
    if row.status is Status.PARKED:
        raise await _parked(client, row)


async def _parked(client: Client, row: Execution) -> WrongState:
    letters = await client.dead_letters(DeadLetterFilter(execution=row.id, limit=1))
    if letters:
        return WrongState(
            f"execution {row.id} is parked on dead letter {letters[0].id}; look with `edow dlq show {letters[0].id}`, "
            f"redrive (or discard) it, and go on with --id {row.id}"
        )
    failure = failure_of(row)
    why = f": {failure.message}" if failure and failure.message else ""
    if is_paused(row):
        return WrongState(f"execution {row.id} is paused{why}; `edow resume {row.id}`, and go on with --id {row.id}")
    return WrongState(
        f"execution {row.id} is parked{why}; mend it, `edow resume {row.id}`, and go on with --id {row.id}"
    )
