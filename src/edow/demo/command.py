"""`edow demo` as people type it: options in, a table or one JSON object out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from edow.cli import options as common
from edow.cli import output
from edow.cli.session import run_async
from edow.demo.model import Options, Outcome
from edow.testing.command import run_as_command
from edow.testing.stage import Screen


def run_command(argv: Sequence[str]) -> int:
    """Exit code 1 when an effect was lost or applied twice."""
    return run_as_command(demo, "edow demo", argv)


def demo(  # each is an option of the command line
    folder: Annotated[
        Path | None,
        typer.Option("--input", metavar="DIR", help="Folder of .py files.", show_default="Python's own library"),
    ] = None,
    orders: Annotated[int, typer.Option(min=1, max=100_000, help="How many orders.")] = 300,
    keep: Annotated[bool, typer.Option("--keep", help="Keep databases and logs, and say where they are.")] = False,
    store: common.OwnStore = None,
    transport: common.Transport = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")] = False,
) -> int:
    """A document pipeline and an order saga, on processes that are killed on the way.

    One execution indexes every Python file of a folder, while orders go through payment, screening, stock and
    shipment. A worker and the orchestrator are killed with SIGKILL; files that cannot be decoded become dead letters
    and are redriven. At the end it is proved that no effect was lost and none was applied twice.
    """
    from edow.demo.run import run

    with Screen() as screen:
        outcome = run_async(
            run(Options(folder=folder, orders=orders, keep=keep, store=store, transport=transport), screen)
        )
    if json:
        sys.stdout.write(msgspec.json.encode(outcome.result).decode() + "\n")
    else:
        output.show(summary(outcome))
    return 0 if outcome.result.proven and not outcome.discrepancies else 1


def summary(outcome: Outcome) -> RenderableType:
    """What people see at the end."""
    return Group("", output.fields(_rows(outcome)), "", _verdict(outcome), *_kept(outcome))


def _rows(outcome: Outcome) -> list[tuple[str, Text | str]]:
    result, report, latency = outcome.result, outcome.report, outcome.result.latency_ms
    most = ", ".join(f"{module} ({count})" for module, count in report.most_imported)
    return [
        ("documents", f"{result.documents:,} files, {report.tokens:,} tokens, in a full-text index"),
        ("imported most", most),
        (f'search "{report.query}"', ", ".join(Path(path).name for path in report.found)),
        ("orders", f"{result.orders - result.compensated} shipped, {result.compensated} compensated"),
        ("dead letters", f"{result.dead_letters}, redriven {result.redriven}"),
        ("killed (-9)", f"{result.workers_killed} worker, {result.orchestrators_killed} orchestrator"),
        ("recovery", f"{result.recovery_seconds:.2f} s until work went on, the longer of the two"),
        ("steps", f"{outcome.steps:,} in {outcome.seconds:.1f} s, {result.steps_per_second:,.0f} per second"),
        ("step latency", f"p50 {latency.p50:,.0f} ms, p95 {latency.p95:,.0f} ms, queueing behind the fan-out included"),
    ]


def _verdict(outcome: Outcome) -> Panel:
    result = outcome.result
    good = result.proven and not outcome.discrepancies
    text = f"effects lost: {result.effects_lost}    effects applied twice: {result.effects_applied_twice}"
    lines = [text, *outcome.discrepancies[:20]]
    return Panel.fit(Text("\n".join(lines)), style="bold green" if good else "bold red")


def _kept(outcome: Outcome) -> list[RenderableType]:
    if outcome.kept is None:
        return []
    return [Text(f"kept: edow list --store {outcome.store}")]
