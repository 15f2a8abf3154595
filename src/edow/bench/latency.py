"""Percentiles, and how long steps took according to histories.

A step lasts from the decision that schedules it to the one that takes its answer. Both moments are the orchestrator's
own, so waiting in queues and the work itself are included.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec

from edow.model.history import AnyEvent, TaskCompleted, TaskScheduled


class Latency(msgspec.Struct, frozen=True, omit_defaults=True):
    """Milliseconds."""

    p50: float
    p95: float
    p99: float | None = None


class Steps(msgspec.Struct, frozen=True):
    """When completed steps were scheduled and answered, in microseconds since the epoch."""

    spans: list[tuple[int, int]]

    @property
    def per_second(self) -> float:
        """Over the whole time from the first schedule to the last answer."""
        if not self.spans:
            return 0.0
        first = min(begin for begin, _ in self.spans)
        last = max(end for _, end in self.spans)
        return round(len(self.spans) / max(last - first, 1) * 1_000_000, 1)

    def milliseconds(self) -> list[float]:
        return [(end - begin) / 1000 for begin, end in self.spans]


def steps_of(histories: Iterable[Sequence[AnyEvent]]) -> Steps:
    """The task steps of these executions that completed."""
    return Steps([span for events in histories for span in _spans(events)])


def percentile(values: Sequence[float], share: float) -> float:
    """Of sorted values, by nearest rank."""
    return values[max(0, math.ceil(len(values) * share) - 1)] if values else 0.0


def latency_of(milliseconds: Iterable[float], *, p99: bool = True) -> Latency:
    values = sorted(milliseconds)
    return Latency(
        round(percentile(values, 0.50), 3),
        round(percentile(values, 0.95), 3),
        round(percentile(values, 0.99), 3) if p99 else None,
    )


def _spans(events: Sequence[AnyEvent]) -> Iterable[tuple[int, int]]:
    scheduled: dict[str, int] = {}
    for event in events:
        if isinstance(event, TaskScheduled):
            scheduled[event.step] = event.at
        elif isinstance(event, TaskCompleted):
            yield scheduled[event.step], event.at
