"""Alerts: what somebody should know now. Which hold follows from what is seen; how long each has held is stored."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from edow.errors import InvalidInput
from edow.kpi.figures import Figures
from edow.kpi.slo import LONGEST, Evaluation, Severity, said_of_budget, times
from edow.kpi.waiting import InVain, Unanswered
from edow.model.topics import WORKERS

MOST = 1_000_000_000
SAID_SECONDS = 60.0  # a worker that is at a task has said so by then

Kind = Literal["burn_rate", "stuck", "dead_letters", "lag"]


class Thresholds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From when on there is an alert. `dead_letters` of a task within ten minutes, and that share of its attempts; a
    message that waits for `oldest_seconds`, or so many `waiting` (None: however many) in a consumer group; a command
    that waits for `inbox_seconds`; so many `overdue` executions.
    """

    dead_letters: int = 5
    dead_letter_share: float = 0.05
    oldest_seconds: float = 60.0
    waiting: int | None = None
    inbox_seconds: float = 60.0
    overdue: int = 1

    def checked(self) -> Thresholds:
        """Raises InvalidInput."""
        for name in ("dead_letters", "waiting", "overdue"):
            count = getattr(self, name)
            if count is not None and not 1 <= count <= MOST:
                raise InvalidInput(f"threshold {name}={count} is not possible: give 1 to {MOST:,}")
        share = self.dead_letter_share
        if not 0 <= share < 1:
            raise InvalidInput(f"threshold dead_letter_share={share!r} is not a share: give one like 5% or 0.05")
        for name in ("oldest_seconds", "inbox_seconds"):
            length = getattr(self, name)
            if not 1 <= length <= LONGEST:
                raise InvalidInput(f"threshold {name}={length!r} is not possible: give 1s to 90d")
        return self


class Condition(msgspec.Struct, frozen=True):
    """Something that holds now. `subject`: the SLO, the task, the topic and group."""

    kind: Kind
    subject: str
    severity: Severity
    message: str

    @property
    def name(self) -> str:
        """What is a page and then a ticket is two alerts, one after the other."""
        return f"{self.kind}/{self.severity}/{self.subject}"


class Alert(msgspec.Struct, kw_only=True):
    """A condition from when it was first seen until it was no more. Microseconds."""

    id: str
    kind: Kind
    subject: str
    severity: Severity
    message: str
    since: int
    until: int | None = None


def burning(evaluations: Iterable[Evaluation]) -> Iterable[Condition]:
    for each in evaluations:
        severity = each.severity
        if severity is not None:
            rate = max(min(burn.long_rate, burn.short_rate) for burn in each.burns if burn.fires)
            pace = f"{times(rate)} " if rate >= 1.05 else ""
            message = f"the error budget goes {pace}as fast as it may: {said_of_budget(each.budget_left)}"
            yield Condition("burn_rate", each.objective.name, severity, message)


def stuck(overdue: int, inbox_oldest_seconds: float, limits: Thresholds) -> Iterable[Condition]:
    """`overdue`: executions that should have been looked at 10 seconds ago."""
    if overdue >= limits.overdue:
        yield Condition("stuck", "executions", "page", f"{overdue} executions make no progress: see `edow doctor`")
    elif inbox_oldest_seconds > limits.inbox_seconds:
        message = f"nobody has taken a command for {inbox_oldest_seconds:.0f} s: is an orchestrator running?"
        yield Condition("stuck", "inbox", "page", message)


def untaken(waits: InVain | None) -> Iterable[Condition]:
    if waits is not None:
        message = f"no worker takes tasks of {', '.join(waits.topics)}, the oldest waits for {waits.seconds:.0f} s"
        yield Condition("stuck", "tasks", "page", f"{message}: start one")


def dying(figures: Figures, limits: Thresholds) -> Iterable[Condition]:
    """Tasks of which too many attempts end as dead letters, within the time of the figures."""
    for name, workflow in figures.workflows.items():
        for task, each in workflow.tasks.items():
            share = each.letters / each.attempts if each.attempts else 1.0
            if each.letters >= limits.dead_letters and share > limits.dead_letter_share:
                message = f"{each.letters} dead letters of {each.attempts} attempts: see `edow dlq list --task {task}`"
                yield Condition("dead_letters", f"{name}/{task}", "ticket", message)


def lagging(figures: Figures, limits: Thresholds) -> Iterable[Condition]:
    """Groups whose oldest message waits for too long, or in which too many wait."""
    for lag in figures.lag.values():
        seconds = (lag.oldest or 0) / 1_000_000
        many = limits.waiting is not None and lag.waiting >= limits.waiting
        if lag.waiting and (many or seconds > limits.oldest_seconds):
            oldest = "" if lag.oldest is None else f", the oldest for {seconds:.0f} s"
            message = f"{lag.waiting:,} messages wait{oldest}: start more workers"
            yield Condition("lag", f"{lag.topic} {lag.group}", "ticket", message)


def late(out: Iterable[Unanswered], limits: Thresholds, now: int) -> Iterable[Condition]:
    """The same by what orchestrators know, where the broker does not tell how old its messages are."""
    for each in out:
        seconds = 0.0 if each.since is None else (now - each.since) / 1_000_000
        if seconds > max(limits.oldest_seconds, SAID_SECONDS):
            message = f"{each.tasks:,} tasks are not answered, the oldest waits for {seconds:.0f} s: start more workers"
            yield Condition("lag", f"{each.topic} {WORKERS}", "ticket", message)
