"""The tree of commands, and the one place where an exception becomes a line on stderr and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from edow.cli import (
    api,
    audit,
    bulk,
    dead_letters,
    delegates,
    doctor,
    endpoints,
    executions,
    hooks,
    listing,
    replaying,
    running,
    schedules,
    schema,
    serving,
    slos,
    stats,
    tokens,
    triggers,
)
from edow.cli.commands import spread
from edow.cli.failure import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_USAGE, report, report_bug, report_usage
from edow.cli.logs import JSON
from edow.errors import EdowError

USAGE_ERROR = typer.BadParameter.__bases__[0]  # of the command-line parser inside typer, which has no public name
START = "Start and follow"
SERVE = "Processes"
ACT = "Look and act"
CHECK = "Check and measure"


def build() -> typer.Typer:
    """All commands, in the order in which help shows them."""
    app = typer.Typer(
        name="edow",
        help="Durable workflows in plain Python, over any message broker and over none.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(root)
    app.command("run", rich_help_panel=START)(running.run)
    app.command("start", rich_help_panel=START)(executions.start)
    app.command("dev", rich_help_panel=SERVE)(serving.dev)
    app.command("orchestrator", rich_help_panel=SERVE)(serving.orchestrator)
    app.command("worker", rich_help_panel=SERVE)(serving.worker)
    app.command("api", rich_help_panel=SERVE)(api.api)
    app.command("serve", hidden=True)(serving.serve)
    app.command("list", rich_help_panel=ACT)(spread(listing.list_executions))
    app.command("show", rich_help_panel=ACT)(listing.show)
    app.command("signal", rich_help_panel=ACT)(executions.signal)
    app.command("cancel", rich_help_panel=ACT)(executions.cancel)
    app.command("terminate", rich_help_panel=ACT)(executions.terminate)
    app.command("pause", rich_help_panel=ACT)(executions.pause)
    app.command("resume", rich_help_panel=ACT)(executions.resume)
    app.add_typer(dead_letters.build(), name="dlq", rich_help_panel=ACT)
    app.add_typer(hooks.build(), name="hook", rich_help_panel=ACT)
    app.add_typer(schedules.build(), name="schedule", rich_help_panel=ACT)
    app.add_typer(endpoints.build(), name="endpoint", rich_help_panel=ACT)
    app.add_typer(triggers.build(), name="trigger", rich_help_panel=ACT)
    app.command("replay", rich_help_panel=CHECK)(replaying.replay)
    app.command("schema", rich_help_panel=CHECK)(schema.schema)
    app.add_typer(bulk.build(), name="bulk", rich_help_panel=ACT)
    app.command("audit", rich_help_panel=ACT)(audit.audit)
    app.add_typer(tokens.build(), name="token", rich_help_panel=SERVE)
    app.command("stats", rich_help_panel=CHECK)(stats.stats)
    app.add_typer(slos.build(), name="slo", rich_help_panel=CHECK)
    app.command("alerts", rich_help_panel=CHECK)(slos.alerts)
    app.command("thresholds", rich_help_panel=CHECK)(slos.thresholds)
    app.command("incidents", rich_help_panel=CHECK)(slos.incidents)
    app.command("price", rich_help_panel=CHECK)(slos.price)
    app.command("doctor", rich_help_panel=CHECK)(doctor.doctor)
    for name, command in delegates.COMMANDS.items():
        app.command(name, rich_help_panel=CHECK, context_settings=delegates.PASS_ON, add_help_option=False)(command)
    app.command("version", rich_help_panel=CHECK)(doctor.version)
    return app


def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks (or EDOW_DEBUG=1).")] = False,
    log_json: Annotated[
        bool, typer.Option("--log-json", help="A JSON object a log line (or EDOW_LOG_JSON=1).")
    ] = False,
) -> None:
    """Both are honoured wherever they stand; see `run`."""


def run(argv: Sequence[str] | None) -> int:
    """Run a command line and answer its exit code. Never raises, but with `--debug`."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words or os.environ.get("EDOW_DEBUG", "") not in ("", "0")
    if "--log-json" in words:
        os.environ[JSON] = "1"
    words = [word for word in words if word not in ("--debug", "--log-json")]
    try:
        code = build()(words, prog_name="edow", standalone_mode=False)
    except BaseException as problem:
        if debug and not isinstance(problem, KeyboardInterrupt | SystemExit | USAGE_ERROR | typer.Abort):
            raise
        return exit_code(problem)
    return code if isinstance(code, int) else 0


def exit_code(problem: BaseException) -> int:
    """Tell people about the problem and answer the process's exit code."""
    match problem:
        case KeyboardInterrupt() | typer.Abort():
            report("interrupted")
            return EXIT_INTERRUPTED
        case SystemExit(code=code):
            return code if isinstance(code, int) else EXIT_ERROR
        case EdowError() | TimeoutError():
            report(problem)
            return EXIT_ERROR
        case BrokenPipeError():
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # whoever read us has gone; nothing more to say
            return EXIT_ERROR
    if isinstance(problem, USAGE_ERROR):
        report_usage(problem)
        return EXIT_USAGE
    report_bug(problem)
    return EXIT_ERROR
