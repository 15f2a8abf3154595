"""Listing executions: newest first, by any mix of conditions, a page at a time. See `list_by_workflow`."""

from __future__ import annotations

import msgspec

from edow.errors import InvalidInput
from edow.model.execution import Status
from edow.store.contract import ExecutionFilter
from edow.store.paging import LATEST, decode_cursor
from edow.store.postgresql.keys import BEGINNING

MOST = 10_000  # executions on one page
FEW = 5_000  # ids that begin alike and are sorted for each page; where they are many, the newest are soon among them


def page_query(where: ExecutionFilter, by_id: bool) -> tuple[str, list[object]]:
    """A query's name and its arguments, for one execution more than the page holds. `by_id`: few ids begin so."""
    if not 0 < where.limit <= MOST:
        raise InvalidInput(f"limit {where.limit} is not between 1 and {MOST}")
    attributes = msgspec.json.encode(where.attributes).decode() if where.attributes else None
    arguments: list[object] = [
        where.workflow,
        [str(status) for status in (Status if where.status is None else where.status)],
        where.started_after if where.started_after is not None else -LATEST,
        where.started_before if where.started_before is not None else LATEST,
        *(decode_cursor(where.cursor) if where.cursor is not None else (LATEST, LATEST)),
        attributes,
        where.limit + 1,
    ]
    if not where.id_prefix or not (by_id or len(where.id_prefix) > BEGINNING):
        return "list_by_workflow", [*arguments, where.id_prefix or None]
    return "list_by_id", [*arguments, where.id_prefix[:BEGINNING], where.id_prefix]
