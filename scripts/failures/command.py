"""`python -m scripts.failures`: options in, one table out, exit code 1 when anything is lost, doubled or stuck."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated

import msgspec
import typer
from rich.text import Text

from edow.cli import output
from edow.errors import EdowError, InvalidInput
from edow.testing.command import run_as_command
from edow.testing.stage import Screen, Stage
from scripts.failures.faults import FAULTS
from scripts.failures.model import Options, Result
from scripts.failures.place import BROKERS, FILES
from scripts.failures.run import run
from scripts.servers import Trouble

STORES = (FILES, "postgres")
TRANSPORTS = (*STORES, *BROKERS)
PLACE = ("store", "transport", "fault")
FIGURES = ("executions", "under way", "ended", "lost", "twice", "pause", "wait")


def main(argv: Sequence[str]) -> int:
    try:
        return run_as_command(failures, "python -m scripts.failures", argv)
    except (EdowError, Trouble) as problem:
        sys.stderr.write(f"error: {problem}\n")
        return 2


def failures(  # noqa: PLR0913  # each is an option of the command line
    fault: Annotated[list[str] | None, typer.Option(help=f"Any of {', '.join(FAULTS)}; all that fit.")] = None,
    transport: Annotated[list[str] | None, typer.Option(help=f"Any of {', '.join(TRANSPORTS)}; the brokers.")] = None,
    store: Annotated[str, typer.Option(help=f"One of {', '.join(STORES)}.")] = "postgres",
    executions: Annotated[int, typer.Option(min=1, help="Of three steps and two signals each.")] = 10_000,
    fan_outs: Annotated[int, typer.Option(min=0, help="Executions of 100 steps at once.")] = 30,
    seconds: Annotated[float, typer.Option(min=1, help="Over which the signals are sent.")] = 60.0,
    patience: Annotated[float, typer.Option(min=1, help="Seconds for all to end, after that.")] = 180.0,
    seed: Annotated[int, typer.Option(help="Which processes are hit, and when.")] = 1,
    keep: Annotated[bool, typer.Option("--keep", help="Keep logs and ledger, and say where they are.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object for each run.")] = False,
) -> int:
    """Break one thing while executions are under way, on servers of its own; count every effect."""
    _known([store], STORES, "--store")
    transports = _known(transport or BROKERS, TRANSPORTS, "--transport")
    _known(fault or FAULTS, FAULTS, "--fault")
    plans = [
        Options(
            store=store,
            transport=each,
            fault=name,
            executions=executions,
            fan_outs=fan_outs,
            seconds=seconds,
            patience_seconds=patience,
            seed=seed,
            keep=keep,
        )
        for each in transports
        for name in fault or _fitting(store, each)
    ]
    with Screen() as screen:
        results = [_one(plan, screen, json) for plan in plans]
    if not json:
        _show(results)
    return 0 if all(result.good for result in results) else 1


def _known(names: Iterable[str], known: Iterable[str], option: str) -> list[str]:
    chosen, choices = list(names), list(known)
    for name in chosen:
        if name not in choices:
            raise InvalidInput(f"{option} {name!r} is not known: use any of {', '.join(choices)}")
    return chosen


def _fitting(store: str, transport: str) -> list[str]:
    missing = {"restart-database", "chaos"} if store == FILES else set()
    missing |= {"restart-broker"} if transport in STORES else set()
    return [name for name in FAULTS if name not in missing]


def _one(plan: Options, screen: Stage, as_json: bool) -> Result:
    screen.say(f"{plan.fault} on {plan.store} + {plan.transport}")
    result = asyncio.run(run(plan, screen))
    if as_json:
        sys.stdout.write(msgspec.json.encode(result).decode() + "\n")
        sys.stdout.flush()
    for finding in result.findings:
        screen.say(finding, "bad")
    return result


def _show(results: Sequence[Result]) -> None:
    table = output.table(*PLACE, *FIGURES, "shards", right=FIGURES)
    for each in results:
        counts = (each.executions, each.under_way, each.ended, each.lost, each.twice)
        times = (each.recovery_seconds, each.longest_wait_seconds)
        shards = "/".join(map(str, each.shards))
        row = [each.store, each.transport, each.fault, *(f"{n:,}" for n in counts), *(f"{t:.2f} s" for t in times)]
        table.add_row(*(Text(cell, style="" if each.good else "bold red") for cell in (*row, shards)))
    output.show(table)
