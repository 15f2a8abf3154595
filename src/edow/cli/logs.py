"""What the loops have to tell, on stderr."""

from __future__ import annotations

import logging
import sys


class StderrHandler(logging.Handler):
    """Writes to whatever stderr is at that moment: a progress bar takes it over while it is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        """One line, or none at all: logging must never be what fails."""
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except Exception:  # as every handler of the standard library does
            self.handleError(record)


def configure(*, quiet: bool = False) -> None:
    """Warnings only when `quiet`; a second call changes nothing."""
    logging.basicConfig(
        level=logging.WARNING if quiet else logging.INFO,
        handlers=[StderrHandler()],
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
        datefmt="%H:%M:%S",
    )
