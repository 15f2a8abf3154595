"""Commands that are known by name and summary, and imported when somebody runs one or asks for its help.

Otherwise `edow --help`, and each command before it does anything, would import all of them, and with them client,
triggers and tables: three quarters of the time that a small command took.
"""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand
from typer.main import get_command, get_group

from edow.cli.options import spread


class Listed(NamedTuple):
    """What help says of a command before it is imported; `source` is MODULE:FUNCTION in `edow.cli`."""

    name: str
    panel: str
    source: str
    summary: str  # as the function's docstring begins
    hidden: bool = False
    settings: dict[str, Any] | None = None  # of the command-line parser

    def load(self) -> Any:  # a command or a group, of the parser inside typer, which has no public type
        """Import it. A function is a command, but `build` makes a group of them."""
        module, _, name = self.source.partition(":")
        found = getattr(importlib.import_module(f"edow.cli.{module}"), name)
        if name == "build":
            return get_group(found())
        app = typer.Typer(add_completion=False)
        own_help = self.settings is None
        app.command(self.name, context_settings=self.settings, add_help_option=own_help, hidden=self.hidden)(
            spread(found)
        )
        return get_command(app)


class Later(TyperCommand):
    """Stands for a command where it is only named; whoever wants more of it gets the real one."""

    def __init__(self, listed: Listed) -> None:
        super().__init__(listed.name, help=listed.summary, rich_help_panel=listed.panel, hidden=listed.hidden)
        self.load = listed.load

    def make_context(self, *args: Any, **given: Any) -> Any:
        """Here the parser goes on with the command that was named, to run or to explain it."""
        return self.load().make_context(*args, **given)
