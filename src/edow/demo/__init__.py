"""`edow demo`: a document pipeline and an order saga on real processes that are killed on the way.

`documents` and `orders` are what an application would write; the rest drives them, kills, redrives, and proves from the
effects that nothing was lost and nothing was applied twice.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """The command `edow demo`; answers its exit code."""
    from edow.demo.command import run_command

    return run_command(argv)
