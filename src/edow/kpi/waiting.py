"""What tasks are out, and whether they wait in vain: no worker takes them.

Judged by what orchestrators say of themselves every two seconds, so it costs nothing to ask and holds for every broker,
also for those that tell no lag and carry no roll call. Neither a long queue nor long tasks are in vain: workers that
run something say so, every forty seconds at the latest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from edow.kpi.incident import Presence

SECOND = 1_000_000
PATIENCE = (
    10 * SECOND
)  # without a word an orchestrator is not here any more; with nobody to take it a task waits in vain
SILENCE = 90 * SECOND  # in which a worker that is at anything has said so, twice nearly


class InVain(NamedTuple):
    """`topics`: of tasks that nobody takes; the oldest has waited for so many seconds."""

    topics: list[str]
    seconds: float


class Unanswered(msgspec.Struct, frozen=True):
    """Tasks of a topic that are published and that nobody has answered, waiting and in flight alike, of the executions
    that orchestrators have in memory. `since`: when the oldest was published, or last heard of, that no worker is known
    to be at; None: workers are at all of them.
    """

    topic: str
    tasks: int
    since: int | None


def unanswered(said: Sequence[Presence], now: int) -> list[Unanswered]:
    """By topic, what all orchestrators that are here have out."""
    present = _present(said, now)
    oldest = _oldest(present)
    counts: Counter[str] = Counter()
    for each in present:
        counts.update(each.unanswered)
    return [Unanswered(topic, tasks, oldest.get(topic)) for topic, tasks in sorted(counts.items())]


def in_vain(said: Sequence[Presence], now: int) -> InVain | None:
    """A topic that no worker serves, as far as workers answer roll calls; and any, when workers have said nothing for
    very long, whatever they answer.
    """
    present = _present(said, now)
    oldest = _oldest(present)
    late = {topic: since for topic, since in oldest.items() if now - since > PATIENCE and _idle(topic, present, now)}
    silent_since = max((max(each.heard_at, each.served_since) for each in present), default=0)
    if now - silent_since > SILENCE:
        late |= {topic: since for topic, since in oldest.items() if now - since > SILENCE}
    return InVain(sorted(late), (now - min(late.values())) / SECOND) if late else None


def _present(said: Sequence[Presence], now: int) -> list[Presence]:
    return [each for each in said if now - each.at <= PATIENCE]


def _oldest(present: Sequence[Presence]) -> dict[str, int]:
    oldest: dict[str, int] = {}
    for each in present:
        for topic, since in each.unbegun.items():
            oldest[topic] = min(since, oldest.get(topic, since))
    return oldest


def _idle(topic: str, present: Sequence[Presence], now: int) -> bool:
    """Whoever calls the roll knows of nobody who serves it. Somebody may work, and be too busy to answer."""
    heard = max(each.heard_at for each in present)
    told = [each.served for each in present if each.served is not None]
    if not told or any(topic in served for served in told):
        return False
    return any(told) or now - heard > PATIENCE
