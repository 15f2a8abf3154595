"""The addresses of the dead-letter desk. Ids of letters hold slashes, so they are parameters and never paths."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from litestar import get, post
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath
from litestar.response import Redirect

from edow.api.routes import Acting, Shared
from edow.client.desk import Stages
from edow.client.selection import LIMIT
from edow.console.forms import Asked, Form, Looking, Page, Rendering, number, object_of, text
from edow.console.letters import AGAIN, desk_view, group_page, letter_page
from edow.console.look import Look
from edow.errors import InvalidInput, NotFound
from edow.store.contract import DeadLetterFilter

SAID = {
    "redriven": "The step runs again.",
    "applied": "Their trigger has applied them; what it still cannot apply has stayed.",
    "sent": "They are sent by the next orchestrator that looks.",
    "discarded": "The step was answered with an error, or the message was thrown away.",
    "aside": "Set aside: they are in the parking lot until somebody brings them back, or they fail again.",
    "back": "Brought back from the parking lot.",
    "staged": "The redrive has begun; it stops by itself when too many fail again.",
    "stopped": "The redrive takes no more letters.",
}


@get("/dead-letters", opt={"access": "read"})
async def desk_page(request: Asked, look: Looking, render: Rendering) -> Page:
    """What failed, by what went wrong."""
    aside = request.query_params.get("aside") == "1"
    view = await desk_view(look, aside)
    return render.page(request, "letters.html", here="letters", view=view, said=_said(request))


@get("/dead-letters/group", opt={"access": "read"})
async def group(request: Asked, look: Looking, render: Rendering) -> Page:
    """The letters of one kind."""
    query = request.query_params
    view = await group_page(look, query.get("group", ""), query.get("aside") == "1")
    return render.page(request, "letter_group.html", here="letters", view=view, again=AGAIN, said=_said(request))


@get("/dead-letters/one", opt={"access": "read"})
async def one(request: Asked, look: Looking, render: Rendering) -> Page:
    """One of them."""
    id = request.query_params.get("id", "")
    found = await look.letters(DeadLetterFilter(ids=[id], state=None, limit=1))
    if not found:
        raise NotFound(f"there is no dead letter {id!r}; it may have left with its execution")
    view = letter_page(look, found[0])
    return render.page(request, "letter.html", here="letters", view=view, again=AGAIN, said=_said(request))


@post("/dead-letters/one/{verb:str}", opt={"access": "operate"})
async def act_on_one(client: Acting, backend: Shared, look: Looking, verb: FromPath[str], data: Form) -> Redirect:
    """Redrive (with other arguments, if there are any in the form), discard, or set aside."""
    id = text(data, "id")
    if verb == "redrive":
        args = object_of(data, "args")
        await client.redrive(id, args, registry=backend.registry, unchecked=bool(text(data, "unchecked")))
        return _to(look, "/dead-letters/one", id=id, said=text(data, "again") or "redriven")
    if verb == "discard":
        await client.discard(id, text(data, "reason"))
        return _to(look, "/dead-letters/one", id=id, said="discarded")
    return _to(look, "/dead-letters/one", id=id, said=await _park(client, verb, id, data))


@post("/dead-letters/group/{verb:str}", opt={"access": "operate"})
async def act_on_group(client: Acting, backend: Shared, look: Looking, verb: FromPath[str], data: Form) -> Redirect:
    """Redrive in stages, discard all, set all aside, or bring all back."""
    fingerprint = text(data, "group")
    if "group" not in data:
        raise InvalidInput("no group was named; choose one on the page of dead letters")
    where = DeadLetterFilter(fingerprint=fingerprint, limit=LIMIT)
    if verb == "again":
        await client.redrive(where)
        return _to(look, "/dead-letters", said=text(data, "again"))
    if verb == "redrive":
        how = Stages(rate=number(data, "rate", 10.0), stop_above=number(data, "stop_above", 20.0) / 100)
        change, unchecked = object_of(data, "change"), bool(text(data, "unchecked"))
        await client.desk().redrive(where, change, how, registry=backend.registry, unchecked=unchecked)
        return _to(look, "/dead-letters", said="staged")
    if verb == "discard":
        await client.discard(where, text(data, "reason"))
        return _to(look, "/dead-letters", said="discarded")
    return _to(look, "/dead-letters", said=await _park(client, verb, where, data))


@post("/dead-letters/redrives/{id:str}/stop", opt={"access": "operate"})
async def stop(client: Acting, look: Looking, id: FromPath[str], data: Form) -> Redirect:
    await client.desk().stop_redrive(id, text(data, "reason"))
    return _to(look, "/dead-letters", said="stopped")


ROUTES: tuple[BaseRouteHandler, ...] = (desk_page, group, one, act_on_one, act_on_group, stop)


async def _park(client: Any, verb: str, which: str | DeadLetterFilter, data: dict[str, Any]) -> str:
    """What to say then. Raises InvalidInput for a verb that nobody knows."""
    if verb == "aside":
        await client.desk().set_aside(which, text(data, "reason"))
        return "aside"
    if verb == "back":
        await client.desk().bring_back(which)
        return "back"
    raise InvalidInput(f"{verb!r} is nothing that can be done to a dead letter; use redrive, discard, aside or back")


def _said(request: Asked) -> str:
    return SAID.get(request.query_params.get("said", ""), "")


def _to(look: Look, path: str, **query: str) -> Redirect:
    look.shared.forget()
    return Redirect(f"{path}?{urlencode(query)}", status_code=303)
