"""What all commands have in common: how they are put together, and how they answer scripts and people."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import Parameter
from typing import Any, TypeVar, get_type_hints

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from edow.cli import output
from edow.cli.failure import note
from edow.cli.jsons import print_json, whole

T = TypeVar("T", bound=msgspec.Struct)
Command = Callable[..., None]


def group(about: str, commands: Mapping[str, Command]) -> typer.Typer:
    """Commands under one word, in the order in which help shows them."""
    app = typer.Typer(help=about, no_args_is_help=True)
    for name, command in commands.items():
        app.command(name)(spread(command))
    return app


def answer(value: object, said: str, as_json: bool) -> None:
    """What a command did: as JSON, or in words."""
    if as_json:
        print_json(value)
    else:
        print(said)


def answer_all(
    found: Sequence[T], table: Table, row: Callable[[T], Iterable[Text | str]], none: str, as_json: bool
) -> None:
    """What there is: as JSON, or as a table with a row for each; people are told `none` where there is nothing."""
    if as_json:
        print_json([whole(each) for each in found])
        return
    if not found:
        note(none)
        return
    for each in found:
        table.add_row(*row(each))
    output.show(table)


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
