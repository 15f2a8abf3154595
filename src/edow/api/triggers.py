"""`/api/v1/triggers`: what messages on topics start and signal."""

from __future__ import annotations

from litestar import delete, get, post
from litestar.params import FromPath, JSONBody

from edow.api.routes import ACTS, OWNS, SHOWS, Acting, allows
from edow.client.triggers import TriggerSpec, TriggerView

TAGS = ["triggers"]


@get("/triggers", tags=TAGS, summary="List event triggers", **allows("read"))
async def list_triggers(client: Acting) -> list[TriggerView]:
    """All of them, by name, with what their messages came to."""
    return await client.triggers().list()


@post("/triggers", tags=TAGS, summary="Make an event trigger", **allows("admin", 409))
async def create_trigger(client: Acting, data: JSONBody[TriggerSpec]) -> TriggerView:
    """Every orchestrator reads its topic about a second later."""
    return await client.triggers().create(data)


@get("/triggers/{name:str}", tags=TAGS, summary="Show an event trigger", **SHOWS)
async def show_trigger(client: Acting, name: FromPath[str]) -> TriggerView:
    """One of them."""
    return await client.triggers().get(name)


@post("/triggers/{name:str}/pause", status_code=200, tags=TAGS, summary="Pause an event trigger", **ACTS)
async def pause_trigger(client: Acting, name: FromPath[str]) -> TriggerView:
    """Its messages wait in the broker."""
    return await client.triggers().pause(name)


@post("/triggers/{name:str}/resume", status_code=200, tags=TAGS, summary="Resume an event trigger", **ACTS)
async def resume_trigger(client: Acting, name: FromPath[str]) -> TriggerView:
    """Go on with the messages that wait."""
    return await client.triggers().resume(name)


@delete("/triggers/{name:str}", tags=TAGS, summary="Delete an event trigger", **OWNS)
async def delete_trigger(client: Acting, name: FromPath[str]) -> None:
    """What it has gathered becomes a dead letter when it is due."""
    await client.triggers().delete(name)


ROUTES = (list_triggers, create_trigger, show_trigger, pause_trigger, resume_trigger, delete_trigger)
