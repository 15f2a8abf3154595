"""What operators do over the API is in the audit log: every route that changes something, from the application."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import msgspec
import pytest

from edow.api import application
from edow.api.examples import EXAMPLES
from edow.model.execution import Status
from edow.model.failure import Failure
from edow.store.contract import Commit, Update
from tests.api.serving import Api
from tests.api.test_dead_letters import put_letters

LETTER = {"which": {"ids": ["e-0/1/charge"]}}
BODIES: dict[str, dict[str, object]] = EXAMPLES | {
    "bring_dead_letters_back": {"which": {"task": "charge"}},
    "discard_dead_letters": LETTER | {"reason": "seen to"},
    "redrive_dead_letters": LETTER,
    "set_dead_letters_aside": LETTER | {"reason": "later"},
    "start_job": {"action": "pause", "match": {"workflow": "w"}},
    "start_redrive": {"which": {"task": "charge"}},
}
"""Bodies that fit what is there."""

MADE: dict[str, tuple[str, str]] = {
    "endpoints": ("create_endpoint", "shop"),
    "hooks": ("create_hook", "payments"),
    "schedules": ("create_schedule", "nightly"),
    "slos": ("create_slo", "quick"),
    "tokens": ("create_token", "ci"),
    "triggers": ("create_trigger", "orders"),
    "jobs": ("start_job", ""),
    "redrives": ("start_redrive", ""),
}
"""What makes one of each collection, and its name; "": the answer says it."""

FIRST = {
    "bring_dead_letters_back": "set_dead_letters_aside",
    "cancel_backfills": "backfill_schedule",
    "resume_schedule": "pause_schedule",
}
"""What has to be done before."""


def changing() -> Iterator[tuple[str, str, str]]:
    """(operation, method, path) of each route that needs the role operate or admin."""
    for route in application("sqlite:///unused.db").routes:
        for handler in getattr(route, "route_handlers", ()):
            if handler.opt.get("access") in ("operate", "admin") and "GET" not in handler.http_methods:
                [method] = handler.http_methods
                yield handler.handler_name, method, route.path_format


ROUTES = {name: (method, path) for name, method, path in changing()}


def test_whatever_is_no_get_needs_a_role_that_may_change():
    """But what only looks, although it has a body."""
    looking = set()
    for route in application("sqlite:///unused.db").routes:
        for handler in getattr(route, "route_handlers", ()):
            if not handler.http_methods & {"GET", "OPTIONS"} and handler.opt["access"] == "read":
                looking.add(handler.handler_name)
    assert looking == {"preview_job", "try_redrive"}
    assert len(ROUTES) > 30


async def call(http: httpx.AsyncClient, name: str, of: str = "") -> httpx.Response:
    method, path = ROUTES[name]
    answer = await http.request(method, path.replace("{id}", of).replace("{name}", of), json=BODIES.get(name))
    assert answer.status_code < 300, (name, answer.text)
    return answer


async def prepare(api: Api, http: httpx.AsyncClient, name: str) -> str:
    """What the route needs to find; the name or id in its path."""
    await put_letters(api)
    _, path = ROUTES[name]
    of = ""
    if "{" in path:
        collection = path.split("/")[3]
        if collection == "executions":
            of = "e-0"
        else:
            make, of = MADE[collection]
            made = await call(http, make)
            of = of or made.json()["id"]
    if name == "resume_execution":
        row = await api.client.get(of).describe()
        row.status = Status.PARKED
        row.failure = msgspec.Raw(msgspec.json.encode(Failure(type="edow.Paused", message="", kind="paused")))
        await api.system.store.commit(Commit(leases={}, updates=[Update(row.run, row)]))
    if name in FIRST:
        await call(http, FIRST[name], of)
    return of


@pytest.mark.parametrize("name", sorted(ROUTES))
async def test_every_change_is_in_the_audit_log(api: Api, name: str):
    """Who, what and to what, once, in the transaction that does it."""
    http = api.http(token=await api.token("admin", "ada"))
    of = await prepare(api, http, name)
    before = (await api.client.audit()).entries
    await call(http, name, of)
    after = (await api.client.audit()).entries
    [entry] = after[: len(after) - len(before)]
    assert (entry.actor, entry.address, entry.outcome) == ("token:ada", "127.0.0.1", "accepted")
    assert not of or entry.target == of
