"""Options that many commands share, so that they are called and explained the same everywhere."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from inspect import Parameter
from typing import Annotated, Any, TypeVar, get_type_hints

import msgspec
import typer

from edow.errors import InvalidInput

Word = TypeVar("Word", bound=str)
Command = Callable[..., None]

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


def spread(command: Command) -> Command:
    """`command` as typer wants it: a parameter that is a struct of options becomes those options."""
    hints = get_type_hints(command, include_extras=True)
    structs = {name: hint for name, hint in hints.items() if isinstance(hint, type(msgspec.Struct))}
    if not structs:
        return command

    @functools.wraps(command)
    def called(**given: Any) -> None:
        for name, kind in structs.items():
            given[name] = kind(**{field: given.pop(field) for field in kind.__struct_fields__})
        command(**given)

    parameters = [
        option
        for name, parameter in inspect.signature(command).parameters.items()
        for option in (_options(structs[name]) if name in structs else [parameter.replace(annotation=hints[name])])
    ]
    called.__annotations__ = {option.name: option.annotation for option in parameters}
    called.__signature__ = inspect.Signature([each.replace(kind=Parameter.KEYWORD_ONLY) for each in parameters])  # type: ignore[attr-defined]
    return called


def _options(kind: type[msgspec.Struct]) -> list[Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    return [each.replace(annotation=hints[name]) for name, each in inspect.signature(kind).parameters.items()]
