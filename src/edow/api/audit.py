"""`/api/v1/audit`: what operators did."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from litestar import get
from litestar.params import QueryParameter

from edow.api.routes import Acting, allows
from edow.api.views import moment
from edow.client.actor import Role
from edow.client.audit import MAX_LIMIT, AuditFilter, Entry, Value

AuditOutcome = Literal["accepted", "refused"]


class EntryView(msgspec.Struct, kw_only=True):
    """`parameters` are names, counts and reasons, never payloads."""

    id: str
    at: datetime
    actor: str
    role: Role
    address: str
    action: str
    target: str
    parameters: Mapping[str, Value]
    outcome: AuditOutcome
    reason: str


class EntryPage(msgspec.Struct, kw_only=True):
    """Newest first. `cursor` null: this was the last page; a page may be empty and not the last."""

    entries: list[EntryView]
    cursor: str | None


@get("/audit", tags=["audit"], summary="Read the audit log", **allows("read"))
async def read_audit(  # conditions
    client: Acting,
    actor: Annotated[str | None, QueryParameter(description="Like token:ci or cli:ada.")] = None,
    action: Annotated[str | None, QueryParameter(description="Like execution.cancel, or execution for all.")] = None,
    target: Annotated[str | None, QueryParameter(description="An execution, a dead letter, a token …")] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=MAX_LIMIT)] = 100,
    cursor: Annotated[str | None, QueryParameter(description="From the page before this one.")] = None,
) -> EntryPage:
    """Every action of an operator, by API, command line or console: entries are kept for 400 days."""
    page = await client.audit(AuditFilter(actor, action, target, cursor, limit))
    return EntryPage(entries=[entry_view(each) for each in page.entries], cursor=page.cursor)


def entry_view(entry: Entry) -> EntryView:
    return EntryView(
        id=entry.id,
        at=moment(entry.at),
        actor=entry.actor,
        role=entry.role,
        address=entry.address,
        action=entry.action,
        target=entry.target,
        parameters=entry.parameters,
        outcome=entry.outcome,
        reason=entry.reason,
    )


ROUTES = (read_audit,)
