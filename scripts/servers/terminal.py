"""What people see: one line per server, colours where the terminal has them, and what is under way."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from typing import TextIO

from .trouble import Trouble

_CODES = {"green": "32", "red": "31", "yellow": "33", "dim": "2", "bold": "1"}


class Terminal:
    """Lines for people, from several threads at once."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._live = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._colours = self._live and "NO_COLOR" not in os.environ
        self._lock = threading.Lock()
        self._doing: dict[str, str] = {}

    def paint(self, colour: str, text: str) -> str:
        return f"\033[{_CODES[colour]}m{text}\033[0m" if self._colours and text else text

    def line(self, text: str = "") -> None:
        """Say something for good."""
        with self._lock:
            self._wipe()
            print(text.rstrip(), file=self._stream)
            self._draw()

    def doing(self, name: str, text: str | None) -> None:
        """Tell what is under way for a server; None: nothing any more. Shown on live terminals only."""
        with self._lock:
            self._wipe()
            self._doing.pop(name, None)
            if text:
                self._doing[name] = text
            self._draw()

    def outcome(self, mark: str, colour: str, name: str, text: str, aside: str = "") -> None:
        """One server's line."""
        self.line(
            f"  {self.paint(colour, mark)} {self.paint('bold', f'{name:<10}')} {text}  {self.paint('dim', aside)}"
        )

    def trouble(self, name: str, trouble: Trouble) -> None:
        """What is wrong, why, and what to do."""
        self.outcome("✗", "red", name, trouble.what)
        for text in trouble.tail:
            self.line(f"      {self.paint('dim', f'| {text}')}")
        if trouble.log:
            self.line(f"      {self.paint('dim', f'The whole log: {trouble.log}')}")
        if trouble.remedy:
            self.line(f"      {self.paint('yellow', 'Next:')} {trouble.remedy}")

    def _wipe(self) -> None:
        if self._live and self._doing:
            print("\r\033[2K", end="", file=self._stream, flush=True)

    def _draw(self) -> None:
        if self._live and self._doing:
            text = ", ".join(f"{name} {what}" for name, what in sorted(self._doing.items()))
            room = shutil.get_terminal_size().columns - 5
            print(self.paint("dim", f"  … {text[:room]}"), end="", file=self._stream, flush=True)
