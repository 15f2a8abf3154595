"""What all commands have in common: how they are put together, and how they answer scripts and people."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from edow.cli import output
from edow.cli.failure import note
from edow.cli.jsons import print_json, whole
from edow.cli.options import Command, spread

T = TypeVar("T", bound=msgspec.Struct)


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
