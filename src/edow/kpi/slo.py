"""Service level objectives: how much may go wrong, how much has, and how fast, after Google's SRE workbook, chapter 5.

An execution that was cancelled or terminated is neither good nor bad: somebody wanted that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import msgspec

from edow.errors import InvalidInput
from edow.kpi.figures import Figures

MINUTE = 60.0
HOUR = 3600.0
DAY = 24 * HOUR
LONGEST = 90 * DAY  # figures are kept for so long
ROUNDING = 1e-9
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
LONGEST_NAME = 500
MOST_RULES = 10


Severity = Literal["page", "ticket"]


class Rule(NamedTuple):
    """Tell somebody when so much of the budget went within `long`, and it still goes as fast: within `short`."""

    severity: Severity
    budget: float
    long: float
    short: float

    def threshold(self, objective: Objective) -> float:
        """The burn rate at which that much goes in that time; below 1 the objective is kept, which alerts nobody."""
        return max(1.0, self.budget * objective.window / self.long)

    def check(self, objective: Objective) -> None:
        """Raises InvalidInput."""
        of = f"of an alert of SLO {objective.name!r}"
        if not 0 < self.budget <= 1:
            raise InvalidInput(f"budget={self.budget!r} {of} is not a share of the error budget: give 2% or 0.02")
        if not MINUTE <= self.short < self.long <= objective.window:
            raise InvalidInput(
                f"long={self.long:g} s and short={self.short:g} s {of} are not possible: give at least a minute, short "
                "below long, and no more than the window of the SLO"
            )
        if self.budget * objective.window < self.long * (1 - ROUNDING):
            raise InvalidInput(
                f"budget={self.budget:g} {of} may go in long={self.long:g} s without missing the objective: give more "
                f"than {self.long / objective.window:.3g}, or a shorter time"
            )


class Objective(msgspec.Struct, frozen=True, kw_only=True):
    """`target` of the workflow's executions are good: they complete and, where `within` (seconds) is given, in time."""

    name: str
    workflow: str
    target: float
    within: float | None = None
    window: float = 30 * DAY  # seconds
    rules: tuple[Rule, ...] = ()  # when to tell somebody; none: RULES
    since: int = 0  # microseconds: when it was made; what ended before is counted, but alerts nobody

    def checked(self) -> Objective:
        """Raises InvalidInput."""
        if not NAME.fullmatch(self.name):
            form = "use 1 to 100 letters, digits, dots, - and _, a letter or digit first"
            raise InvalidInput(f"SLO name {self.name!r:.120}: {form}")
        if not 0 < len(self.workflow) <= LONGEST_NAME:
            raise InvalidInput(f"SLO {self.name!r} has no workflow, or one with too long a name: name one")
        if not 0 < self.target < 1:
            raise InvalidInput(f"target {self.target!r} of SLO {self.name!r} is not a share: give 99.9% or 0.999")
        if self.within is not None and not 0 < self.within <= LONGEST:
            raise InvalidInput(f"within={self.within!r} of SLO {self.name!r} is not a time: give a positive duration")
        if not HOUR <= self.window <= LONGEST:
            raise InvalidInput(f"window={self.window!r} of SLO {self.name!r} is not possible: give 1h to 90d")
        if len(self.rules) > MOST_RULES:
            raise InvalidInput(f"SLO {self.name!r} has {len(self.rules)} alerts: at most {MOST_RULES} are possible")
        for rule in self.rules:
            rule.check(self)
        return self


class Tally(NamedTuple):
    """Executions that ended in some time."""

    good: int = 0
    total: int = 0

    @property
    def bad_share(self) -> float:
        return (self.total - self.good) / self.total if self.total else 0.0


def tally(objective: Objective, figures: Figures) -> Tally:
    """Those that count for the objective. Who is within 2 % of its time may be on either side."""
    workflow = figures.workflows.get(objective.workflow)
    if workflow is None:
        return Tally()
    within = objective.within
    good = workflow.completed if within is None else workflow.took.at_most(within * 1_000_000)
    return Tally(good, workflow.completed + workflow.failed)


