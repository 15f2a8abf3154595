"""Who may come in: tokens and roles, clients on the same machine, and how often each may ask.

A token comes as `Authorization: Bearer`, or in a cookie that a browser has been given. While the store has no tokens,
clients on this machine are served without one, as administrators. A browser on this machine may be made to send
requests by any page that it shows: so without a token, or with a cookie, the Host has to be this machine's, which a
page that has its own name point here cannot bring about, and the Origin has to be the Host itself.
"""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.parse import urlsplit

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from edow.api.backend import Backend
from edow.api.problems import Refused
from edow.client.actor import ROLES, Actor

Connection = ASGIConnection[Any, Any, Any, Any]

COOKIE = "edow_token"
LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
PROXY_HEADERS = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
LOCAL = "local"


class Gate:
    """The application's guard: it is asked before every route, and before the body is read."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def __call__(self, connection: Connection, handler: BaseRouteHandler) -> None:
        """Raises Refused; else `connection.scope["user"]` is the actor, if the route wants one."""
        access = "public" if connection.scope.get("method") == "OPTIONS" else handler.opt.get("access")
        await self._backend.open()
        if access == "public":
            self._count(address_of(connection))
            return
        actor = await self._actor(connection)
        if access not in ROLES or not actor.may(access):
            raise Refused(403, f"this needs the role {access}; {actor.name} has {actor.role}")
        connection.scope["user"] = actor

    async def _actor(self, connection: Connection) -> Actor:
        address = address_of(connection)
        bearer, cookie = bearer_of(connection), connection.cookies.get(COOKIE)
        text = bearer or cookie
        if text is None:
            self._count(address)
            return await self._nameless(connection, address)
        if bearer is None:
            refuse_other_origins(connection)
        token = await self._backend.client.tokens().check(text)
        if token is None:
            self._count(address)
            raise unauthorized("this token is not valid; it may have expired or been revoked: ask for another one")
        self._count(f"token:{token.name}")
        return Actor(f"token:{token.name}", token.role, address)

    async def _nameless(self, connection: Connection, address: str) -> Actor:
        """Somebody without a token."""
        if not is_loopback(address) or any(name in connection.headers for name in PROXY_HEADERS):
            raise unauthorized("a token is needed; `edow token create NAME --role ROLE` makes one")
        refuse_other_hosts(connection, self._backend.settings.hosts)
        refuse_other_origins(connection)
        if await self._backend.client.tokens().any():
            raise unauthorized("a token is needed, also on this machine, because there are tokens")
        return Actor(LOCAL, "admin", address)

    def _count(self, client: str) -> None:
        seconds = self._backend.limit.wait_seconds(client)
        if seconds:
            settings = self._backend.settings
            raise Refused(
                429,
                f"more than {settings.rate:g} requests a second; try again later",
                {"Retry-After": str(int(seconds) + 1)},
            )


def address_of(connection: Connection) -> str:
    """Of whoever has opened the connection; "" for a socket that tells none."""
    return connection.client.host if connection.client else ""


def is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def bearer_of(connection: Connection) -> str | None:
    scheme, _, text = connection.headers.get("authorization", "").partition(" ")
    return text.strip() if scheme.lower() == "bearer" else None


def unauthorized(message: str) -> Refused:
    return Refused(401, message, {"WWW-Authenticate": "Bearer"})


def refuse_other_hosts(connection: Connection, also: tuple[str, ...]) -> None:
    """A name that anybody can make point to this machine is not this machine's."""
    host = connection.headers.get("host", "")
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    if name.lower() not in LOCAL_HOSTS and name not in also:
        raise Refused(403, f"without a token this is served as localhost alone, not as {host[:100]!r}; use a token")


def refuse_other_origins(connection: Connection) -> None:
    """A page of another site must not act with the rights of whoever looks at it."""
    origin = connection.headers.get("origin")
    if connection.headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        raise Refused(403, "a page of another site has sent this request; use a token in the Authorization header")
    if origin is not None and _place(origin) != connection.headers.get("host"):
        raise Refused(403, f"a page of {origin[:100]!r} has sent this; use a token in the Authorization header")


def _place(origin: str) -> str | None:
    """None: it is none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None
