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


def demo(  # noqa: PLR0913  # each is an option of the command line
    folder: Annotated[
        Path | None,
        typer.Option("--input", metavar="DIR", help="Folder of .py files.", show_default="Python's own library"),
    ] = None,
    orders: Annotated[int, typer.Option(min=1, max=100_000, help="How many orders.")] = 300,
    keep: Annotated[bool, typer.Option("--keep", help="Keep databases and logs, and say where they are.")] = False,
    store: common.OwnStore = None,
    transport: common.Transport = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")] = False,
    live: Annotated[
        bool | None, typer.Option("--live/--scripted", help="A page with buttons.", show_default="at a terminal")
    ] = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Of the page; 0 for any.")] = 0,
    open_page: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = True,
) -> int:
    """A document pipeline and an order saga, on processes that are killed: by you, at a terminal.

    There a page is opened with buttons that break things, and counters of the effects lost and applied twice, until
    Ctrl-C. Otherwise, with --json or --scripted, it does the following by itself.

    One execution indexes every Python file of a folder, while orders go through payment, screening, stock and
    shipment. A worker and the orchestrator are killed with SIGKILL; files that cannot be decoded become dead letters
    and are redriven. At the end it is proved that no effect was lost and none was applied twice.
    """
    if (not json and _at_a_terminal()) if live is None else live:
        return _live(folder, (store, transport), keep, port, open_page)
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


def _at_a_terminal() -> bool:
    return sys.stdout.isatty() and sys.stderr.isatty()


def _live(folder: Path | None, place: tuple[str | None, str | None], keep: bool, port: int, open_page: bool) -> int:
    from edow.demo.live.run import LiveOptions, run_live

    options = LiveOptions(
        source=Options(folder=folder).source,
        store=place[0],
        transport=place[1],
        keep=keep,
        port=port,
        open_page=open_page and _at_a_terminal(),
    )
    with Screen() as screen:
        outcome = run_async(run_live(options, screen))
    text = f"effects lost: {outcome.lost}    effects applied twice: {outcome.twice}"
    good = not outcome.lost and not outcome.twice
    output.show(
        Text(f"{outcome.orders:,} orders, {outcome.effects:,} effects"),
        Panel.fit(Text(text), style="bold green" if good else "bold red"),
        *([Text(f"kept: {outcome.kept}")] if outcome.kept else []),
    )
    return 0 if good else 1


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
