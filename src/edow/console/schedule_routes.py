"""The pages of schedules: what starts when, what became of it, and what can be done about it."""

from __future__ import annotations

from urllib.parse import quote, urlencode

import msgspec
from litestar import get, post
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath
from litestar.response import Redirect

from edow.api.routes import Acting, Shared
from edow.client import Client
from edow.console.forms import Asked, Form, Looking, Page, Rendering, moment, object_of, text
from edow.console.look import Look, now_us
from edow.errors import InvalidInput
from edow.trigger.schedules import Overlap, Schedule
from edow.trigger.schedules.definition import OVERLAPS

PAGE = 100
TICKS = 10  # next ones shown
SAID = {
    "created": "The schedule is made.",
    "paused": "Paused: nothing is started until it is resumed.",
    "resumed": "Resumed: it goes on with the first tick from now on.",
    "triggered": "Triggered: what became of it is among the runs below.",
    "backfilled": "The backfill has begun.",
    "deleted": "The schedule is deleted; what it has started goes on.",
}


@get("/schedules", opt={"access": "read"})
async def schedules_page(request: Asked, look: Looking, render: Rendering) -> Page:
    """By name, a page at a time."""
    query = request.query_params
    prefix, cursor = query.get("q", "").strip(), query.get("cursor") or None
    desk = look.client.schedules()
    found = await look.shared.get(("schedules", prefix, cursor), lambda: desk.list(prefix, cursor, PAGE + 1))
    last = found[PAGE - 1].name if len(found) > PAGE else None
    return render.page(
        request,
        "schedules.html",
        here="schedules",
        found=found[:PAGE],
        more=None if last is None else "?" + urlencode({"q": prefix, "cursor": last}),
        prefix=prefix,
        now=now_us(),
        overlaps=OVERLAPS,
        workflows=look.workflows(),
        said=SAID.get(query.get("said", ""), ""),
    )


@get("/schedules/{name:str}", opt={"access": "read"})
async def schedule_page(request: Asked, look: Looking, render: Rendering, name: FromPath[str]) -> Page:
    """One of them."""
    view = await look.shared.get(("schedule", name), lambda: look.client.schedules().get(name, TICKS))
    said = SAID.get(request.query_params.get("said", ""), "")
    return render.page(
        request,
        "schedule.html",
        here="schedules",
        view=view,
        input=look.masking.shown(msgspec.json.encode(view.schedule.input)),
        overlaps=OVERLAPS,
        now=now_us(),
        said=said,
    )


@post("/schedules", opt={"access": "operate"})
async def create(client: Acting, backend: Shared, look: Looking, data: Form) -> Redirect:
    """Of a form: either a cron or an interval."""
    schedule = Schedule(
        workflow=text(data, "workflow"),
        input=object_of(data, "input") or {},
        cron=text(data, "cron") or None,
        every=text(data, "every") or None,
        timezone=text(data, "timezone") or "UTC",
        overlap=_overlap(data) or "skip",
    )
    name = text(data, "name")
    await client.schedules().create(name, schedule, workflow=backend.registry.workflows.get(schedule.workflow))
    return _to(look, name, "created")


@post("/schedules/{name:str}/{verb:str}", opt={"access": "operate"})
async def act(client: Acting, look: Looking, name: FromPath[str], verb: FromPath[str], data: Form) -> Redirect:
    """Pause, resume, trigger, backfill or delete."""
    if verb == "delete":
        await client.schedules().delete(name)
        look.shared.forget()
        return Redirect("/schedules?said=deleted", status_code=303)
    return _to(look, name, await _act(client, name, verb, data))


ROUTES: tuple[BaseRouteHandler, ...] = (schedules_page, schedule_page, create, act)


async def _act(client: Client, name: str, verb: str, data: dict[str, object]) -> str:
    """What to say then. Raises InvalidInput for a verb that nobody knows."""
    desk = client.schedules()
    match verb:
        case "pause":
            await desk.pause(name, text(data, "note"))
            return "paused"
        case "resume":
            await desk.resume(name)
            return "resumed"
        case "trigger":
            await desk.trigger(name, _overlap(data))
            return "triggered"
        case "backfill":
            begin, end = moment(data, "from"), moment(data, "to")
            await desk.backfill(name, begin, end, overlap=_overlap(data) or "buffer_all")
            return "backfilled"
        case _:
            raise InvalidInput(f"{verb!r} is nothing that can be done to a schedule; see its page")


def _overlap(data: dict[str, object]) -> Overlap | None:
    given = text(data, "overlap")
    found = next((each for each in OVERLAPS if each == given), None)
    if given and found is None:
        raise InvalidInput(f"overlap {given!r} is none of {', '.join(OVERLAPS)}")
    return found


def _to(look: Look, name: str, said: str) -> Redirect:
    look.shared.forget()
    return Redirect(f"/schedules/{quote(name, safe='')}?said={said}", status_code=303)
