"""What hooks and triggers share on the command line: what an arriving event starts or signals."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from edow.cli.options import one_of
from edow.client.hooks import ActionView
from edow.trigger.action import MODES


class ActionOptions(msgspec.Struct, frozen=True):
    """The fields of an ActionSpec."""

    mode: Annotated[str, typer.Option("--mode", help="start, signal, or start-or-signal.")] = "start"
    workflow: Annotated[str, typer.Option("--workflow", "-w", help="Workflow to start.")] = ""
    signal: Annotated[str, typer.Option("--signal", help="Name of the signal.")] = ""
    id: Annotated[str, typer.Option("--id", metavar="EXPR", help="The execution's id, like body.order.id.")] = ""
    input: Annotated[str, typer.Option("--input", "-i", metavar="EXPR", help="Parameters, like {order: body}.")] = (
        "body"
    )
    value: Annotated[str, typer.Option("--value", metavar="EXPR", help="The signal's value.")] = "body"
    singleton: Annotated[bool, typer.Option("--singleton", help="Once it has ended, start it again.")] = False
    keep: Annotated[str, typer.Option("--keep", help="How long a signal waits for its execution.")] = "1d"

    def __post_init__(self) -> None:
        one_of("--mode", self.mode, MODES)


def does(view: ActionView) -> str:
    """In a few words."""
    parts = {"start": f"start {view.workflow}", "signal": f"signal {view.signal}"}
    return parts.get(view.mode) or f"{parts['signal']}, else {parts['start']}"


def expressions(view: ActionView) -> dict[str, str]:
    """Of what its action takes of an event."""
    return {
        "input": view.input if view.mode != "signal" else "",
        "value": view.value if view.mode != "start" else "",
    }


def counted(counts: dict[str, int]) -> str:
    """Those that are not zero."""
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none"
