"""The tree of commands, and the one place where an exception becomes a line on stderr and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from edow.cli.about import VersionOption
from edow.cli.delegates import PASS_ON
from edow.cli.failure import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_USAGE, report, report_bug, report_usage
from edow.cli.later import Later, Listed
from edow.errors import EdowError

USAGE_ERROR = typer.BadParameter.__bases__[0]  # of the command-line parser inside typer, which has no public name
START = "Start and follow"
SERVE = "Processes"
ACT = "Look and act"
CHECK = "Check and measure"

COMMANDS = (
    Listed(
        "run",
        START,
        "running:run",
        "Run one workflow in this process: its result as JSON on stdout, exit code 0, or 1 if it failed.",
    ),
    Listed(
        "start",
        START,
        "executions:start",
        "Start an execution by name; an orchestrator that knows the workflow will run it.",
    ),
    Listed(
        "dev",
        SERVE,
        "serving:dev",
        "Orchestrator, worker and console for development: started again whenever a .py file changes.",
    ),
    Listed(
        "orchestrator",
        SERVE,
        "serving:orchestrator",
        "Advance the executions of these modules' workflows until stopped. Any number may share one store.",
    ),
    Listed(
        "worker", SERVE, "serving:worker", "Run these modules' tasks until stopped. Any number may share one transport."
    ),
    Listed(
        "api",
        SERVE,
        "api:api",
        "Serve the console and the HTTP API until stopped: / in a browser, /api/v1, /health, /openapi.json.",
    ),
    Listed(
        "serve",
        SERVE,
        "serving:serve",
        "Orchestrator, worker and console in one process; what `edow dev` starts again and again.",
        hidden=True,
    ),
    Listed("token", SERVE, "tokens:build", "Tokens for the HTTP API."),
    Listed("list", ACT, "listing:list_executions", "List executions, newest first."),
    Listed("show", ACT, "listing:show", "Show an execution: where it stands, and a timeline of its steps."),
    Listed(
        "signal", ACT, "executions:signal", "Send a signal to an execution; it is kept until the workflow waits for it."
    ),
    Listed("cancel", ACT, "executions:cancel", "Ask an execution to stop; its cleanup and compensations run."),
    Listed("terminate", ACT, "executions:terminate", "End an execution as it stands: no cleanup, no compensation."),
    Listed(
        "pause",
        ACT,
        "executions:pause",
        "Let nothing of an execution happen until it is resumed; whatever reaches it meanwhile is kept.",
    ),
    Listed(
        "resume",
        ACT,
        "executions:resume",
        "Go on with a paused execution, or try a parked one again with today's code.",
    ),
    Listed(
        "audit",
        ACT,
        "audit:audit",
        "List what operators did, newest first: who, what, on what, when. Entries are kept for 400 days.",
    ),
    Listed("dlq", ACT, "dead_letters:build", "Dead letters: failures that wait for a person."),
    Listed("hook", ACT, "hooks:build", "Webhooks: what they start or signal."),
    Listed("schedule", ACT, "schedules:build", "Schedules: workflows started at the times of a calendar."),
    Listed("endpoint", ACT, "endpoints:build", "Outgoing webhooks: who is told of ends and alerts."),
    Listed("trigger", ACT, "triggers:build", "Events: what messages on topics start or signal."),
    Listed("bulk", ACT, "bulk:build", "One action on many executions, in the background."),
    Listed(
        "replay",
        CHECK,
        "replaying:replay",
        "Replay a recorded execution with today's code; exit code 1 if they disagree.",
    ),
    Listed("schema", CHECK, "schema:schema", "Print the wire format as an AsyncAPI document with JSON Schemas."),
    Listed(
        "stats",
        CHECK,
        "stats:stats",
        "Lag and rates of topics and consumer groups; latencies, failures, traffic, cost and hot keys of executions.",
    ),
    Listed("alerts", CHECK, "slos:alerts", "What somebody should know now, and what was so before."),
    Listed(
        "thresholds",
        CHECK,
        "slos:thresholds",
        "From when on there are alerts of dead letters, lag and stuck executions: show it, or set what is given.",
    ),
    Listed(
        "incidents",
        CHECK,
        "slos:incidents",
        "What broke, and how long it took until work went on and what had piled up was done.",
    ),
    Listed(
        "price", CHECK, "slos:price", "The price list by which costs are told in money: show it, or set what is given."
    ),
    Listed(
        "doctor",
        CHECK,
        "doctor:doctor",
        "Examine the store, the processes and what waits; exit code 1 if something is wrong.",
    ),
    Listed(
        "bench",
        CHECK,
        "delegates:bench",
        "Measure this machine: steps per second, latency, fan-out, recovery.",
        settings=PASS_ON,
    ),
    Listed(
        "demo",
        CHECK,
        "delegates:demo",
        "Run a document pipeline and an order saga, kill processes, and prove that nothing was lost.",
        settings=PASS_ON,
    ),
    Listed(
        "verify",
        CHECK,
        "delegates:verify",
        "Run random workflows while processes are killed, and compare every effect with a simulation.",
        settings=PASS_ON,
    ),
    Listed("version", CHECK, "about:version", "Print the version."),
    Listed("slo", CHECK, "slos:build", "Service level objectives: what should be, and how much may go wrong."),
)
"""In the order in which help shows them."""


class Commands(TyperGroup):
    """All commands, none of them imported yet."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.commands = {each.name: Later(each) for each in COMMANDS}


def build() -> typer.Typer:
    """The command `edow`."""
    app = typer.Typer(
        name="edow",
        cls=Commands,
        help="Durable workflows in plain Python, over any message broker and over none.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(root)
    return app


def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks (or EDOW_DEBUG=1).")] = False,
    log_json: Annotated[
        bool, typer.Option("--log-json", help="A JSON object a log line (or EDOW_LOG_JSON=1).")
    ] = False,
    version: VersionOption = False,
) -> None:
    """The first two are honoured wherever they stand; see `run`."""


def run(argv: Sequence[str] | None) -> int:
    """Run a command line and answer its exit code. Never raises, but with `--debug`."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words or os.environ.get("EDOW_DEBUG", "") not in ("", "0")
    if "--log-json" in words:
        os.environ["EDOW_LOG_JSON"] = "1"  # which `edow.cli.logs` reads
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
