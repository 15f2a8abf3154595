"""`python -m scripts.failures`: options in, one table out, exit code 1 when anything is lost, doubled or stuck."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.text import Text

from edow.cli import output
from edow.errors import EdowError, InvalidInput
from edow.testing.command import run_as_command
from edow.testing.stage import Screen, Stage
from scripts.failures import page
from scripts.failures.faults import FAULTS
from scripts.failures.model import Options, Result
from scripts.failures.place import DATABASE, TRANSPORTS
from scripts.failures.run import run
from scripts.servers import Trouble

EXECUTIONS = 10_000


def main(argv: Sequence[str]) -> int:
    try:
        return run_as_command(failures, "python -m scripts.failures", argv)
    except (EdowError, Trouble) as problem:
        sys.stderr.write(f"error: {problem}\n")
        return 2


def failures(  # noqa: PLR0913  # each is an option of the command line
    fault: Annotated[list[str] | None, typer.Option(help="Any of those above; else all that fit.")] = None,
    transport: Annotated[list[str] | None, typer.Option(help=f"Any of {', '.join(TRANSPORTS)}; else all.")] = None,
    executions: Annotated[
        int | None, typer.Option(min=1, help="Of three steps and two signals each; else 10,000, and 5,000 for chaos.")
    ] = None,
    fan_outs: Annotated[int, typer.Option(min=0, help="Executions of 100 steps at once.")] = 30,
    seconds: Annotated[float, typer.Option(min=1, help="Over which the signals are sent.")] = 60.0,
    patience: Annotated[float, typer.Option(min=1, help="Seconds for all to end, after that.")] = 180.0,
    seed: Annotated[int, typer.Option(help="Which processes are hit, and when.")] = 1,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the logs, and say where they are.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object for each run.")] = False,
    write: Annotated[Path | None, typer.Option(help="Write the figures into this page, docs/failures.md.")] = None,
) -> int:
    transports = _known(transport or TRANSPORTS, TRANSPORTS, "--transport")
    faults = _known(fault or FAULTS, FAULTS, "--fault")
    plans = [
        Options(
            transport=each,
            fault=name,
            executions=executions or FAULTS[name].executions or EXECUTIONS,
            fan_outs=fan_outs,
            seconds=seconds,
            patience_seconds=patience,
            seed=seed,
            keep=keep,
        )
        for each in transports
        for name in faults
        if fault or each != DATABASE or not FAULTS[name].broker
    ]
    results = []
    with Screen() as screen:
        for number, plan in enumerate(plans, start=1):
            screen.say(f"{plan.fault} on PostgreSQL and {plan.transport}, run {number} of {len(plans)}")
            results.append(_one(plan, screen, json))
            if write is not None:
                page.write(write, [results[-1]])
    if not json:
        _show(results)
    return 0 if all(result.good for result in results) else 1


failures.__doc__ = (
    "Break one thing while thousands of executions are under way, on servers and processes of its own; count every "
    "effect in the database.\n\nThree orchestrators, three workers, PostgreSQL and a broker. Exit code 1 when anything "
    "is lost, applied twice or stuck.\n\n" + "\n".join(f"* {name}: {each.help}" for name, each in FAULTS.items())
)


def _known(names: Iterable[str], known: Iterable[str], option: str) -> list[str]:
    chosen, choices = list(names), list(known)
    for name in chosen:
        if name not in choices:
            raise InvalidInput(f"{option} {name!r} is not known: use any of {', '.join(choices)}")
    return chosen


def _one(plan: Options, screen: Stage, as_json: bool) -> Result:
    result = asyncio.run(run(plan, screen))
    if as_json:
        sys.stdout.write(msgspec.json.encode(result).decode() + "\n")
        sys.stdout.flush()
    for finding in result.findings:
        screen.say(finding, "bad")
    return result


def _show(results: Sequence[Result]) -> None:
    table = output.table(*page.COLUMNS, right=page.FIGURES)
    for each in results:
        table.add_row(*(Text(cell, style="" if each.good else "bold red") for cell in page.cells(each)))
    output.show(table)
