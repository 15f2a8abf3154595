"""`/api/v1/tokens`: who may use this API."""

from __future__ import annotations

from datetime import datetime

import msgspec
from litestar import delete, get, post
from litestar.params import FromPath, JSONBody

from edow.api.routes import Acting, allows
from edow.api.views import moment, optional_moment
from edow.client.actor import Role
from edow.client.tokens import Token
from edow.workflow.duration import microseconds

TAGS = ["tokens"]


class NewToken(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`expires_in`: like 90d; left out: never."""

    name: str
    role: Role
    expires_in: str | None = None


class MadeToken(msgspec.Struct, kw_only=True):
    """`token` is shown here, and never again."""

    name: str
    role: Role
    token: str


class TokenView(msgspec.Struct, kw_only=True):
    name: str
    role: Role
    created_at: datetime
    created_by: str
    expires_at: datetime | None


@post("/tokens", tags=TAGS, summary="Make a token", **allows("admin", 409))
async def create_token(client: Acting, data: JSONBody[NewToken]) -> MadeToken:
    """With the first token of a store, also clients on the same machine need one."""
    lasts = None if data.expires_in is None else microseconds(data.expires_in, "expires_in")
    text = await client.tokens().create(data.name, data.role, lasts)
    return MadeToken(name=data.name, role=data.role, token=text)


@get("/tokens", tags=TAGS, summary="List tokens", **allows("admin"))
async def list_tokens(client: Acting) -> list[TokenView]:
    """By name, those that have expired too."""
    return [token_view(each) for each in await client.tokens().list()]


@delete("/tokens/{name:str}", tags=TAGS, summary="Revoke a token", **allows("admin", 404))
async def revoke_token(client: Acting, name: FromPath[str]) -> None:
    """It is not valid any more. Without any token, clients on the same machine are served again without one."""
    await client.tokens().revoke(name)


def token_view(token: Token) -> TokenView:
    return TokenView(
        name=token.name,
        role=token.role,
        created_at=moment(token.created_at),
        created_by=token.created_by,
        expires_at=optional_moment(token.expires_at),
    )


ROUTES = (create_token, list_tokens, revoke_token)
