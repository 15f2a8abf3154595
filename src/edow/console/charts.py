"""Lines over time, as the points of an SVG path in a box of 1000 × 100. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import msgspec

WIDTH, HEIGHT = 1000, 100
ROUND = (1, 2, 2.5, 4, 5, 6, 8, 10)


class Chart(msgspec.Struct, frozen=True):
    """`line` and `area` are path data; `top` is what the upper edge stands for."""

    title: str
    unit: str
    now: float | None
    top: float
    line: str
    area: str
    since: int
    until: int
    marks: tuple[float, ...] = ()  # x of what happened

    @property
    def empty(self) -> bool:
        return not self.line


Point = tuple[int, float]  # microseconds, value


def chart(title: str, unit: str, points: Sequence[Point], marks: Sequence[int] = ()) -> Chart:
    """From the first point to the last."""
    if len(points) < 2:
        now = points[-1][1] if points else None
        at = points[-1][0] if points else 0
        return Chart(title, unit, now, 1.0, "", "", at, at)
    since, until = points[0][0], points[-1][0]
    top = nice(max(value for _, value in points))
    span = max(1, until - since)
    placed = [(round((at - since) / span * WIDTH, 1), round(HEIGHT - value / top * HEIGHT, 1)) for at, value in points]
    line = "M" + " L".join(f"{x:g} {y:g}" for x, y in placed)
    area = f"{line} L{placed[-1][0]:g} {HEIGHT} L{placed[0][0]:g} {HEIGHT} Z"
    crossed = tuple(round((at - since) / span * WIDTH, 1) for at in marks if since <= at <= until)
    return Chart(title, unit, points[-1][1], top, line, area, since, until, crossed)


def nice(value: float) -> float:
    """A round number at or above it, and not far; at least 1."""
    step = 1.0
    while value > 10 * step:
        step *= 10
    return next(part * step for part in ROUND if value <= part * step)


def rates(totals: Sequence[Point]) -> list[Point]:
    """How fast a counter grew, per second, between its changes of reading. One that shrinks (retention) counts as 0."""
    found = []
    for (before, old), (at, new) in pairwise(totals):
        seconds = (at - before) / 1_000_000
        if seconds > 0:
            found.append((at, max(0.0, new - old) / seconds))
    return found
