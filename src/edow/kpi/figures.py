"""What was measured over some time: counts, sums and histograms by workflow, task and topic.

Everything in it can be added up: seconds to minutes, minutes to hours, one process to another. The number of names is
bounded; what comes above that is counted under `(other)`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import msgspec

from edow.kpi.histogram import Histogram
from edow.kpi.keys import Keys

OTHER = "(other)"
WORKFLOWS = 100
TASKS = 100  # of one workflow
TOPICS = 200  # and as many consumer groups
SCHEDULES = 100

T = TypeVar("T")


def slot(table: dict[str, T], name: str, limit: int, make: Callable[[], T]) -> T:
    """The entry of that name, made if there is room, else that of all the others."""
    found = table.get(name)
    if found is None:
        if len(table) >= limit:
            name = OTHER
        found = table.get(name)
        if found is None:
            found = table[name] = make()
    return found


class TaskFigures(msgspec.Struct, array_like=True):
    """Attempts of one task in one workflow, by what became of them. Times in microseconds."""

    completed: int = 0
    retried: int = 0  # failed, and another follows
    failed: int = 0  # failed, and that was the last one
    letters: int = 0  # dead letters made
    payload: int = 0  # bytes of arguments and results
    queue: Histogram = msgspec.field(default_factory=Histogram)  # published until a worker began
    run: Histogram = msgspec.field(default_factory=Histogram)
    back: Histogram = msgspec.field(default_factory=Histogram)  # ended until the orchestrator decided upon it

    @property
    def attempts(self) -> int:
        return self.completed + self.retried + self.failed

    def merge(self, other: TaskFigures) -> None:
        self.completed += other.completed
        self.retried += other.retried
        self.failed += other.failed
        self.letters += other.letters
        self.payload += other.payload
        self.queue.merge(other.queue)
        self.run.merge(other.run)
        self.back.merge(other.back)


class WorkflowFigures(msgspec.Struct, array_like=True):
    """Executions of one workflow, and the tasks that they called."""

    started: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    terminated: int = 0
    took: Histogram = msgspec.field(default_factory=Histogram)  # of those completed: from start to end
    tasks: dict[str, TaskFigures] = {}

    @property
    def ended(self) -> int:
        return self.completed + self.failed + self.cancelled + self.terminated

    def task(self, name: str) -> TaskFigures:
        return slot(self.tasks, name, TASKS, TaskFigures)

    def merge(self, other: WorkflowFigures) -> None:
        self.started += other.started
        self.completed += other.completed
        self.failed += other.failed
        self.cancelled += other.cancelled
        self.terminated += other.terminated
        self.took.merge(other.took)
        for name, task in other.tasks.items():
            self.task(name).merge(task)


class ScheduleFigures(msgspec.Struct, array_like=True):
    """Ticks of one schedule. `late`: from when one was due until its execution was started."""

    late: Histogram = msgspec.field(default_factory=Histogram)
    missed: int = 0

    def merge(self, other: ScheduleFigures) -> None:
        self.late.merge(other.late)
        self.missed += other.missed


class Traffic(msgspec.Struct, array_like=True):
    """Messages of one topic."""

    messages: int = 0
    bytes: int = 0

    def merge(self, other: Traffic) -> None:
        self.messages += other.messages
        self.bytes += other.bytes


class Lag(msgspec.Struct, array_like=True):
    """What waits in one consumer group, as the broker tells it. Merged, it is the worst that was seen."""

    topic: str
    group: str
    waiting: int = 0
    in_flight: int | None = 0  # None: not told
    oldest: int | None = None  # microseconds since the oldest was published
    published: int | None = None  # ever
    partitions: int = 0
    hottest: str | None = None  # the partition with most messages
    share: float | None = None

    def merge(self, other: Lag) -> None:
        self.waiting = max(self.waiting, other.waiting)
        self.in_flight = _most(self.in_flight, other.in_flight)
        self.oldest = _most(self.oldest, other.oldest)
        self.published = _most(self.published, other.published)
        self.partitions = max(self.partitions, other.partitions)
        if (other.share or 0) > (self.share or 0):
            self.hottest, self.share = other.hottest, other.share


def _most(*told: int | None) -> int | None:
    return max((each for each in told if each is not None), default=None)


class Figures(msgspec.Struct, array_like=True):
    """All of one process, or of many, over some time."""

    workflows: dict[str, WorkflowFigures] = {}
    sent: dict[str, Traffic] = {}  # by topic: published by orchestrators
    received: dict[str, Traffic] = {}  # by topic: consumed by orchestrators and triggers, duplicates included
    keys: dict[str, Keys] = {}  # by topic
    lag: dict[str, Lag] = {}
    commits: Histogram = msgspec.field(default_factory=Histogram)  # how long the store took
    duplicates: int = 0  # inputs that had been answered before
    poison: int = 0  # messages that nobody could read
    schedules: dict[str, ScheduleFigures] = {}

    def __bool__(self) -> bool:
        measured = self.workflows or self.sent or self.received or self.lag or self.schedules
        return bool(measured or self.commits.buckets or self.poison)

    def workflow(self, name: str) -> WorkflowFigures:
        return slot(self.workflows, name, WORKFLOWS, WorkflowFigures)

    def merge(self, other: Figures) -> None:
        """Take in all that the other has."""
        for name, workflow in other.workflows.items():
            self.workflow(name).merge(workflow)
        for mine, theirs in ((self.sent, other.sent), (self.received, other.received)):
            for topic, traffic in theirs.items():
                slot(mine, topic, TOPICS, Traffic).merge(traffic)
        for topic, keys in other.keys.items():
            slot(self.keys, topic, TOPICS, Keys).merge(keys)
        for name, lag in other.lag.items():
            slot(self.lag, name, TOPICS, partial(Lag, lag.topic, lag.group, in_flight=None)).merge(lag)
        for name, schedule in other.schedules.items():
            slot(self.schedules, name, SCHEDULES, ScheduleFigures).merge(schedule)
        self.commits.merge(other.commits)
        self.duplicates += other.duplicates
        self.poison += other.poison


encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Figures)
decode = _decoder.decode
