"""What executions cost: seconds of workers, messages and bytes, and money by a price list.

Messages are counted as EDOW counts them: two for each attempt, its task event and its result event. Their bytes are
the arguments and results, plus an even share of everything else that was sent: envelopes, heartbeats, cancellations.
"""

from __future__ import annotations

import msgspec

from edow.kpi.figures import Figures, TaskFigures
from edow.model.topics import RESULTS

MESSAGES_PER_ATTEMPT = 2


class Prices(msgspec.Struct, frozen=True, kw_only=True):
    """Per hour of a worker's time, per million messages, per gigabyte (10^9 bytes) of messages."""

    worker_hour: float = 0.0
    million_messages: float = 0.0
    gigabyte: float = 0.0
    currency: str = ""


class Cost(msgspec.Struct, frozen=True):
    worker_seconds: float = 0.0
    messages: float = 0.0
    bytes: float = 0.0
    money: float | None = None  # None: no price list

    def per(self, count: int) -> Cost | None:
        """Of one among so many."""
        if not count:
            return None
        money = None if self.money is None else self.money / count
        return Cost(self.worker_seconds / count, self.messages / count, self.bytes / count, money)


def envelope(figures: Figures) -> float:
    """Bytes besides payload for each message of an attempt, on average."""
    tasks = [task for workflow in figures.workflows.values() for task in workflow.tasks.values()]
    messages = MESSAGES_PER_ATTEMPT * sum(task.attempts for task in tasks)
    if not messages:
        return 0.0
    results = [each for topic, each in figures.received.items() if topic.startswith(RESULTS)]  # not what triggers read
    everything = sum(each.bytes for each in (*figures.sent.values(), *results))
    return max(0, everything - sum(task.payload for task in tasks)) / messages


def cost_of(task: TaskFigures, envelope_bytes: float, prices: Prices | None) -> Cost:
    """Of all attempts, whatever came of them."""
    messages = MESSAGES_PER_ATTEMPT * task.attempts
    return priced(task.run.total / 1_000_000, messages, task.payload + envelope_bytes * messages, prices)


def priced(worker_seconds: float, messages: float, size: float, prices: Prices | None) -> Cost:
    if prices is None:
        return Cost(worker_seconds, messages, size)
    money = (
        worker_seconds / 3600 * prices.worker_hour
        + messages / 1_000_000 * prices.million_messages
        + size / 1_000_000_000 * prices.gigabyte
    )
    return Cost(worker_seconds, messages, size, money)
