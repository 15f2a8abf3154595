"""What goes wrong with a server, told so that a person can go on."""

from __future__ import annotations

from pathlib import Path

TAIL_LINES = 25


class Trouble(Exception):
    """What happened, the end of the log that tells why, and what to do next."""

    def __init__(self, what: str, *, remedy: str = "", log: Path | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy
        self.log = log
        self.tail = tail(log)

    def __str__(self) -> str:
        """All of it in plain text, for a test's failure report."""
        parts = [self.what]
        if self.tail:
            parts.append("\n".join(f"    | {line}" for line in self.tail))
        if self.log:
            parts.append(f"The whole log: {self.log}")
        if self.remedy:
            parts.append(f"Next: {self.remedy}")
        return "\n".join(parts)


def tail(log: Path | None, lines: int = TAIL_LINES) -> list[str]:
    """The last lines of a log, or none where there is no log."""
    if log is None or not log.exists():
        return []
    return log.read_text(errors="replace").splitlines()[-lines:]
