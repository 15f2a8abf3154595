"""Bulk jobs: one action on all executions that a search finds, previewed first, and followed as it goes on."""

from __future__ import annotations

from urllib.parse import parse_qsl

from litestar import get, post
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath
from litestar.response import Redirect

from edow.api.routes import Acting
from edow.client.jobs import ACTIONS, Action, Match, Order
from edow.console.forms import Asked, Form, Looking, Page, Rendering, json_of, number, text
from edow.console.listing import Search, search_of
from edow.console.look import now_us
from edow.errors import InvalidInput
from edow.model.execution import Standing

SAID = {"begun": "The job has begun.", "stopped": "The job acts on no more executions."}


@get("/executions-all", opt={"access": "operate"})
async def preview_page(request: Asked, look: Looking, render: Rendering) -> Page:
    """How many a search finds now, and what may be done to all of them. Nothing is done yet."""
    search = search_of(request.query_params, request.query_params.getall("status", []))
    preview = await look.client.jobs().preview(match_of(search))
    return render.page(request, "bulk.html", here="executions", search=search, preview=preview, actions=list(ACTIONS))


@get("/jobs", opt={"access": "read"})
async def jobs_page(request: Asked, look: Looking, render: Rendering) -> Page:
    """Those that run, and those of the last 30 days."""
    jobs = (await look.shared.get("jobs", lambda: look.client.jobs().list()))[:100]
    said = SAID.get(request.query_params.get("said", ""), "")
    return render.page(request, "jobs.html", here="executions", jobs=jobs, now=now_us(), said=said)


@post("/jobs", opt={"access": "operate"})
async def begin(client: Acting, look: Looking, data: Form) -> Redirect:
    """Of the preview's form: refused if more match by now than it has shown."""
    pairs = parse_qsl(text(data, "search").removeprefix("?"))
    search = search_of(dict(pairs), [value for name, value in pairs if name == "status"])
    action = _action(text(data, "action"))
    signal = text(data, "signal") if action == "signal" else ""
    order = Order(
        action=action,
        match=match_of(search),
        reason=text(data, "reason"),
        signal=signal,
        value=json_of(data, "value") if signal else None,
        rate=number(data, "rate", 100.0),
        at_most=round(number(data, "at_most", 0.0)) or None,
    )
    await client.jobs().start(order)
    look.shared.forget()
    return Redirect("/jobs?said=begun", status_code=303)


@post("/jobs/{id:str}/stop", opt={"access": "operate"})
async def stop(client: Acting, look: Looking, id: FromPath[str], data: Form) -> Redirect:
    await client.jobs().stop(id, text(data, "reason"))
    look.shared.forget()
    return Redirect("/jobs?said=stopped", status_code=303)


ROUTES: tuple[BaseRouteHandler, ...] = (preview_page, jobs_page, begin, stop)


def match_of(search: Search) -> Match:
    """Raises InvalidInput, also for a search that asks for nothing: that would be all executions there are."""
    if not search.narrowed:
        raise InvalidInput("this would be all executions; search for those that are meant first")
    where = search.filter()
    return Match(
        workflow=where.workflow,
        status=tuple(map(Standing, where.status or ())),
        prefix=where.id_prefix,
        started_after=where.started_after,
        started_before=where.started_before,
        attributes=dict(where.attributes or {}),
    )


def _action(given: str) -> Action:
    found = next((each for each in ACTIONS if each == given), None)
    if found is None:
        raise InvalidInput(f"action {given!r} is none of {', '.join(ACTIONS)}")
    return found
