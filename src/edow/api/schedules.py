"""`/api/v1/schedules`: workflows that are started at the times of a calendar."""

from __future__ import annotations

from datetime import datetime

import msgspec
from litestar import delete, get, post, put
from litestar.params import FromPath, FromQuery, JSONBody

from edow.api.routes import ACTS, SHOWS, Acting, allows
from edow.trigger.schedules import Overlap, Schedule, ScheduleView
from edow.trigger.schedules.book import Became

TAGS = ["schedules"]


class NewSchedule(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`paused`: it does not begin before it is resumed; `note`: why."""

    name: str
    schedule: Schedule
    paused: bool = False
    note: str = ""


class PauseSchedule(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    note: str = ""


class TriggerSchedule(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`overlap`: instead of the schedule's own policy."""

    overlap: Overlap | None = None


class NewBackfill(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename={"begin": "from", "end": "to"}):
    """Both moments are included. `limit`: it is refused if there are more ticks."""

    begin: datetime
    end: datetime
    overlap: Overlap = "buffer_all"
    limit: int = 1000


class SchedulePage(msgspec.Struct, kw_only=True):
    """`cursor`: for the next page; null on the last."""

    schedules: list[ScheduleView]
    cursor: str | None


class TriggeredSchedule(msgspec.Struct, kw_only=True):
    """`execution`: if one was started."""

    became: Became
    execution: str | None


class CancelledBackfills(msgspec.Struct, kw_only=True):
    """How many were under way."""

    backfills: int


class Backfilled(msgspec.Struct, kw_only=True):
    ticks: int


@get("/schedules", tags=TAGS, summary="List schedules", **allows("read"))
async def list_schedules(
    client: Acting, prefix: FromQuery[str] = "", cursor: FromQuery[str | None] = None, limit: FromQuery[int] = 100
) -> SchedulePage:
    """By name; each with its next tick alone."""
    found = await client.schedules().list(prefix, cursor, limit)
    return SchedulePage(schedules=found, cursor=found[-1].name if len(found) == limit else None)


@post("/schedules", tags=TAGS, summary="Make a schedule", **allows("operate", 409))
async def create_schedule(client: Acting, data: JSONBody[NewSchedule]) -> ScheduleView:
    """Its first tick is the first from now on. Durations are seconds, or texts like `90s`."""
    return await client.schedules().create(data.name, data.schedule, paused=data.paused, note=data.note)


@get("/schedules/{name:str}", tags=TAGS, summary="Describe a schedule", **SHOWS)
async def show_schedule(client: Acting, name: FromPath[str], next: FromQuery[int] = 5) -> ScheduleView:
    """With its `next` ticks, and what became of the last."""
    return await client.schedules().get(name, next)


@put("/schedules/{name:str}", tags=TAGS, summary="Change a schedule", **ACTS)
async def update_schedule(
    client: Acting, name: FromPath[str], data: JSONBody[Schedule], if_version: FromQuery[int | None] = None
) -> ScheduleView:
    """Replaces the definition. What runs and what waits stays; other times count from now on."""
    return await client.schedules().update(name, data, if_version=if_version)


@delete("/schedules/{name:str}", tags=TAGS, summary="Delete a schedule", **ACTS)
async def delete_schedule(client: Acting, name: FromPath[str], if_version: FromQuery[int | None] = None) -> None:
    """And what waits of it. What runs goes on."""
    await client.schedules().delete(name, if_version=if_version)


@post("/schedules/{name:str}/pause", tags=TAGS, summary="Pause a schedule", status_code=200, **ACTS)
async def pause_schedule(client: Acting, name: FromPath[str], data: JSONBody[PauseSchedule]) -> ScheduleView:
    """No ticks until it is resumed. What runs goes on."""
    return await client.schedules().pause(name, data.note)


@post("/schedules/{name:str}/resume", tags=TAGS, summary="Resume a schedule", status_code=200, **ACTS)
async def resume_schedule(client: Acting, name: FromPath[str]) -> ScheduleView:
    """Goes on with the first tick from now on."""
    return await client.schedules().resume(name)


@post("/schedules/{name:str}/trigger", tags=TAGS, summary="Run a schedule now", status_code=200, **ACTS)
async def trigger_schedule(client: Acting, name: FromPath[str], data: JSONBody[TriggerSchedule]) -> TriggeredSchedule:
    """Whatever its calendar says, also while it is paused."""
    found = await client.schedules().trigger(name, data.overlap)
    return TriggeredSchedule(became=found.became, execution=found.execution or None)


@post("/schedules/{name:str}/backfill", tags=TAGS, summary="Backfill a schedule", status_code=202, **ACTS)
async def backfill_schedule(client: Acting, name: FromPath[str], data: JSONBody[NewBackfill]) -> Backfilled:
    """Starts the ticks of a past time that have no execution."""
    schedules = client.schedules()
    return Backfilled(
        ticks=await schedules.backfill(name, data.begin, data.end, overlap=data.overlap, limit=data.limit)
    )


@post("/schedules/{name:str}/backfill/cancel", tags=TAGS, summary="Cancel backfills", status_code=200, **ACTS)
async def cancel_backfills(client: Acting, name: FromPath[str]) -> CancelledBackfills:
    """No more of their ticks are started, whatever is left of them. What runs goes on. 409 if there is none."""
    return CancelledBackfills(backfills=await client.schedules().cancel_backfills(name))


ROUTES = (
    cancel_backfills,
    list_schedules,
    create_schedule,
    show_schedule,
    update_schedule,
    delete_schedule,
    pause_schedule,
    resume_schedule,
    trigger_schedule,
    backfill_schedule,
)
