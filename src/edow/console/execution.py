"""The page of one execution: what it is, its steps over time, how they hang together, and all that happened."""

from __future__ import annotations

import msgspec

from edow.cli.output import duration
from edow.cli.past import of_run
from edow.cli.timeline import Line
from edow.console.gantt import Bar, Failed, Row, rows
from edow.console.graph import Graph, graph
from edow.console.look import Look, now_us
from edow.console.masking import Masking
from edow.model.execution import ENDED, Execution, Status
from edow.model.failure import PAUSED, Failure
from edow.model.history import AnyEvent
from edow.model.times import rfc3339
from edow.store.contract import DeadLetter, DeadLetterFilter

MOST_ROWS = 200  # steps drawn; of the finished ones the first and the last are kept
MOST_EVENTS = 200  # on one page of the history
MOST_ATTEMPTS = 5  # failed ones of a step that are listed
TIMES = ("retry_at", "due", "started_at")  # fields of events: microseconds since the epoch


class Event(msgspec.Struct, frozen=True):
    """One line of the history. `number` counts from 1."""

    number: int
    at: int
    type: str
    step: str
    body: str


class Drawn(msgspec.Struct, frozen=True):
    """A bar in percent of the time shown."""

    doing: str
    x: float
    width: float
    said: str


class Step(msgspec.Struct, frozen=True):
    line: Line
    bars: list[Drawn]
    at: float  # where a thing that takes no time happened, in percent
    failed: list[Failed]  # the latest attempts


class View(msgspec.Struct, frozen=True):
    row: Execution
    latest: int  # run
    now: int
    failure: Failure | None
    input: str
    result: str
    attributes: str
    progress: str
    steps: list[Step]
    hidden: int
    span: int  # microseconds shown
    graph: Graph
    events: list[Event]
    first: int  # number of the first event shown
    total: int
    letters: list[DeadLetter]

    @property
    def open(self) -> bool:
        return self.row.status not in ENDED

    @property
    def current(self) -> bool:
        return self.row.run == self.latest

    @property
    def paused(self) -> bool:
        """Parked, because somebody wanted it so."""
        return self.row.status is Status.PARKED and self.failure is not None and self.failure.type == PAUSED

    @property
    def resumable(self) -> bool:
        return self.current and self.row.status is Status.PARKED and (self.paused or not self.letters)

    @property
    def waits_for(self) -> list[Line]:
        """The steps that it cannot go on without."""
        return [step.line for step in self.steps if step.line.open]


async def view(look: Look, id: str, run: int | None, first: int) -> View:
    """Raises NotFound."""
    current = await look.execution(id)
    events = await look.history(id, run or current.run)
    row = current if run in (None, current.run) else of_run(current, run or 1, events)
    letters = [] if row.status is not Status.PARKED else await look.letters(DeadLetterFilter(execution=id, limit=50))
    now = now_us()
    until = row.ended_at or max(now, events[-1].at)
    drawn = rows(events)
    shown = _choose(drawn)
    masking = look.masking
    return View(
        row=row,
        latest=current.run,
        now=now,
        failure=None if row.failure is None else msgspec.json.decode(row.failure, type=Failure),
        input=masking.shown(row.input),
        result=masking.shown(row.result),
        attributes=masking.shown(row.attributes),
        progress=masking.shown(row.progress),
        steps=[_step(each, row.started_at, until) for each in shown],
        hidden=len(drawn) - len(shown),
        span=until - row.started_at,
        graph=graph(events),
        events=_events(events, masking, first),
        first=first,
        total=len(events),
        letters=list(letters),
    )


def _choose(drawn: list[Row]) -> list[Row]:
    """Everything that is not simply done, and of the rest the first and the last."""
    if len(drawn) <= MOST_ROWS:
        return drawn
    open_ones = [each for each in drawn if each.line.state != "done"][:MOST_ROWS]
    done = [each for each in drawn if each.line.state == "done"]
    half = max(20, MOST_ROWS - len(open_ones)) // 2
    kept = {id(each) for each in [*open_ones, *done[:half], *done[-half:]]}
    return [each for each in drawn if id(each) in kept]


def _step(row: Row, since: int, until: int) -> Step:
    span = max(1, until - since)
    bars = [_drawn(bar, since, until, span) for bar in row.bars]
    bars.sort(key=lambda bar: bar.doing == "failed")  # drawn last: however short, it is to be seen
    return Step(row.line, bars, _percent(row.line.at - since, span), row.failed[-MOST_ATTEMPTS:])


def _drawn(bar: Bar, since: int, until: int, span: int) -> Drawn:
    x = _percent(bar.since - since, span)
    width = _percent((bar.until or until) - bar.since, span)
    return Drawn(bar.doing, x, max(0.25, min(width, 100 - x)), bar.said)


def _percent(part: int, whole: int) -> float:
    return round(max(0.0, min(100.0, part / whole * 100)), 2)


def _events(events: list[AnyEvent], masking: Masking, first: int) -> list[Event]:
    found = []
    for number, event in enumerate(events[first - 1 : first - 1 + MOST_EVENTS], first):
        fields = msgspec.json.encode(event)
        body = msgspec.json.decode(fields)
        kind, step = str(body.pop("type", "")), str(body.pop("step", ""))
        body.pop("at", None)
        body |= {name: rfc3339(body[name]) for name in TIMES if body.get(name)}
        if body.get("duration"):
            body["duration"] = duration(body["duration"])
        if isinstance(failure := body.get("failure"), dict):
            failure.pop("stack", None)  # shown with the execution
        found.append(Event(number, event.at, kind, step, masking.short(msgspec.json.encode(body), 600) if body else ""))
    return found


MEANINGS = {
    "waiting": "waits for a worker",
    "running": "runs",
    "attempt": "waits or runs",
    "failed": "failed attempt",
    "backoff": "waits for the next attempt",
    "sleeping": "sleeps",
    "child": "child execution",
    "parked": "waits for a person",
    "done": "result on its way",
}
