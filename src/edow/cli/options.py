"""Options that many commands share, so that they are called and explained the same everywhere."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, TypeVar

import typer

from edow.errors import InvalidInput

Word = TypeVar("Word", bound=str)

Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        envvar="EDOW_STORE",
        help="Where executions are kept.",
        show_default="sqlite:///edow.db",
    ),
]
OwnStore = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help="A server on which a part of its own is used.",
        show_default="a file of its own",
    ),
]
Transport = Annotated[
    str | None,
    typer.Option(
        "--transport",
        metavar="URL",
        envvar="EDOW_TRANSPORT",
        help="What carries messages.",
        show_default="the store's own database",
    ),
]
MetricsPort = Annotated[
    int | None, typer.Option("--metrics-port", min=0, max=65535, help="Serve /metrics for Prometheus on this port.")
]
MetricsHost = Annotated[str, typer.Option("--metrics-host", help="And on this address.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Utc = Annotated[bool, typer.Option("--utc", help="Show times in UTC instead of local time.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="Execution id, as `edow list` shows it.", show_default=False)]
Input = Annotated[
    str | None,
    typer.Option(
        "--input", "-i", metavar="JSON", help="JSON text, @FILE, or - for stdin.", show_default="no arguments"
    ),
]
Reason = Annotated[str, typer.Option("--reason", help="Why; recorded in the history.")]
Modules = Annotated[
    list[str],
    typer.Argument(metavar="MODULE...", help="Python files or modules with tasks and workflows.", show_default=False),
]


def one_of(option: str, given: str, allowed: Iterable[Word]) -> Word:
    """Raises InvalidInput naming the option and what it may be."""
    for each in allowed:
        if each == given:
            return each
    raise InvalidInput(f"{option} {given!r} is unknown; use {', '.join(allowed)}")
