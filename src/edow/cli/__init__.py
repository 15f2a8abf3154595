"""Layer 4, the `edow` command. One module per group of commands; everything heavy is imported where it is used.

Results go to stdout, everything said to people about them to stderr; an error is one line and an exit code.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (default: the process's own) and return its exit code: 0, 1 error, 2 usage, 130 Ctrl-C."""
    from edow.cli.tree import run

    return run(argv)