RULES = (  # of a window of 30 days: burn rates of 14.4, 6 and 1
    Rule("page", 0.02, HOUR, HOUR / 12),
    Rule("page", 0.05, 6 * HOUR, HOUR / 2),
    Rule("ticket", 0.10, 3 * DAY, 6 * HOUR),
)
SHORTEST = 5 * MINUTE, MINUTE  # long and short window: in less there are too few executions, and figures are too coarse
MOST_AT_ONCE = 0.5  # of the budget, before anybody is told


class Burn(msgspec.Struct, frozen=True):
    """How fast the budget goes: 1 would use up all of it in just the objective's window."""

    severity: Severity
    long_seconds: float
    short_seconds: float
    long_rate: float
    short_rate: float
    threshold: float
    fires: bool


class Evaluation(msgspec.Struct, frozen=True):
    """An objective over its window."""

    objective: Objective
    good: int
    total: int
    attained: float | None  # share that was good; None: nothing ended
    budget: float  # executions that may be bad, for as many as there were
    budget_left: float  # share of it; below 0: the objective is missed
    burns: list[Burn]

    @property
    def severity(self) -> Severity | None:
        fired = [burn.severity for burn in self.burns if burn.fires]
        return "page" if "page" in fired else "ticket" if fired else None


def windows(objective: Objective) -> list[float]:
    """Times, in seconds, whose tallies since the objective was made an evaluation needs beside that of its window."""
    return sorted({each for rule in _rules(objective) for each in (rule.long, rule.short)})


def evaluate(objective: Objective, whole: Tally, of: Mapping[float, Tally] | Callable[[float], Tally]) -> Evaluation:
    """`whole`: of the objective's window. `of`: the tally of each of `windows`."""
    look = of if callable(of) else of.__getitem__
    allowed = (1 - objective.target) * whole.total
    bad = whole.total - whole.good
    return Evaluation(
        objective=objective,
        good=whole.good,
        total=whole.total,
        attained=whole.good / whole.total if whole.total else None,
        budget=allowed,
        budget_left=1 - bad / allowed if allowed else 1.0,
        burns=[_burn(rule, objective, look(rule.long), look(rule.short)) for rule in _rules(objective)],
    )


def times(rate: float) -> str:
    """`2 times`, `2.5 times`, `1,200 times`."""
    return f"{f'{rate:,.0f}' if rate >= 10 else f'{rate:.1f}'.removesuffix('.0')} times"


def said_of_budget(left: float) -> str:
    """What a person would say of a share that is left, or overdrawn: `62% left`, `spent 800 times over`."""
    if left >= 0.1:
        return f"{left:.0%} left"
    if left >= 0.001:
        return f"{left:.1%} left"
    spent = 1 - left
    return "none left" if spent < 1.05 else f"spent {times(spent)} over"


def _rules(objective: Objective) -> list[Rule]:
    """The usual ones with times in proportion to the window, so that they mean the same burn rates."""
    if objective.rules:
        return list(objective.rules)
    scaled = [_scaled(rule, objective.window) for rule in RULES]
    return [rule for at, rule in enumerate(scaled) if rule[2:] not in [each[2:] for each in scaled[:at]]]


def _scaled(rule: Rule, window: float) -> Rule:
    part = window / (30 * DAY)
    long, short = max(rule.long * part, SHORTEST[0]), max(rule.short * part, SHORTEST[1])
    as_fast = rule.budget * long / (rule.long * part)
    return Rule(rule.severity, max(min(as_fast, MOST_AT_ONCE), rule.budget), long, short)


def _burn(rule: Rule, objective: Objective, long: Tally, short: Tally) -> Burn:
    allowed = 1 - objective.target
    rates = long.bad_share / allowed, short.bad_share / allowed
    threshold = rule.threshold(objective)
    # No rate exceeds this, so that a lax objective could never tell anybody.
    reachable = min(threshold, 1 / allowed)
    fires = min(rates) >= reachable * (1 - ROUNDING)
    return Burn(rule.severity, rule.long, rule.short, *rates, threshold, fires)
