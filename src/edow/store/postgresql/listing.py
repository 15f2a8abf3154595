"""Listing executions: newest first, by any mix of conditions, a page at a time. See `list_by_workflow`."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from edow.errors import InvalidInput
from edow.model.execution import Standing
from edow.store.contract import ExecutionFilter
from edow.store.paging import LATEST, decode_cursor, standings
from edow.store.postgresql.keys import BEGINNING

MOST = 10_000  # executions on one page
FEW = 5_000  # ids that begin alike and are sorted for each page; where they are many, the newest are soon among them
# As the indexes have it: `executions_by_workflow`, or the one that holds only these.
WHICH = {
    **{standing: f"e.status = '{standing}'" for standing in Standing},
    Standing.RETRYING: "e.status = 'running' AND e.failure IS NOT NULL",
    Standing.PAUSED: "e.status = 'parked' AND substring(e.failure, 1, 21)"
    r" = '\x7b2274797065223a2265646f772e50617573656422'::bytea",
}


def page_query(sql: Mapping[str, str], where: ExecutionFilter, by_id: bool) -> tuple[str, list[object]]:
    """A query and its arguments, for one execution more than the page holds. `by_id`: few ids begin so."""
    if not 0 < where.limit <= MOST:
        raise InvalidInput(f"limit {where.limit} is not between 1 and {MOST}")
    attributes = msgspec.json.encode(where.attributes).decode() if where.attributes else None
    arguments: list[object] = [
        where.workflow,
        where.started_after if where.started_after is not None else -LATEST,
        where.started_before if where.started_before is not None else LATEST,
        *(decode_cursor(where.cursor) if where.cursor is not None else (LATEST, LATEST)),
        attributes,
        where.limit + 1,
    ]
    wanted = [WHICH[standing] for standing in standings(where)] or ["FALSE"]
    if not where.id_prefix or not (by_id or len(where.id_prefix) > BEGINNING):
        sources = " UNION ALL ".join(sql["list_of_workflow"].replace("{which}", which) for which in wanted)
        return sql["list_by_workflow"].replace("{sources}", sources), [*arguments, where.id_prefix or None]
    query = sql["list_by_id"].replace("{which}", " OR ".join(wanted))
    return query, [*arguments, where.id_prefix[:BEGINNING], where.id_prefix]
