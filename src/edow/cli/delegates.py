"""Commands that other packages bring along with their own options: `edow bench`, `edow demo`, `edow verify`."""

from __future__ import annotations

import importlib

import typer

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def bench(context: typer.Context) -> None:
    """Measure this machine: steps per second, latency, fan-out, recovery."""
    _delegate("edow.bench", context)


def demo(context: typer.Context) -> None:
    """Run a document pipeline and an order saga, kill processes, and prove that nothing was lost."""
    _delegate("edow.demo", context)


def verify(context: typer.Context) -> None:
    """Run random workflows while processes are killed, and compare every effect with a simulation."""
    _delegate("edow.verify", context)


COMMANDS = {"bench": bench, "demo": demo, "verify": verify}


def _delegate(package: str, context: typer.Context) -> None:
    """Each package has `main(argv) -> exit code`."""
    raise typer.Exit(importlib.import_module(package).main(list(context.args)))
