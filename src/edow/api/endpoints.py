"""`/api/v1/endpoints`: who is told of executions that end, and of alerts."""

from __future__ import annotations

from litestar import delete, get, post
from litestar.params import FromPath, JSONBody

from edow.api.routes import Acting, allows
from edow.client.endpoints import EndpointSpec, EndpointView, MadeEndpoint

TAGS = ["endpoints"]


@get("/endpoints", tags=TAGS, summary="List endpoints", **allows("read"))
async def list_endpoints(client: Acting) -> list[EndpointView]:
    """All of them, by name, with what became of their messages."""
    return await client.endpoints().list()


@post("/endpoints", tags=TAGS, summary="Make an endpoint", **allows("admin", 409))
async def create_endpoint(client: Acting, data: JSONBody[EndpointSpec]) -> MadeEndpoint:
    """Without secrets one is made up, and answered this once."""
    return await client.endpoints().create(data)


@get("/endpoints/{name:str}", tags=TAGS, summary="Show an endpoint", **allows("read", 404))
async def show_endpoint(client: Acting, name: FromPath[str]) -> EndpointView:
    """One of them."""
    return await client.endpoints().get(name)


@post("/endpoints/{name:str}/test", status_code=202, tags=TAGS, summary="Send a ping", **allows("operate", 404))
async def test_endpoint(client: Acting, name: FromPath[str]) -> None:
    """By the next orchestrator that looks."""
    await client.endpoints().test(name)


@delete("/endpoints/{name:str}", tags=TAGS, summary="Delete an endpoint", **allows("admin", 404, 409))
async def delete_endpoint(client: Acting, name: FromPath[str]) -> None:
    """What is still to be sent to it becomes dead letters."""
    await client.endpoints().delete(name)


ROUTES = (list_endpoints, create_endpoint, show_endpoint, test_endpoint, delete_endpoint)
