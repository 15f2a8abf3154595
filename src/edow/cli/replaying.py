"""`edow replay`: does today's code still fit what is recorded of an execution? Nothing is changed, nothing is sent."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import typer
from rich.text import Text

from edow.cli import options
from edow.cli.binding import load_code
from edow.cli.failure import stderr
from edow.cli.jsons import print_json
from edow.cli.session import with_client
from edow.client import Client
from edow.model.execution import Execution
from edow.model.failure import Failure
from edow.model.history import AnyEvent
from edow.workflow.registry import Registry

EXIT_DISAGREES = 1


def replay(
    id: options.Id,
    module: Annotated[
        list[str], typer.Option("--module", "-m", help="Code to replay with; repeatable.", show_default=False)
    ],
    run: Annotated[int | None, typer.Option("--run", help="An earlier run; default: the current one.", min=1)] = None,
    store: options.Store = None,
    as_json: options.Json = False,
) -> None:
    """Replay a recorded execution with today's code; exit code 1 if they disagree."""
    registry = load_code(module)
    row, events = with_client(store, lambda client: _read(client, id, run))
    failure = _replay(registry, row, events)
    if as_json:
        print_json({"id": id, "run": row.run, "events": len(events), "fits": failure is None, "failure": failure})
    elif failure is None:
        print(f"{id}: today's code fits all {len(events)} events of run {row.run}")
    else:
        _tell(id, failure)
    if failure is not None:
        raise typer.Exit(EXIT_DISAGREES)


async def _read(client: Client, id: str, run: int | None) -> tuple[Execution, list[AnyEvent]]:
    row = await client.get(id).describe()
    events = await client.history(id, run)
    row.run = run or row.run
    return row, events


def _replay(registry: Registry, row: Execution, events: list[AnyEvent]) -> Failure | None:
    """On a thread of its own, guarded as the orchestrator's: code that touches the outside world raises."""
    from edow.engine import guard
    from edow.engine.machine import Machine

    def work() -> Failure | None:
        machine = Machine.replay(registry.workflow(row.workflow), row, [events])
        found = machine.disagreement
        machine.close()
        return found

    with ThreadPoolExecutor(1, "edow-replay", initializer=guard.install) as pool:
        return pool.submit(work).result()


def _tell(id: str, failure: Failure) -> None:
    console = stderr()
    console.print(Text.assemble(("error: ", "bold red"), (f"{id}: today's code does not fit", "red")))
    console.print(Text(failure.message, style="dim"))
