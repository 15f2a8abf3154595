"""Errors for people: one red line that says what is wrong, one dim line that says what to do; no traceback."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.text import Text

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def stderr() -> Console:
    """Made anew, so that it writes to whatever stderr is now."""
    return Console(file=sys.stderr, highlight=False, soft_wrap=True)


def report(problem: BaseException | str) -> None:
    """Our messages say the problem first and the remedy after the first semicolon."""
    text = problem if isinstance(problem, str) else str(problem) or _nameless(problem)
    first, _, rest = text.partition("\n")
    wrong, _, remedy = first.partition("; ")
    hints = [remedy, *rest.splitlines(), *getattr(problem, "__notes__", ())]
    _lines(wrong, [hint for hint in hints if hint.strip()])


def _nameless(problem: BaseException) -> str:
    """asyncio raises its timeouts without a word."""
    if isinstance(problem, TimeoutError):
        return "it took too long, and was given up; what was accepted is safe: try again, or ask `edow doctor`"
    return type(problem).__name__


def report_usage(problem: BaseException) -> None:
    """The command line itself is wrong."""
    message = getattr(problem, "format_message", problem.__str__)()
    if message:
        context = getattr(problem, "ctx", None)
        path = context.command_path if context is not None else "edow"
        _lines(message.rstrip("."), [f"see `{path} --help`"])


def report_bug(problem: BaseException) -> None:
    """Nobody should ever see this one."""
    _lines(
        f"internal error: {type(problem).__name__}: {problem}",
        ["this is a bug in EDOW: run again with --debug and please report what it shows; what was accepted is safe"],
    )


def note(text: str) -> None:
    """A remark that is no result."""
    stderr().print(Text(text, style="dim"))


def _lines(wrong: str, hints: list[str]) -> None:
    console = stderr()
    console.print(Text.assemble(("error: ", "bold red"), (wrong, "red")))
    for hint in hints:
        console.print(Text.assemble(("hint: ", "dim bold"), (hint, "dim")))
