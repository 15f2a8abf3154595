"""What every route has to say: who may use it, and which answers it may give besides success."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec

from edow.api.backend import Backend
from edow.api.problems import Problem
from edow.client import Client
from edow.client.actor import Role

Access = Role | Literal["public"]

Acting = NamedDependency[Client]
"""Of a parameter `client`: the client that acts, and is remembered by the audit log, as whoever sent the request."""

Shared = NamedDependency[Backend]
"""Of a parameter `backend`: the store, the transport and the limits."""

BEARER = "bearer"
ANSWERS = {
    400: "The request cannot be understood.",
    401: "A token is needed, or the one given is not valid (any more).",
    403: "The token's role does not allow this, or the request comes from a place that is not trusted.",
    404: "There is no such thing.",
    409: "Not possible in the state that this is in now.",
    413: "The body is over the limit.",
    415: "The body is of a type that is not understood here.",
    422: "The request does not have the form that is documented here.",
    429: "Too many requests: try again after the seconds that Retry-After says.",
    501: "The transport of this installation cannot do that.",
    503: "The store or broker does not answer at the moment: try again after the seconds that Retry-After says.",
}
ALWAYS = (400, 401, 403, 413, 422, 429, 503)
PUBLIC = (400, 413, 422, 429, 503)


class Allowed(TypedDict):
    """Arguments of Litestar's route decorators."""

    opt: dict[str, Any]
    responses: dict[int, ResponseSpec]
    security: list[dict[str, list[str]]]


def allows(access: Access, *errors: int, also: dict[int, ResponseSpec] | None = None) -> Allowed:
    """`@get("/things", **allows("read", 404))`: whoever may read may use it, and it may answer 404.

    `public` routes are served without a token to everybody. `also`: other successes than the usual one.
    """
    answers = sorted({*(PUBLIC if access == "public" else ALWAYS), *errors})
    return Allowed(
        opt={"access": access},
        responses={status: _problem(status) for status in answers} | (also or {}),
        security=[] if access == "public" else [{BEARER: []}, {}],
    )


def _problem(status: int) -> ResponseSpec:
    return ResponseSpec(Problem, description=ANSWERS[status], generate_examples=False)


SHOWS = allows("read", 404)  # one thing
ACTS = allows("operate", 404, 409)  # on one thing, which goes on or not
OWNS = allows("admin", 404, 409)  # one thing by which others get in, or are told
