"""`edow verify` as people type it: options in, one line of figures or one JSON object out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import msgspec
import typer
from rich.text import Text

from edow.cli import options as common
from edow.cli import output
from edow.cli.session import run_async
from edow.testing.command import run_as_command
from edow.testing.stage import Screen
from edow.verify.model import Options, Outcome

SHOWN = 20


def run_command(argv: Sequence[str]) -> int:
    """Exit code 1 when anything differs from the simulation, ended otherwise than planned, or did not end."""
    return run_as_command(verify, "edow verify", argv)


def verify(  # noqa: PLR0913  # each is an option of the command line
    seed: Annotated[int, typer.Option(help="Which executions and kills.")] = 1,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long to start executions and kill processes.")] = 30.0,
    in_flight: Annotated[int, typer.Option(min=1, max=1000, help="Executions at once.")] = 40,
    keep: Annotated[bool, typer.Option("--keep", help="Keep databases and logs, and say where they are.")] = False,
    store: common.OwnStore = None,
    transport: common.Transport = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")] = False,
) -> int:
    """Random workflows while orchestrators and workers are killed; every effect is compared with a simulation.

    Sequences, parallel calls, children, sleeps, signals, cancellations, timeouts and sagas, with tasks that fail and
    are retried. The sum of |expected - actual| over all counters must be 0.
    """
    from edow.verify.run import run

    options = Options(seed=seed, seconds=seconds, in_flight=in_flight, keep=keep, store=store, transport=transport)
    with Screen() as screen:
        outcome = run_async(run(options, screen))
    _show(outcome, json)
    return 0 if outcome.result.good else 1


def _show(outcome: Outcome, as_json: bool) -> None:
    result = outcome.result
    if as_json:
        sys.stdout.write(msgspec.json.encode(result).decode() + "\n")
        return
    output.show(output.fields([(name.replace("_", " "), f"{value:,}") for name, value in _figures(outcome)]))
    for finding in outcome.findings[:SHOWN]:
        output.show(Text(finding, style="red"))
    text = f"sum of |expected - actual| over {result.counters:,} counters: {result.difference}"
    output.show(Text(text, style="bold green" if result.good else "bold red"))
    if outcome.kept:
        output.show(Text(f"kept: {outcome.kept}"))


def _figures(outcome: Outcome) -> list[tuple[str, int]]:
    return [(name, value) for name, value in msgspec.structs.asdict(outcome.result).items() if name != "counters"]
