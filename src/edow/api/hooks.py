"""`/hooks/NAME` for those who send webhooks, signed and without a token; `/api/v1/hooks` for those who define them."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody

from edow.api.routes import OWNS, SHOWS, Acting, Shared, allows
from edow.app import now
from edow.client.hooks import HookSpec, HookView

TAGS = ["hooks"]


class DeliveryReceipt(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of a delivery. `challenge`: Slack's own, given back."""

    status: str = ""
    execution: str = ""
    challenge: str = ""


class NewSecret(msgspec.Struct, frozen=True):
    """A secret to be accepted beside the newest; without one only the newest is accepted from now on."""

    secret: str | None = None


KNOWN = ResponseSpec(
    DeliveryReceipt, description="Delivered before, or there was nothing to do.", generate_examples=False
)


@post(
    "/hooks/{name:str}",
    status_code=202,
    tags=TAGS,
    summary="Deliver a webhook",
    **allows("public", 401, 404, 415, also={200: KNOWN}),
)
async def deliver_webhook(
    request: Request[Any, Any, Any], backend: Shared, name: FromPath[str]
) -> Response[DeliveryReceipt]:
    """Start a workflow or signal an execution, as the hook says, once for each delivery.

    Its scheme says how it is signed.
    """
    answer = await backend.hooks.receive(name, dict(request.headers), await request.body(), now())
    return Response(answer.body, status_code=answer.status, media_type="application/json")  # type: ignore[arg-type]


@get("/hooks", tags=TAGS, summary="List hooks", **allows("read"))
async def list_hooks(client: Acting) -> list[HookView]:
    """All of them, by name, with what their deliveries came to."""
    return await client.hooks().list()


@post("/hooks", tags=TAGS, summary="Make a hook", **allows("admin", 409))
async def create_hook(client: Acting, data: JSONBody[HookSpec]) -> HookView:
    """Secrets are given, and shown as references only."""
    return await client.hooks().create(data)


@get("/hooks/{name:str}", tags=TAGS, summary="Show a hook", **SHOWS)
async def show_hook(client: Acting, name: FromPath[str]) -> HookView:
    """One of them."""
    return await client.hooks().get(name)


@post("/hooks/{name:str}/rotate", status_code=200, tags=TAGS, summary="Rotate a hook's secret", **OWNS)
async def rotate_hook(client: Acting, name: FromPath[str], data: JSONBody[NewSecret]) -> HookView:
    """First with the new secret, then, once the sender uses it, without one."""
    return await client.hooks().rotate(name, data.secret)


@delete("/hooks/{name:str}", tags=TAGS, summary="Delete a hook", **OWNS)
async def delete_hook(client: Acting, name: FromPath[str]) -> None:
    """From now on it is not found."""
    await client.hooks().delete(name)


PLACES = (deliver_webhook,)
ROUTES = (list_hooks, create_hook, show_hook, rotate_hook, delete_hook)
