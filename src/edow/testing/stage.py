"""What people see of a long run while it goes on: lines about what happened, and bars.

All of it goes to stderr, so that stdout is the result's. Promises that without a terminal only the lines are printed.
Knows nothing of what is being run.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Literal, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.text import Text

Mood = Literal["plain", "good", "bad", "loud"]

STYLES: dict[Mood, str] = {"plain": "default", "good": "green", "bad": "bold red", "loud": "yellow"}


class Stage(Protocol):
    """Whoever runs something tells it here."""

    def say(self, text: str, mood: Mood = "plain") -> None:
        """Something happened."""

    def advance(self, name: str, done: float, total: float) -> None:
        """Something has come so far."""


class Quiet:
    """For tests and for callers that want the result alone."""

    def say(self, text: str, mood: Mood = "plain") -> None: ...

    def advance(self, name: str, done: float, total: float) -> None: ...


class Screen:
    """Use as a context manager; the bars are gone afterwards, the lines stay."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stderr, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description:<12}"),
            BarColumn(40),
            MofNCompleteColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._bars: dict[str, TaskID] = {}
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def say(self, text: str, mood: Mood = "plain") -> None:
        seconds = Text(f"{time.monotonic() - self._began:6.1f} s  ", style="dim")
        self._console.print(seconds + Text(text, style=STYLES[mood]), soft_wrap=True)

    def advance(self, name: str, done: float, total: float) -> None:
        if name not in self._bars:
            self._bars[name] = self._progress.add_task(name)
        self._progress.update(self._bars[name], completed=done, total=total)
