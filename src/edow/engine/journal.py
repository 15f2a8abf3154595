"""What the code does against what history recorded. Doings are matched by step key, never by position.

Promises that a doing which history has is not recorded twice, that one which history lacks is kept and becomes live,
and that a real disagreement is told with the step, what was recorded and what the code asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar, get_args

from edow.engine.scope import Scope
from edow.errors import Disagreement, InvalidInput
from edow.model import history as h
from edow.model.failure import Failure
from edow.workflow.failures import type_name

Keyed = h.TaskScheduled | h.TimerStarted | h.ChildStarted | h.SignalSent | h.SideEffect
K = TypeVar("K", h.TaskScheduled, h.TimerStarted, h.ChildStarted, h.SignalSent, h.SideEffect)
KEYED = frozenset(get_args(Keyed))
ENDS = frozenset(get_args(h.End))
INPUTS = frozenset(get_args(h.Input))


class Journal:
    """Of one run. `fresh` holds what the next decision will append to history."""

    def __init__(self) -> None:
        self.fresh: list[h.AnyEvent] = []
        self.length = 0  # logical position: the same here in a replay as it was live
        self.disagreement: Failure | None = None
        self._recorded: dict[str, Keyed] = {}  # of history, not asked for yet
        self._recorded_cancels: set[str] = set()
        self._unnumbered: dict[type, int] = {h.AttributesSet: 0, h.ProgressSet: 0}
        self._end: h.End | None = None
        self._asked: list[str] = []  # since the last input, and not in history
        self._explicit: set[str] = set()

    # What the code does

    def claim(self, step: str, root: Scope) -> str:
        """An explicit step name: once in a run."""
        if step in self._explicit or step in root.counts:
            raise InvalidInput(f"step {step!r} was used before in this run: an explicit step= has to be unique")
        self._explicit.add(step)
        return step

    def count(self, name: str, scope: Scope) -> str:
        """The key of a step that nobody has named."""
        key = scope.key(name)
        if key in self._explicit:
            raise InvalidInput(
                f"step {key!r} was used before in this run, by an explicit step=, and is also what this call is called "
                "by itself: name that one otherwise, or give this one a step= of its own"
            )
        return key

    def recorded(self, step: str) -> Keyed | None:
        """What history has under this key and the code has not asked for yet."""
        return self._recorded.get(step)

    def issue(self, event: K) -> K | None:
        """The doing in history that this one repeats; None when it is new, and recorded now."""
        self.length += 1
        if self._recorded:
            found = self._recorded.pop(event.step, None)
            if found is not None:
                return self._matched(event, found)
        if self._end is not None or self._recorded:
            self._asked.append(told(event))
        self.fresh.append(event)
        return None

    def issue_cancel(self, event: h.StepCancelled) -> bool:
        """False when history has it."""
        self.length += 1
        if event.step in self._recorded_cancels:
            self._recorded_cancels.discard(event.step)
            return False
        self.fresh.append(event)
        return True

    def issue_unnumbered(self, event: h.AttributesSet | h.ProgressSet) -> bool:
        """These only inform: the first so many repeat history, False, the others are new."""
        self.length += 1
        if self._unnumbered[type(event)]:
            self._unnumbered[type(event)] -= 1
            return False
        self.fresh.append(event)
        return True

    def issue_end(self, event: h.End) -> None:
        self.length += 1
        if self._end is None:
            self.fresh.append(event)
        elif type(self._end) is not type(event):
            self._disagree("", _told_end(self._end), _told_end(event))

    def record(self, event: h.AnyEvent) -> None:
        """Something that reached the execution."""
        self.length += 1
        self.fresh.append(event)

    # Replay

    def expect(self, events: Iterable[h.AnyEvent]) -> None:
        """These are recorded."""
        for event in events:
            kind = type(event)
            if kind in KEYED:
                self._recorded[event.step] = event  # type: ignore[union-attr, assignment]
            elif isinstance(event, h.StepCancelled):
                self._recorded_cancels.add(event.step)
            elif kind in self._unnumbered:
                self._unnumbered[kind] += 1
            elif kind in ENDS:
                self._end = event  # type: ignore[assignment]

    def next_input(self) -> None:
        self.length += 1
        self._asked.clear()

    def confirm(self, event: h.AnyEvent, ended: bool) -> None:
        """The replay has come to this doing: the code must have asked for it by now."""
        if type(event) in KEYED:
            found = self._recorded.get(event.step)  # type: ignore[union-attr]
            if found is not None:
                self._disagree(found.step, f"{told(found)} here", self._told_asked())
        elif isinstance(event, h.StepCancelled):
            if event.step in self._recorded_cancels:
                what = f"that step {event.step!r} was cancelled here"
                self._disagree(event.step, what, "its result still")
        elif type(event) in ENDS and not ended:
            self._disagree("", _told_end(event), self._told_asked())  # type: ignore[arg-type]

    def _told_asked(self) -> str:
        return f"{self._asked[0]} instead" if self._asked else "nothing new at this point"

    def _matched(self, event: K, found: Keyed) -> K | None:
        if type(found) is type(event) and _name(found) == _name(event):
            return found
        self._disagree(event.step, told(found), f"{told(event)} instead")
        return None

    def _disagree(self, step: str, recorded: str, asked: str) -> None:
        if self.disagreement is None:
            self.disagreement = Failure(
                type=type_name(Disagreement),
                message=f"history recorded {recorded}; the code asked for {asked}. "
                "Deploy code that fits this history, then resume the execution.",
                step=step,
                retryable=False,
            )


def told(event: Keyed) -> str:
    """For people: step 'charge' (task charge)."""
    match event:
        case h.TaskScheduled():
            what = f"task {event.task}"
        case h.ChildStarted():
            what = f"child workflow {event.workflow}"
        case h.SignalSent():
            what = f"signal {event.name!r}"
        case h.TimerStarted():
            what = "a timer"
        case _:
            what = "a side effect"
    return f"step {event.step!r} ({what})"


def _name(event: Keyed) -> str:
    match event:
        case h.TaskScheduled():
            return event.task
        case h.ChildStarted():
            return event.workflow
        case h.SignalSent():
            return event.name
        case _:
            return ""


def _told_end(event: h.End) -> str:
    return f"that the workflow ended here ({type(event).__name__})"
