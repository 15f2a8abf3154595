"""From a history to bars over time: each step with its attempts, and when each of them waited and ran.

Pure: events in, rows out. A worker tells when it began an attempt only with what came of it, so the bar of one that
goes on is drawn whole unless its beginning was recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from edow.cli.timeline import Line, timeline
from edow.model import history
from edow.model.history import AnyEvent

Doing = Literal["waiting", "running", "attempt", "failed", "backoff", "sleeping", "child", "parked", "done"]


class Bar(msgspec.Struct, frozen=True):
    """From when to when, in microseconds; `until` None: it goes on."""

    doing: Doing
    since: int
    until: int | None
    said: str = ""


class Failed(msgspec.Struct, frozen=True):
    """An attempt that failed: when it ended, and who had begun it."""

    attempt: int
    at: int
    worker: str
    error: str


class Row(msgspec.Struct):
    """One step, or one thing that happened to the execution."""

    line: Line
    bars: list[Bar] = []
    failed: list[Failed] = []


def rows(events: Sequence[AnyEvent]) -> list[Row]:
    """In the order in which they began."""
    drawer = _Drawer()
    for event in events:
        drawer.add(event)
    drawer.close(events)
    found = []
    for line in timeline(events):
        bars = drawer.bars.get(line.name, []) if line.kind in ("task", "timer", "child") else []
        found.append(Row(line, bars, drawer.failed.get(line.name, []) if bars else []))
    return found


class _Drawer:
    def __init__(self) -> None:
        self.bars: dict[str, list[Bar]] = {}
        self.failed: dict[str, list[Failed]] = {}
        self._open: dict[str, tuple[Doing, int, str]] = {}  # what each step does, and since when

    def add(self, event: AnyEvent) -> None:
        match event:
            case history.TaskScheduled(step=step) | history.TaskRedriven(step=step):
                self._turn(step, "waiting", event.at)
            case history.TaskStarted(step=step, worker=worker):
                self._turn(step, "running", event.at, worker)
            case history.AttemptFailed(step=step, attempt=attempt, failure=failure):
                self._attempted(event, "failed", failure.message)
                self._turn(step, "backoff", event.at, f"attempt {attempt + 1} follows")
            case history.TaskRetried(step=step, attempt=attempt):
                self._turn(step, "attempt", event.at, f"attempt {attempt}")
            case history.TaskCompleted(attempt=attempt, worker=worker):
                self._attempted(event, "running", f"attempt {attempt} by {worker}")
            case history.TaskFailed(failure=failure):
                self._attempted(event, "failed", failure.message)
            case history.TaskParked(step=step, failure=failure):
                self._attempted(event, "failed", failure.message)
                self._turn(step, "parked", event.at, "waits for its dead letter")
            case history.TimerStarted(step=step):
                self._turn(step, "sleeping", event.at)
            case history.ChildStarted(step=step, execution=execution):
                self._turn(step, "child", event.at, execution)
            case history.TimerFired(step=step) | history.ChildCompleted(step=step) | history.StepCancelled(step=step):
                self._end(step, event.at)
            case history.ChildFailed(step=step, failure=failure):
                self._end(step, event.at, "failed", failure.message)
            case _:
                pass

    def close(self, events: Iterable[AnyEvent]) -> None:
        """What is still open when the execution has ended was dropped then; else it goes on."""
        end = next((event.at for event in reversed(list(events)) if isinstance(event, history.End)), None)
        for step in list(self._open):
            doing, since, said = self._open.pop(step)
            self.bars.setdefault(step, []).append(Bar(doing, since, end, said))

    def _attempted(self, event: history.AttemptEnded, became: Doing, said: str) -> None:
        """Where the worker's clock fits in, it tells the waiting from the running. One that is parked or waits for its
        next attempt is not at it: it ends as it was, discarded or answered by an attempt that had been given up.
        """
        if became == "failed":
            told = Failed(event.attempt, event.at, event.worker, said)
            self.failed.setdefault(event.step, []).append(told)
        step, opened = event.step, self._open.get(event.step)
        since = opened[1] if opened else event.at
        if became == "failed" and not event.started_at:
            self._end(step, event.at, became if opened and opened[0] != "parked" else None, said)
            return
        began = min(max(event.started_at or since, since), event.at)
        ended = min(began + event.duration, event.at) if event.duration else event.at
        if opened is not None and opened[0] == "running":
            self._end(step, ended, became, said)
        else:
            self._end(step, began, "waiting" if opened and opened[0] == "attempt" else None)
            self._append(step, Bar(became, began, ended, said))
        if event.at > ended:
            self._append(step, Bar("done", ended, event.at, "on its way back"))

    def _turn(self, step: str, doing: Doing, at: int, said: str = "") -> None:
        self._end(step, at)
        self._open[step] = (doing, at, said)

    def _end(self, step: str, at: int, doing: Doing | None = None, said: str = "") -> None:
        opened = self._open.pop(step, None)
        if opened is not None:
            self._append(step, Bar(doing or opened[0], opened[1], at, said or opened[2]))

    def _append(self, step: str, bar: Bar) -> None:
        if bar.until is None or bar.until > bar.since or bar.doing == "failed":
            self.bars.setdefault(step, []).append(bar)
