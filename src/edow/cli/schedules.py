"""`edow schedule`: workflows that are started at the times of a calendar. They need no code, only the store."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import msgspec
import typer
from rich.text import Text

from edow.cli import options, output
from edow.cli.binding import load_code
from edow.cli.commands import answer, answer_all, group
from edow.cli.failure import note
from edow.cli.jsons import print_json, read_parameters
from edow.cli.options import one_of
from edow.cli.session import with_client
from edow.client import Client
from edow.errors import InvalidInput
from edow.trigger.schedules import Schedule, ScheduleView
from edow.trigger.schedules.definition import OVERLAPS
from edow.trigger.schedules.desk import MOST_BACKFILLED, MOST_NEXT
from edow.trigger.schedules.views import Run
from edow.trigger.schedules.zones import zone_named

STATE_STYLES = {"active": "green", "paused": "bold yellow", "finished": "dim"}
PAGE = 500
MAX_LIMIT = 10_000

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the schedule.", show_default=False)]
OverlapOption = Annotated[
    str | None,
    typer.Option("--overlap", help=f"When the last run still goes on: {', '.join(OVERLAPS)}.", show_default="skip"),
]
Module = Annotated[
    list[str] | None, typer.Option("--module", "-m", help="Code to check workflow and input against; repeatable.")
]
Version = Annotated[int | None, typer.Option("--if-version", help="Only if this is its version still.")]
Note = Annotated[str, typer.Option("--note", help="Why it is paused.")]
DROPPABLE = ("anchor", "start", "end", "runs")


def build() -> typer.Typer:
    """The group of commands."""
    return group(
        "Schedules: workflows started at the times of a calendar.",
        {
            "create": create,
            "list": list_schedules,
            "show": show,
            "update": update,
            "pause": pause,
            "resume": resume,
            "trigger": trigger,
            "backfill": backfill,
            "cancel-backfills": cancel_backfills,
            "delete": delete,
        },
    )


class Wanted(msgspec.Struct, frozen=True):
    """What was given of a definition."""

    given: options.Input = None
    cron: Annotated[
        str | None,
        typer.Option(
            "--cron", metavar="TEXT", help="Minute, hour, day, month, weekday: '30 2 * * MON-FRI'; or @daily."
        ),
    ] = None
    every: Annotated[
        str | None, typer.Option("--every", metavar="DURATION", help="Instead of --cron: like 90s or 1h30m.")
    ] = None
    anchor: Annotated[
        str | None,
        typer.Option("--anchor", metavar="TIME", help="Count --every from here.", show_default="1970-01-01T00:00:00Z"),
    ] = None
    timezone: Annotated[
        str | None, typer.Option("--timezone", metavar="ZONE", help="Like Europe/Berlin.", show_default="UTC")
    ] = None
    jitter: Annotated[
        str | None, typer.Option("--jitter", metavar="DURATION", help="Each tick is late by up to this.")
    ] = None
    overlap: OverlapOption = None
    catch_up: Annotated[
        str | None,
        typer.Option("--catch-up", metavar="DURATION", help="Make up for ticks not longer ago.", show_default="1d"),
    ] = None
    start: Annotated[str | None, typer.Option("--start", metavar="TIME", help="No tick before.")] = None
    end: Annotated[str | None, typer.Option("--end", metavar="TIME", help="No tick after.")] = None
    runs: Annotated[int | None, typer.Option("--runs", metavar="N", help="No more ticks than so many.")] = None

    def of(self, old: Schedule) -> Schedule:
        """`old` with it."""
        zone = zone_named(self.timezone or old.timezone)
        changes: dict[str, Any] = {"every": None, "anchor": None} if self.cron else {}
        changes |= {"cron": None} if self.every else {}
        for name in ("cron", "every", "timezone", "jitter", "overlap", "catch_up", "runs"):
            if (value := getattr(self, name)) is not None:
                changes[name] = value
        for name in ("anchor", "start", "end"):
            if (value := getattr(self, name)) is not None:
                changes[name] = _time(f"--{name}", value, zone)
        if self.given is not None:
            changes["input"] = read_parameters(self.given)
        return msgspec.structs.replace(old, **changes)


def create(  # noqa: PLR0913  # options
    name: Name,
    *,
    workflow: Annotated[str, typer.Argument(metavar="WORKFLOW", help="Name of the workflow.", show_default=False)],
    wanted: Wanted,
    paused: Annotated[bool, typer.Option("--paused", help="Do not begin before `edow schedule resume`.")] = False,
    reason: Note = "",
    module: Module = None,
    store: options.Store = None,
    as_json: options.Json = False,
) -> None:
    """Make a schedule. Its first tick is the first from now on.

    Strings in --input may hold {{scheduled_time}} (UTC), {{scheduled_local}}, {{scheduled_date}} and {{schedule}}.
    """
    made = wanted.of(Schedule(workflow=workflow))
    code = None if module is None else load_code(module).workflow(workflow)

    async def work(client: Client) -> ScheduleView:
        return await client.schedules().create(name, made, paused=paused, note=reason, workflow=code)

    _tell("created", with_client(store, work, create=True), as_json)


def update(  # noqa: PLR0913  # options
    name: Name,
    *,
    workflow: Annotated[str | None, typer.Option("--workflow", "-w", help="Another workflow.")] = None,
    wanted: Wanted,
    drop: Annotated[
        list[str] | None, typer.Option("--drop", metavar="OPTION", help="anchor, start, end or runs; repeatable.")
    ] = None,
    version: Version = None,
    module: Module = None,
    store: options.Store = None,
    as_json: options.Json = False,
) -> None:
    """Change what is given of a schedule and keep the rest; other times count from now on."""
    changed: dict[str, Any] = dict.fromkeys(one_of("--drop", each, DROPPABLE) for each in drop or ())
    if workflow is not None:
        changed["workflow"] = workflow
    registry = None if module is None else load_code(module)

    async def work(client: Client) -> ScheduleView:
        code = None
        if registry is not None:
            code = registry.workflow(workflow or (await client.schedules().get(name)).schedule.workflow)
        return await client.schedules().update(
            name, lambda old: wanted.of(msgspec.structs.replace(old, **changed)), if_version=version, workflow=code
        )

    _tell("updated", with_client(store, work), as_json)


def list_schedules(
    prefix: Annotated[str, typer.Option("--prefix", help="Only names that begin so.")] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", help="At most so many.", min=1, max=MAX_LIMIT)] = 100,
    store: options.Store = None,
    utc: options.Utc = False,
    as_json: options.Json = False,
) -> None:
    """List schedules by name."""

    async def work(client: Client) -> list[ScheduleView]:
        found: list[ScheduleView] = []
        page = await client.schedules().list(prefix, limit=min(limit + 1, PAGE))
        while page and len(found) <= limit:
            found += page
            page = await client.schedules().list(prefix, page[-1].name, limit=PAGE)
        return found

    found = with_client(store, work)
    table = output.table("name", "workflow", "when", "zone", "state", "next", "last", flexible=("when",))

    def row(each: ScheduleView) -> tuple[str | Text, ...]:
        following = _moment(each.next[0], each, utc) if each.next else "-"
        last = _became(each.recent[0]) if each.recent else "-"
        what = each.schedule
        return each.name, what.workflow, _when(what), what.timezone, _state(each), following, last

    none = "there are no schedules" + (" that begin so" if prefix else "")
    answer_all(found[:limit], table, row, none, as_json)
    if len(found) > limit and not as_json:
        note(f"there are more than {limit}: use --limit, or --prefix")


def show(
    name: Name,
    count: Annotated[int, typer.Option("--next", min=0, max=MOST_NEXT, help="Show so many ticks to come.")] = 5,
    store: options.Store = None,
    utc: options.Utc = False,
    as_json: options.Json = False,
) -> None:
    """Show a schedule: its next ticks, and what became of the last. Times are in its own zone."""
    found = with_client(store, lambda client: client.schedules().get(name, count))
    if as_json:
        print_json(found)
        return
    output.show(output.facts(_facts(found, utc)))
    if found.recent:
        table = output.table("tick", "became", "status", "execution")
        for each in found.recent:
            table.add_row(
                _moment(each.scheduled_at, found, utc),
                each.became + ("" if each.cause == "tick" else f" ({each.cause})"),
                output.status(each.status or "-"),
                each.execution or "-",
            )
        output.show("", table)


def pause(
    name: Name,
    reason: Note = "",
    store: options.Store = None,
    as_json: options.Json = False,
) -> None:
    """No ticks until it is resumed. What runs goes on."""
    _tell("paused", with_client(store, lambda client: client.schedules().pause(name, reason)), as_json)


def resume(
    name: Name,
    store: options.Store = None,
    as_json: options.Json = False,
) -> None:
    """Go on with the first tick from now on."""
    _tell("resumed", with_client(store, lambda client: client.schedules().resume(name)), as_json)


def trigger(
    name: Name,
    overlap: OverlapOption = None,
    store: options.Store = None,
    as_json: options.Json = False,
) -> None:
    """Run it now, whatever its calendar says, also while it is paused."""
    policy = None if overlap is None else one_of("--overlap", overlap, OVERLAPS)
    found = with_client(store, lambda client: client.schedules().trigger(name, policy))
    if as_json:
        print_json({"name": name, "became": found.became, "execution": found.execution or None})
    elif found.execution:
        print(found.execution)
    else:
        note(f"{found.became}: an execution of {name} still goes on (`edow schedule show {name}`)")


def backfill(  # noqa: PLR0913  # options
    name: Name,
    begin: Annotated[str, typer.Option("--from", metavar="TIME", help="From this moment,", show_default=False)],
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="to this one, both included.", show_default=False)],
    overlap: Annotated[
        str, typer.Option("--overlap", help="buffer_all: one after another; allow_all: at once; ...")
    ] = "buffer_all",
    limit: Annotated[int, typer.Option("--limit", min=1, max=MOST_BACKFILLED, help="Refuse if there are more.")] = 1000,
    store: options.Store = None,
    as_json: options.Json = False,
) -> None:
    """Start the ticks of a past time that have no execution."""
    policy = one_of("--overlap", overlap, OVERLAPS)

    async def work(client: Client) -> int:
        zone = zone_named((await client.schedules().get(name, 0)).schedule.timezone)
        times = _time("--from", begin, zone), _time("--to", end, zone)
        return await client.schedules().backfill(name, *times, overlap=policy, limit=limit)

    count = with_client(store, work)
    answer({"name": name, "ticks": count}, f"backfilling {count} tick{'' if count == 1 else 's'} of {name}", as_json)


def cancel_backfills(name: Name, store: options.Store = None, as_json: options.Json = False) -> None:
    """Start no more ticks of the backfills under way. What runs goes on."""
    count = with_client(store, lambda client: client.schedules().cancel_backfills(name))
    said = f"cancelled {count} backfill{'' if count == 1 else 's'} of {name}"
    answer({"name": name, "backfills": count}, said, as_json)


def delete(
    name: Name,
    version: Version = None,
    store: options.Store = None,
    as_json: options.Json = False,
) -> None:
    """Delete a schedule, and what waits of it. What runs goes on."""
    with_client(store, lambda client: client.schedules().delete(name, if_version=version))
    answer({"name": name, "deleted": True}, f"deleted {name}", as_json)


def _tell(done: str, found: ScheduleView, as_json: bool) -> None:
    following = f"; next at {_moment(found.next[0], found, utc=False)}" if found.next else ""
    answer(found, f"{done} {found.name}{following}", as_json)


def _facts(found: ScheduleView, utc: bool) -> dict[str, Text | str]:
    schedule = found.schedule
    return {
        "schedule": found.name,
        "workflow": schedule.workflow,
        "input": msgspec.json.encode(schedule.input).decode() if schedule.input else "",
        "when": f"{_when(schedule)}  ({schedule.timezone})",
        "state": _state(found),
        "note": found.note,
        "overlap": schedule.overlap,
        "jitter": f"up to {output.duration(float(schedule.jitter) * 1e6)}" if schedule.jitter else "",
        "catches up": output.duration(float(schedule.catch_up) * 1e6),
        "from": _moment(schedule.start, found, utc) if schedule.start else "",
        "until": _moment(schedule.end, found, utc) if schedule.end else "",
        "runs left": "" if found.runs_left is None else str(found.runs_left),
        "next": "\n".join(_moment(each, found, utc) for each in found.next),
        "running": "\n".join(found.running),
        "waiting": f"{len(found.buffered)} ticks" if found.buffered else "",
        "backfilling": "\n".join(f"up to {_moment(each.until, found, utc)}" for each in found.backfills),
        "so far": _counted(found),
        "version": str(found.version),
    }


def _counted(found: ScheduleView) -> str:
    counts = msgspec.structs.asdict(found.counts)
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count or what == "started")


def _when(schedule: Schedule) -> str:
    return schedule.cron or f"every {output.duration(float(schedule.every or 0) * 1e6)}"


def _state(found: ScheduleView) -> Text:
    return Text(found.state, style=STATE_STYLES[found.state])


def _became(last: Run) -> Text:
    return output.status(last.status) if last.status else Text(last.became)


def _moment(at: datetime, found: ScheduleView, utc: bool) -> str:
    """In the schedule's zone, with that zone's abbreviation."""
    local = at if utc else at.astimezone(zone_named(found.schedule.timezone))
    return f"{local:%a %Y-%m-%d %H:%M:%S %Z}"


def _time(option: str, given: str, zone: ZoneInfo) -> datetime:
    """A time without an offset is one of the schedule's zone."""
    try:
        found = datetime.fromisoformat(given)
    except ValueError:
        raise InvalidInput(f"{option} {given!r} is no time; write it like 2026-11-28T20:00 or 2026-11-28") from None
    return found if found.tzinfo is not None else found.replace(tzinfo=zone)
