"""Commands that look: `edow list` and `edow show`. They read the store and change nothing."""

from __future__ import annotations

import time
from typing import Annotated

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from edow.cli import options, output
from edow.cli.failure import note
from edow.cli.jsons import print_json, whole
from edow.cli.options import one_of
from edow.cli.past import of_run
from edow.cli.session import with_client
from edow.cli.timeline import Line, timeline
from edow.client import Client
from edow.client.outcome import is_paused, standing_of
from edow.errors import InvalidInput
from edow.model import history
from edow.model.execution import Execution, Standing
from edow.model.failure import Failure
from edow.store.contract import ExecutionFilter
from edow.workflow.duration import microseconds

MAX_LIMIT = 10_000
SHOWN_STEPS = 200


class Which(msgspec.Struct, frozen=True):
    """Which executions."""

    workflow: Annotated[str | None, typer.Option("--workflow", "-w", help="Only of this workflow.")] = None
    status: Annotated[
        list[str] | None, typer.Option("--status", "-s", help="Only in this status, or retrying or paused; repeatable.")
    ] = None
    prefix: Annotated[str | None, typer.Option("--prefix", help="Only ids that begin so.")] = None
    since: Annotated[str | None, typer.Option("--since", help="Only started within, like 15m, 2h or 7d.")] = None
    attribute: Annotated[
        list[str] | None, typer.Option("--attribute", "-a", metavar="NAME=VALUE", help="Attribute equals; repeatable.")
    ] = None

    def statuses(self) -> list[Standing]:
        return [one_of("--status", each, Standing) for each in self.status or ()]

    def started_after(self) -> int | None:
        """Microseconds since the epoch."""
        return None if self.since is None else now() - microseconds(self.since, "--since ")

    def attributes(self) -> dict[str, str | int | float | bool]:
        return dict(_attribute(each) for each in self.attribute or ())


def list_executions(
    *,
    which: Which,
    limit: Annotated[int, typer.Option("--limit", "-n", help="At most so many.", min=1, max=MAX_LIMIT)] = 50,
    store: options.Store = None,
    utc: options.Utc = False,
    as_json: options.Json = False,
) -> None:
    """List executions, newest first."""
    where = ExecutionFilter(
        workflow=which.workflow,
        status=which.statuses() or None,
        id_prefix=which.prefix,
        started_after=which.started_after(),
        attributes=which.attributes() or None,
        limit=min(limit, 500),
    )
    rows = with_client(store, lambda client: _take(client, where, limit + 1))
    if as_json:
        print_json([_listed(row) for row in rows[:limit]])
    else:
        _print_list(rows[:limit], utc)
        _note_rest(len(rows), limit)


async def _take(client: Client, where: ExecutionFilter, count: int) -> list[Execution]:
    rows: list[Execution] = []
    async for row in client.list(where):
        rows.append(row)
        if len(rows) == count:
            break
    return rows


def _listed(row: Execution) -> dict[str, object]:
    """Without the number of events, which is written down only when something else of the row changes."""
    fields = whole(row)
    del fields["events"]
    return fields


def _note_rest(found: int, limit: int) -> None:
    if found == 0:
        note("no executions match")
    elif found > limit:
        note(f"there are more than {limit}: use --limit, or a filter")


def _print_list(rows: list[Execution], utc: bool) -> None:
    if not rows:
        return
    table = output.table("id", "workflow", "status", "started", "took", right=("took",))
    at = now()
    for row in rows:
        table.add_row(
            row.id,
            row.workflow,
            output.status(standing_of(row)),
            output.moment(row.started_at, utc),
            output.duration((row.ended_at or at) - row.started_at),
        )
    output.show(table)


def show(  # noqa: PLR0913  # options
    id: options.Id,
    raw: Annotated[bool, typer.Option("--history", help="Show the raw events instead of the timeline.")] = False,
    run: Annotated[int | None, typer.Option("--run", help="An earlier run; default: the current one.", min=1)] = None,
    everything: Annotated[bool, typer.Option("--all", help=f"Show all steps, not just {SHOWN_STEPS}.")] = False,
    store: options.Store = None,
    utc: options.Utc = False,
    as_json: options.Json = False,
) -> None:
    """Show an execution: where it stands, and a timeline of its steps."""

    async def work(client: Client) -> tuple[Execution, list[history.AnyEvent]]:
        row = await client.get(id).describe()
        return row, await client.history(id, run or row.run)

    current, events = with_client(store, work)
    row = current if run in (None, current.run) else of_run(current, run or 1, events)
    row.events = len(events)
    if as_json:
        print_json(events if raw else {"execution": whole(row), "timeline": timeline(events)})
    elif raw:
        _print_events(events, utc)
    else:
        _print_execution(row, current.run, utc)
        _print_timeline(timeline(events), everything)


