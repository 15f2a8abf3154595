"""`/api/v1/endpoints`: who is told of executions that end, and of alerts."""

from __future__ import annotations

import msgspec
from litestar import delete, get, post
from litestar.params import FromPath, JSONBody

from edow.api.desk import LetterCount, count_letters
from edow.api.routes import OWNS, SHOWS, Acting, allows
from edow.client.endpoints import EndpointSpec, EndpointView, MadeEndpoint
from edow.workflow.duration import seconds

TAGS = ["endpoints"]


class EndpointRotation(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`secret`: the new one, as env:NAME, file:/PATH, or itself; without it one is made up. `keep`: for how long those
    that there are sign, too, like 1d.
    """

    secret: str | None = None
    keep: str = "1d"


@get("/endpoints", tags=TAGS, summary="List endpoints", **allows("read"))
async def list_endpoints(client: Acting) -> list[EndpointView]:
    """All of them, by name, with what became of their messages."""
    return await client.endpoints().list()


@post("/endpoints", tags=TAGS, summary="Make an endpoint", **allows("admin", 409))
async def create_endpoint(client: Acting, data: JSONBody[EndpointSpec]) -> MadeEndpoint:
    """Without secrets one is made up, and answered this once."""
    return await client.endpoints().create(data)


@get("/endpoints/{name:str}", tags=TAGS, summary="Show an endpoint", **SHOWS)
async def show_endpoint(client: Acting, name: FromPath[str]) -> EndpointView:
    """One of them."""
    return await client.endpoints().get(name)


@post("/endpoints/{name:str}/test", status_code=202, tags=TAGS, summary="Send a ping", **allows("operate", 404))
async def test_endpoint(client: Acting, name: FromPath[str]) -> None:
    """By the next orchestrator that looks."""
    await client.endpoints().test(name)


@post(
    "/endpoints/{name:str}/send-again",
    status_code=200,
    tags=TAGS,
    summary="Send again what was given up",
    **allows("operate", 404),
)
async def send_again(client: Acting, name: FromPath[str]) -> LetterCount:
    """All of its messages in the dead-letter desk, but for those set aside, under the ids they had."""
    endpoints = client.endpoints()
    return await count_letters(client, endpoints.given_up(name), lambda: endpoints.send_again(name))


@post("/endpoints/{name:str}/rotate", status_code=200, tags=TAGS, summary="Rotate an endpoint's secret", **OWNS)
async def rotate_endpoint(client: Acting, name: FromPath[str], data: JSONBody[EndpointRotation]) -> MadeEndpoint:
    """A new secret signs; the old ones sign beside it for a while, so that the receiver may change in between."""
    return await client.endpoints().rotate(name, data.secret, seconds(data.keep, "keep"))


@delete("/endpoints/{name:str}", tags=TAGS, summary="Delete an endpoint", **OWNS)
async def delete_endpoint(client: Acting, name: FromPath[str]) -> None:
    """What is still to be sent to it becomes dead letters."""
    await client.endpoints().delete(name)


ROUTES = (list_endpoints, create_endpoint, show_endpoint, test_endpoint, send_again, rotate_endpoint, delete_endpoint)
