"""Commands that act on one execution: start, signal, cancel, terminate, pause, resume. They need the store, no code."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, get_args

import typer

from edow.cli import options
from edow.cli.commands import answer
from edow.cli.failure import note
from edow.cli.jsons import print_json, read_json, read_parameters
from edow.cli.options import one_of
from edow.cli.session import with_client
from edow.client import Client, Handle
from edow.store.contract import IfExists

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the workflow.", show_default=False)]


def start(  # noqa: PLR0913  # options
    name: Name,
    given: options.Input = None,
    id: Annotated[str | None, typer.Option("--id", help="Execution id; also the idempotency key.")] = None,
    if_exists: Annotated[
        str, typer.Option("--if-exists", help="When the id is taken: attach, reject or replace.")
    ] = "attach",
    notify: Annotated[
        str, typer.Option("--notify", metavar="ENDPOINT", help="Name of an endpoint that is told of its end.")
    ] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the result and print it as JSON.")] = False,
    timeout: Annotated[float | None, typer.Option("--timeout", help="Seconds to wait at most.", min=0)] = None,
    store: options.Store = None,
    as_json: options.Json = False,
) -> None:
    """Start an execution by name; an orchestrator that knows the workflow will run it.

    --input is a JSON object of parameters by name. Prints the execution id, or with --wait the result.
    """
    values = {} if given is None else read_parameters(given)
    how = one_of("--if-exists", if_exists, get_args(IfExists))

    async def work(client: Client) -> None:
        handle = await client.start_named(name, values, id=id, if_exists=how, notify=notify)
        if wait:
            note(f"waiting for {handle.id}")
            print_json(await handle.result(timeout))
        elif as_json:
            print_json({"id": handle.id, "run": handle.run})
        else:
            print(handle.id)

    with_client(store, work, create=True)


def signal(
    id: options.Id,
    name: Annotated[str, typer.Argument(metavar="SIGNAL", help="Name of the signal.", show_default=False)],
    value: Annotated[str, typer.Argument(metavar="[JSON]", help="JSON text, @FILE, or - for stdin.")] = "null",
    store: options.Store = None,
    as_json: options.Json = False,
) -> None:
    """Send a signal to an execution; it is kept until the workflow waits for it."""
    decoded = read_json(value, f"the value of signal {name!r}")
    _act(store, id, lambda handle: handle.signal(name, decoded), f"signal {name!r} accepted", as_json)


def cancel(
    id: options.Id,
    reason: options.Reason = "",
    store: options.Store = None,
    as_json: options.Json = False,
) -> None:
    """Ask an execution to stop; its cleanup and compensations run."""
    _act(store, id, lambda handle: handle.cancel(reason), "cancellation accepted", as_json)


def terminate(
    id: options.Id,
    reason: options.Reason = "",
    store: options.Store = None,
    as_json: options.Json = False,
) -> None:
    """End an execution as it stands: no cleanup, no compensation."""
    _act(store, id, lambda handle: handle.terminate(reason), "termination accepted", as_json)


def pause(
    id: options.Id,
    reason: options.Reason = "",
    store: options.Store = None,
    as_json: options.Json = False,
) -> None:
    """Let nothing of an execution happen until it is resumed; whatever reaches it meanwhile is kept."""
    _act(store, id, lambda handle: handle.pause(reason), "pause accepted", as_json)


def resume(
    id: options.Id,
    store: options.Store = None,
    as_json: options.Json = False,
) -> None:
    """Go on with a paused execution, or try a parked one again with today's code."""
    _act(store, id, lambda handle: handle.resume(), "resumption accepted", as_json)
    note(f"it is parked again if the code does not fit its history: ask `edow replay {id} --module MODULE`")


def _act(
    store: str | None,
    id: str,
    action: Callable[[Handle[object]], Awaitable[None]],
    done: str,
    as_json: bool,
) -> None:
    async def work(client: Client) -> None:
        await action(client.get(id))

    with_client(store, work)
    answer({"id": id, "accepted": True}, f"{done} for {id}", as_json)