def _print_execution(row: Execution, latest: int, utc: bool) -> None:
    output.show(output.fields(_facts(row, latest, utc)), "")


def _facts(row: Execution, latest: int, utc: bool) -> list[tuple[str, Text | str]]:
    facts: list[tuple[str, Text | str]] = [
        ("execution", row.id + (f"  (run {row.run} of {latest})" if latest > 1 else "")),
        ("workflow", row.workflow),
        ("status", output.status(standing_of(row))),
        ("started", output.moment(row.started_at, utc)),
        ("took" if row.ended_at else "age", output.duration((row.ended_at or now()) - row.started_at)),
        ("input", _text(row.input)),
    ]
    if row.parent is not None:
        facts.append(("child of", f"{row.parent.execution} (step {row.parent.step})"))
    for name, value in (("attributes", row.attributes), ("progress", row.progress), ("result", row.result)):
        if value is not None:
            facts.append((name, _text(value)))
    if row.failure is not None:
        failure = msgspec.json.decode(row.failure, type=Failure)
        if is_paused(row):
            facts.append(("reason", failure.message))
        else:
            facts.append(("failure", Text(f"{failure.type}: {failure.message}", style="red")))
    return facts


def _print_timeline(lines: list[Line], everything: bool) -> None:
    shown, hidden = (lines, 0) if everything else _choose(lines)
    table = output.table(
        "at",
        "step",
        "kind",
        "state",
        "tries",
        "took",
        "ran",
        "what",
        right=("at", "tries", "took", "ran"),
        flexible=("what",),
    )
    start = lines[0].at if lines else 0
    for line in shown:
        _add_line(table, line, start)
    output.show(table)
    if hidden:
        note(f"{hidden} finished steps are not shown: use --all")


def _choose(lines: list[Line]) -> tuple[list[Line], int]:
    """Everything that is not simply done, and of the rest the first and the last."""
    if len(lines) <= SHOWN_STEPS:
        return lines, 0
    done = [position for position, line in enumerate(lines) if line.state == "done"]
    hide = set(done[SHOWN_STEPS // 2 : -(SHOWN_STEPS // 2)])
    return [line for position, line in enumerate(lines) if position not in hide], len(hide)


STATE_STYLES = {
    "done": "green",
    "failed": "bold red",
    "parked": "bold yellow",
    "retrying": "yellow",
    "running": "cyan",
    "scheduled": "cyan",
    "sleeping": "blue",
    "cancelled": "magenta",
}


def _add_line(table: Table, line: Line, start: int) -> None:
    took = "" if line.ended_at in (None, line.at) else output.duration((line.ended_at or 0) - line.at)
    table.add_row(
        output.duration(line.at - start) if line.at != start else "0",
        line.name,
        line.kind,
        Text(line.state, style=STATE_STYLES.get(line.state, "")),
        str(line.attempts or ""),
        took if not line.open else f"{output.duration(now() - line.at)}…",
        "" if line.ran is None else output.duration(line.ran),
        output.one_line(_what(line)),
    )


def _what(line: Line) -> str:
    """The detail, with the moment something is due while it is."""
    if line.due is None or not line.open:
        return line.detail
    left = line.due - now()
    due = f"in {output.duration(left)}" if left > 0 else f"due {output.duration(-left)} ago"
    return f"{due}; {line.detail}" if line.detail else due


def _print_events(events: list[history.AnyEvent], utc: bool) -> None:
    table = output.table("#", "at", "event", "data", right=("#",), flexible=("data",))
    for position, event in enumerate(events):
        data = msgspec.json.decode(msgspec.json.encode(event), type=dict[str, object])
        kind, _ = str(data.pop("type")), data.pop("at")
        shown = msgspec.json.encode(data).decode()
        table.add_row(str(position), output.moment(event.at, utc, exact=True), kind, output.one_line(shown, 500))
    output.show(table)


def _text(value: msgspec.Raw) -> str:
    text = bytes(value).decode("utf-8", "replace")
    return text if len(text) <= 500 else text[:499] + "…"


def now() -> int:
    return time.time_ns() // 1000


def _attribute(given: str) -> tuple[str, str | int | float | bool]:
    """`n=7` is a number, `n="7"` and `n=x` are texts."""
    name, equals, text = given.partition("=")
    if not equals or not name:
        raise InvalidInput(f"--attribute {given!r} is not NAME=VALUE; write it like customer=ada")
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        value = text
    if not isinstance(value, str | int | float | bool):
        raise InvalidInput(f"--attribute {given!r} is neither text, number nor true/false; attributes hold only those")
    return name, value
