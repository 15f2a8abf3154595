"""Counts what one process has committed. It is on the path of every step, so each line here costs speed.

Times are differences of two clocks where a worker is on another machine; what comes out negative counts as nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from edow.kpi.figures import SCHEDULES, TOPICS, Figures, ScheduleFigures, TaskFigures, Traffic, WorkflowFigures, slot
from edow.kpi.keys import Keys
from edow.model.attempted import Attempted
from edow.model.execution import Execution, Status
from edow.model.message import Message


class Meter:
    """`figures` are those since the last `take`. Not thread-safe: all of it belongs to one event loop."""

    def __init__(self) -> None:
        self.figures = Figures()
        self.served_since = 0  # when the process got the shards that it has
        self.progress_at = 0  # of the last commit
        self.first_progress_at = 0  # of the first one since `watch`
        self.heard_at = 0  # when a worker's last word was committed

    def take(self) -> Figures:
        """What was counted since this was last called."""
        taken, self.figures = self.figures, Figures()
        return taken

    def watch(self) -> None:
        """From now on the next commit is the first."""
        self.first_progress_at = 0

    def serves(self, now: int) -> None:
        """The process has got other shards."""
        self.served_since = now
        self.watch()

    def progressed(self, now: int) -> None:
        self.progress_at = now
        if not self.first_progress_at:
            self.first_progress_at = now

    def attempts(self, ended: Iterable[tuple[str, Sequence[Attempted]]], now: int) -> None:
        """Attempts that have ended, by workflow, decided upon `now`."""
        of_workflows: defaultdict[str, list[Attempted]] = defaultdict(list)
        for workflow, attempts in ended:
            of_workflows[workflow] += attempts
        for workflow, attempts in of_workflows.items():
            figures = self.figures.workflow(workflow)
            groups: defaultdict[str, list[Attempted]] = defaultdict(list)
            for each in attempts:
                groups[each.task].append(each)
            for task, group in groups.items():
                _add(figures.task(task), group, now)

    def executions(self, started: Iterable[str], ended: Iterable[Execution]) -> None:
        """Executions that have begun, by the name of their workflows, and such that have ended."""
        figures = self.figures
        for workflow, count in Counter(started).items():
            figures.workflow(workflow).started += count
        took: dict[str, list[int]] = {}
        for each in ended:
            if each.status is Status.COMPLETED:
                took.setdefault(each.workflow, []).append((each.ended_at or 0) - each.started_at)
            else:
                _came_to_nothing(figures.workflow(each.workflow), each.status)
        for workflow, times in took.items():
            found = figures.workflow(workflow)
            found.completed += len(times)
            found.took.add(times)

    def dead_letter(self, workflow: str, task: str) -> None:
        self.figures.workflow(workflow).task(task).letters += 1

    def sent(self, messages: Iterable[Message]) -> None:
        """Published, in any order."""
        of_topics: defaultdict[str, list[Message]] = defaultdict(list)
        for message in messages:
            of_topics[message.topic].append(message)
        for topic, mine in of_topics.items():
            found = slot(self.figures.sent, topic, TOPICS, Traffic)
            found.messages += len(mine)
            found.bytes += sum([len(each.body) for each in mine])
            keys = [each.key for each in mine if each.key is not None]
            if keys:
                slot(self.figures.keys, topic, TOPICS, Keys).add(Counter(keys))

    def ticks(self, schedule: str, late: Sequence[int], missed: int) -> None:
        """Of a schedule: how late those were that have started executions, and how many were missed."""
        found = slot(self.figures.schedules, schedule, SCHEDULES, ScheduleFigures)
        found.late.add(late)
        found.missed += missed

    def received(self, topic: str, messages: int, size: int) -> None:
        found = slot(self.figures.received, topic, TOPICS, Traffic)
        found.messages += messages
        found.bytes += size


def _add(task: TaskFigures, group: Sequence[Attempted], now: int) -> None:
    became = [each.became for each in group]
    retried, failed = became.count("retried"), became.count("failed")
    task.completed += len(group) - retried - failed
    task.retried += retried
    task.failed += failed
    task.payload += sum([each.payload for each in group])
    began = [each for each in group if each.started_at]
    task.queue.add([each.started_at - each.published_at for each in began if each.published_at])
    task.run.add([each.duration for each in began])
    task.back.add([now - each.started_at - each.duration for each in began])


def _came_to_nothing(workflow: WorkflowFigures, status: Status) -> None:
    match status:
        case Status.FAILED:
            workflow.failed += 1
        case Status.CANCELLED:
            workflow.cancelled += 1
        case Status.TERMINATED:
            workflow.terminated += 1
