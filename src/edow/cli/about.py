"""`edow version` and `edow --version`: which EDOW this is."""

from __future__ import annotations

import platform
from typing import Annotated

import typer

import edow
from edow.cli import options


def version(as_json: options.Json = False) -> None:
    """Print the version."""
    if as_json:
        import sqlite3

        from edow.cli.jsons import print_json

        print_json({"edow": edow.__version__, "python": platform.python_version(), "sqlite": sqlite3.sqlite_version})
    else:
        print(f"edow {edow.__version__}")


def _tell(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


VersionOption = Annotated[
    bool, typer.Option("--version", "-V", help="Print the version.", callback=_tell, is_eager=True)
]
