"""`edow verify`: random workflows on processes that are killed at random, compared with a plain simulation of them.

`tree` says what can happen, `workflows` does it durably, `simulation` does it in plain arithmetic; both must agree.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """The command `edow verify`; answers its exit code."""
    from edow.verify.command import run_command

    return run_command(argv)
