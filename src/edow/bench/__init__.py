"""`edow bench`: measures this machine, and the ceiling of the bare store beside it, so that ratios can be compared."""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """The command `edow bench`; answers its exit code."""
    from edow.bench.command import run_command

    return run_command(argv)
