"""The progress bar of `edow run`: what the workflow reports, or else how many of its steps have finished.

It reads the execution's row a few times a second; the history only while that is short.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from edow.cli.timeline import timeline
from edow.client import Client
from edow.model.execution import ENDED, Execution, Status

EVERY_SECONDS = 0.2
READABLE_EVENTS = 2000  # above, only their number is shown
PARKED_ROUNDS = 2  # a redrive may be on its way: parked is believed when seen so often


async def follow(client: Client, execution: str, *, show: bool) -> Execution:
    """The row once the execution has ended or is parked."""
    with _bar(show) as progress:
        bar = progress.add_task(execution, total=None, said="")
        parked = 0
        while True:
            row = await client.get(execution).describe()
            parked = parked + 1 if row.status is Status.PARKED else 0
            if show:
                _update(progress, bar, *await _standing(client, row))
            if row.status in ENDED or parked >= PARKED_ROUNDS:
                return row
            await asyncio.sleep(EVERY_SECONDS)


def _bar(show: bool) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[said]}"),
        TimeElapsedColumn(),
        console=Console(file=sys.stderr),
        transient=True,
        disable=not show,
    )


def _update(progress: Progress, bar: TaskID, done: float, total: float | None, said: str) -> None:
    progress.update(bar, completed=done, total=total, said=said)


async def _standing(client: Client, row: Execution) -> tuple[float, float | None, str]:
    """(done, of how many, in words)."""
    if row.progress is not None:
        return reported(msgspec.json.decode(row.progress))
    if row.events > READABLE_EVENTS:
        return 0, None, f"{row.events} events"
    steps = [line for line in timeline(await client.history(row.id, row.run)) if line.kind in ("task", "child")]
    done = sum(not line.open for line in steps)
    return done, len(steps) or None, f"{done} of {len(steps)} steps so far"


def reported(value: Any) -> tuple[float, float | None, str]:
    """Whatever the workflow said: {"done": 3, "total": 9}, a fraction, or anything else as text."""
    match value:
        case {"done": int() | float() as done, "total": int() | float() as total}:
            return done, total, f"{done:g} of {total:g}"
        case bool():
            return 0, None, str(value)
        case int() | float() if 0 <= value <= 1:
            return value, 1, f"{value:.0%}"
    return 0, None, value if isinstance(value, str) else msgspec.json.encode(value).decode()
