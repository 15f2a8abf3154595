"""`edow bench` as people type it: options in, a table with the targets beside it or one JSON object out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import msgspec
import typer
from rich.table import Table

from edow.bench.model import Measurement, Options
from edow.bench.onlooker import is_possible
from edow.bench.run import run
from edow.bench.scenarios import SCENARIOS
from edow.cli import options as common
from edow.cli import output
from edow.cli.session import run_async
from edow.errors import InvalidInput
from edow.testing.command import run_as_command
from edow.testing.stage import Screen

ALL = "all"
WATCHED = "watched"  # left out of all of them where OpenTelemetry is not installed


def run_command(argv: Sequence[str]) -> int:
    """Exit code 0 when everything could be measured; whether targets are met is for the reader."""
    return run_as_command(bench, "edow bench", argv)


def bench(  # noqa: PLR0913  # each is an option of the command line
    scenario: Annotated[str, typer.Argument(metavar="SCENARIO", help=f"{', '.join(SCENARIOS)} or {ALL}.")] = "steps",
    seconds: Annotated[float | None, typer.Option(min=0.1, help="How long to load it (steps).")] = None,
    workflows: Annotated[int | None, typer.Option(min=1, help="How many executions (fanout: tasks).")] = None,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="The median of so many (steps, fanout).")] = 3,
    processes: Annotated[bool, typer.Option("--processes", help="Separate processes (latency).")] = False,
    store: common.OwnStore = None,
    transport: common.Transport = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Measure this machine, with the ceiling of the bare store beside it. Every commit is fsynced."""
    names = _names(scenario)
    options = Options(
        seconds=seconds, workflows=workflows, rounds=rounds, store=store, transport=transport, processes=processes
    )
    with Screen() as screen:
        measurements = run_async(run(names, options, screen))
    if json:
        answer = {"scenarios": measurements} if scenario == ALL else measurements[0]
        sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")
    else:
        output.show(table(measurements))
    return 0


def table(measurements: Sequence[Measurement]) -> Table:
    """What people see at the end."""
    made = output.table(
        "scenario", "measured", "target", "ceiling", "ratio", "peak RSS", right=("ceiling", "ratio", "peak RSS")
    )
    for each in measurements:
        ceiling = f"{each.ceiling_steps_per_second:,.0f} steps/s" if each.ceiling_steps_per_second else "–"
        ratio = f"{each.ratio:.2f}" if each.ratio is not None else "–"
        made.add_row(each.scenario, each.headline, each.target, ceiling, ratio, f"{each.peak_rss_mb:.0f} MB")
    return made


def _names(scenario: str) -> list[str]:
    if scenario == ALL:
        return [name for name in SCENARIOS if name != WATCHED or is_possible()]
    if scenario in SCENARIOS:
        return [scenario]
    raise InvalidInput(f"there is no scenario {scenario!r}; use one of {', '.join(SCENARIOS)}, {ALL}")
