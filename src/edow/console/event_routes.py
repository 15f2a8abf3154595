"""The pages of what comes in and goes out by itself, and what can be done about it."""

from __future__ import annotations

from urllib.parse import quote

from litestar import get, post
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath
from litestar.response import Redirect

from edow.api.routes import Acting
from edow.client import Client
from edow.console.events import Family, entry_of, events_view, family_of, tone_of
from edow.console.forms import Asked, Looking, Page, Rendering
from edow.console.look import now_us
from edow.errors import InvalidInput

TITLES: dict[Family, tuple[str, str]] = {
    "hooks": ("Incoming webhooks", "Deliveries to /hooks/NAME that start a workflow or signal an execution."),
    "triggers": ("Event triggers", "Messages on topics that start a workflow or signal an execution."),
    "endpoints": ("Endpoints", "Who is told of executions that have ended, and of alerts."),
}
SAID = {
    "paused": "Paused: its messages wait in the broker until it is resumed.",
    "resumed": "Resumed: it goes on with the messages that wait.",
    "tested": "A ping is sent by the next orchestrator that looks.",
    "again": "What was given up is sent by the next orchestrator that looks.",
}


@get("/events", opt={"access": "read"})
async def hooks_page(request: Asked, look: Looking, render: Rendering) -> Page:
    """Those of incoming webhooks first."""
    return await _list(request, look, render, "hooks")


@get("/events/{family:str}", opt={"access": "read"})
async def events_page(request: Asked, look: Looking, render: Rendering, family: FromPath[str]) -> Page:
    """All hooks, triggers or endpoints, by name."""
    return await _list(request, look, render, family_of(family))


@get("/events/{family:str}/{name:str}", opt={"access": "read"})
async def event_page(
    request: Asked, look: Looking, render: Rendering, family: FromPath[str], name: FromPath[str]
) -> Page:
    """One of them."""
    of = family_of(family)
    entry = await entry_of(look, of, name)
    said = SAID.get(request.query_params.get("said", ""), "")
    return render.page(
        request,
        "event.html",
        here="events",
        entry=entry,
        family=of,
        titles=TITLES,
        tone=tone_of,
        now=now_us(),
        said=said,
    )


@post("/events/{family:str}/{name:str}/{verb:str}", opt={"access": "operate"})
async def act(
    client: Acting, look: Looking, family: FromPath[str], name: FromPath[str], verb: FromPath[str]
) -> Redirect:
    """Pause or resume a trigger; send an endpoint a ping, or what was given up."""
    said = await _act(client, family_of(family), name, verb)
    look.shared.forget()
    return Redirect(f"/events/{family}/{quote(name, safe='')}?said={said}", status_code=303)


ROUTES: tuple[BaseRouteHandler, ...] = (hooks_page, events_page, event_page, act)


async def _list(request: Asked, look: Looking, render: Rendering, family: Family) -> Page:
    view = await events_view(look, family)
    return render.page(request, "events.html", here="events", view=view, titles=TITLES, tone=tone_of)


async def _act(client: Client, family: Family, name: str, verb: str) -> str:
    """What to say then. Raises InvalidInput for what cannot be done."""
    match family, verb:
        case "triggers", "pause":
            await client.triggers().pause(name)
            return "paused"
        case "triggers", "resume":
            await client.triggers().resume(name)
            return "resumed"
        case "endpoints", "test":
            await client.endpoints().test(name)
            return "tested"
        case "endpoints", "again":
            await client.endpoints().send_again(name)
            return "again"
        case _:
            raise InvalidInput(f"{verb!r} is nothing that can be done to {family}; see their pages")
