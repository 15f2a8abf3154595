"""Runs one function as a command with options of its own: for `edow demo`, `edow bench` and `edow verify`."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence

import typer


def run_as_command(function: Callable[..., int], name: str, argv: Sequence[str]) -> int:
    """The function's exit code; errors, of usage too, are for the caller to report.

    SIGTERM is taken for Ctrl-C: processes that were started end, and what was made on servers goes.
    """
    before = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    app = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.command()(function)
    try:
        return int(app(list(argv), prog_name=name, standalone_mode=False) or 0)
    finally:
        signal.signal(signal.SIGTERM, before)
