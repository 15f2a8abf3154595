"""How things look to people: tables, statuses, durations and times. It formats values and decides nothing."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from rich import box
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Column, Table
from rich.text import Text

STATUS_STYLES = {
    "running": "cyan",
    "retrying": "yellow",
    "parked": "bold yellow",
    "paused": "yellow",
    "completed": "green",
    "failed": "bold red",
    "cancelled": "magenta",
    "terminated": "magenta",
}


PIPED_WIDTH = 10_000  # nothing is cut off when another program reads
LEAST_WIDTH = 12  # of a flexible column
GAP = 2  # between two columns


def show(*things: RenderableType) -> None:
    """Print to stdout. What goes into a pipe is neither cut nor padded."""
    console = Console(file=sys.stdout, highlight=False)
    if console.is_terminal:
        for thing in things:
            console.print(_fitted(thing, console.width))
        return
    wide = Console(file=io.StringIO(), highlight=False, width=PIPED_WIDTH, color_system=None)
    with wide.capture() as captured:
        wide.print(*things, sep="\n")
    for line in captured.get().splitlines():
        print(line.rstrip())


def _fitted(thing: RenderableType, width: int) -> RenderableType:
    """A table's flexible columns (those with a ratio) are cut before any other is."""
    if isinstance(thing, Table):
        fixed = sum(_natural(column) + GAP for column in thing.columns if column.ratio is None)
        for column in thing.columns:
            if column.ratio is not None:
                column.max_width = max(LEAST_WIDTH, width - fixed)
    return thing


def _natural(column: Column) -> int:
    return max(cell_len(str(cell)) for cell in (column.header, *column.cells))


def table(*columns: str, right: Sequence[str] = (), flexible: Sequence[str] = ()) -> Table:
    """Light, without boxes; `flexible` columns get the width that the others leave."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold", show_edge=False)
    for name in columns:
        made.add_column(
            name,
            justify="right" if name in right else "left",
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if name in flexible else None,
        )
    return made


def status(value: str) -> Text:
    return Text(value, style=STATUS_STYLES.get(value, ""))


def duration(microseconds: float) -> str:
    """`350 µs`, `12 ms`, `1.2 s`, `3 min 20 s`, `5 h 3 min`, `2 d 4 h`."""
    seconds = microseconds / 1_000_000
    if seconds < 0.001:
        return f"{microseconds:.0f} µs"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    for size, unit, small, below in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size - small / 2:
            whole, rest = divmod(round(seconds / small), size // small)
            return f"{whole} {unit} {rest} {below}" if rest else f"{whole} {unit}"
    raise AssertionError(seconds)


def moment(at: int, utc: bool = False, exact: bool = False) -> str:
    """Date and time to the second (or millisecond), local unless asked otherwise."""
    seconds, fraction = divmod(at, 1_000_000)
    when = datetime.fromtimestamp(seconds, UTC)
    said = f"{when if utc else when.astimezone():%Y-%m-%d %H:%M:%S}"
    return said + (f".{fraction // 1000:03}" if exact else "") + ("Z" if utc else "")


def one_line(text: str, limit: int = 160) -> str:
    """The first line that says something, shortened."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line if len(line) <= limit else line[: limit - 1] + "…"


def facts(given: Mapping[str, Text | str]) -> Table:
    """Names and values below each other, without those that are empty."""
    return fields((name, value) for name, value in given.items() if value)


def fields(pairs: Iterable[tuple[str, Text | str]]) -> Table:
    """Names and values below each other."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in pairs:
        grid.add_row(name, value)
    return grid


def size(count: int) -> str:
    """Bytes in decimal units."""
    amount = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
