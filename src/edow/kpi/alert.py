"""Alerts: what somebody should know now. Which hold follows from what is seen; how long each has held is stored."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from edow.kpi.figures import Figures
from edow.kpi.slo import Evaluation, Severity

MINUTE = 60
LETTERS_AT_LEAST = 5
LETTERS_SHARE = 0.05  # of the attempts that ended
OLDEST_SECONDS = 60.0  # a message that waits for longer has nobody who takes it, or too few

Kind = Literal["burn_rate", "stuck", "dead_letters", "lag"]


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
            message = f"the error budget goes {rate:.1f} times as fast as it may; {each.budget_left:.0%} of it is left"
            yield Condition("burn_rate", each.objective.name, severity, message)


def stuck(overdue: int, inbox_oldest_seconds: float) -> Iterable[Condition]:
    """`overdue`: executions that should have been looked at 10 seconds ago."""
    if overdue:
        yield Condition("stuck", "executions", "page", f"{overdue} executions make no progress: see `edow doctor`")
    elif inbox_oldest_seconds > OLDEST_SECONDS:
        message = f"nobody has taken a command for {inbox_oldest_seconds:.0f} s: is an orchestrator running?"
        yield Condition("stuck", "inbox", "page", message)


def dying(figures: Figures) -> Iterable[Condition]:
    """Tasks of which too many attempts end as dead letters, within the time of the figures."""
    for name, workflow in figures.workflows.items():
        for task, each in workflow.tasks.items():
            share = each.letters / each.attempts if each.attempts else 1.0
            if each.letters >= LETTERS_AT_LEAST and share > LETTERS_SHARE:
                message = f"{each.letters} dead letters of {each.attempts} attempts: see `edow dlq list --task {task}`"
                yield Condition("dead_letters", f"{name}/{task}", "ticket", message)


def lagging(figures: Figures) -> Iterable[Condition]:
    """Groups whose oldest message waits for too long."""
    for lag in figures.lag.values():
        seconds = (lag.oldest or 0) / 1_000_000
        if lag.waiting and seconds > OLDEST_SECONDS:
            message = f"{lag.waiting:,} messages wait, the oldest for {seconds:.0f} s: start more workers"
            yield Condition("lag", f"{lag.topic} {lag.group}", "ticket", message)
