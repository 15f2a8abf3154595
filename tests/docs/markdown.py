"""What the tests need to know of a page of documentation: its blocks, headings, links and tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])

BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")
HEADING = re.compile(r"^(#{1,6}) (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: ```LANGUAGE WORDS."""

    page: str
    line: int
    language: str
    words: tuple[str, ...]
    text: str

    @property
    def file(self) -> str | None:
        """The name given by `file=NAME`."""
        return next((word.removeprefix("file=") for word in self.words if word.startswith("file=")), None)

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Command:
    """One `$ ...` line of a console block and what is shown below it."""

    where: str
    line: str
    shown: tuple[str, ...]


def page(name: str) -> str:
    return (ROOT / name).read_text()


def blocks(name: str, language: str | None = None) -> list[Block]:
    """The blocks of a page, in order."""
    text = page(name)
    found = []
    for match in BLOCK.finditer(text):
        first, *words = match[1].split() or [""]
        found.append(Block(name, text.count("\n", 0, match.start()) + 1, first, tuple(words), match[2]))
    return [block for block in found if language in (None, block.language)]


def commands(block: Block) -> list[Command]:
    """What a console block types, with what it shows for each."""
    found: list[Command] = []
    for number, line in enumerate(block.text.splitlines(), block.line + 1):
        if line.startswith("$ "):
            found.append(Command(f"{block.page}:{number}", line[2:].partition("  # ")[0].rstrip(), ()))
        else:
            last = found.pop()
            found.append(Command(last.where, last.line, (*last.shown, line)))
    return found


def without_blocks(text: str) -> str:
    return BLOCK.sub("", text)


def links(name: str) -> list[str]:
    return LINK.findall(without_blocks(page(name)))


def anchors(name: str) -> set[str]:
    """As GitHub makes them of headings."""
    titles = [match[2] for match in HEADING.finditer(without_blocks(page(name)))]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def section(name: str, title: str) -> str:
    """The text from a heading to the next one of its level or above."""
    text = page(name)
    start = re.search(rf"^(#+) {re.escape(title)}$", text, re.MULTILINE)
    assert start is not None, f"{name} has no heading {title!r}"
    end = re.search(rf"^#{{1,{len(start[1])}}} ", text[start.end() :], re.MULTILINE)
    return text[start.end() : start.end() + end.start()] if end else text[start.end() :]


def rows(text: str) -> Iterator[list[str]]:
    """The cells of all tables, without header and rule."""
    lines = text.splitlines()
    for at, line in enumerate(lines):
        is_rule = re.fullmatch(r"\|[-| ]+\|", line) is not None
        before_rule = at + 1 < len(lines) and re.fullmatch(r"\|[-| ]+\|", lines[at + 1]) is not None
        if line.startswith("|") and not is_rule and not before_rule:
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def shows(pattern: str, text: str) -> bool:
    """Does it look as shown? A line `...` stands for any lines, `...` in a line for anything, blanks for blanks."""
    made = [r"(?:.*\n)*" if line.strip() == "..." else _line(line) + r"\n" for line in pattern.splitlines()]
    return re.fullmatch("".join(made), text if text.endswith("\n") or not text else text + "\n") is not None


def _line(shown: str) -> str:
    pieces = [re.sub(r"\\?\s+", "PLACEHOLDER", piece.strip()) for piece in shown.strip().split("...")]
    escaped = [re.escape(piece).replace("PLACEHOLDER", r"[ \t]+") for piece in pieces]
    return r"[ \t]*" + r".*".join(escaped) + r"[ \t]*"
