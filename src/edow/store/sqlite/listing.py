"""Listing executions: newest first, by any mix of conditions, a page at a time.

The executions of one workflow in one standing are read in order from one index, and the results for all that were asked
for are merged; so a page costs the same with a thousand executions as with a million. Those whose ids begin alike are
read by their ids while they are few; where they are many, the newest of all are soon among them.
"""

from __future__ import annotations

import sqlite3

from edow.errors import InvalidInput
from edow.model.execution import Standing
from edow.store.contract import ExecutionFilter
from edow.store.paging import decode_cursor, standings

MOST = 10_000  # executions on one page
FEW = 5_000  # ids that begin alike and are sorted for each page
FOUND = "SELECT count(*) FROM (SELECT 1 FROM executions WHERE id >= :prefix AND id < :beyond LIMIT :most)"

# The names of all workflows, found by leaps through the index.
WORKFLOWS = """
WITH RECURSIVE workflows (name) AS (
    SELECT coalesce(:workflow, (SELECT min(workflow) FROM executions))
    UNION ALL
    SELECT (SELECT min(workflow) FROM executions WHERE workflow > name) FROM workflows
    WHERE :workflow IS NULL AND name IS NOT NULL
)
"""
# As the indexes have it: `executions_by_workflow`, or the one that holds only these.
WHICH = {
    **{standing: f"x.status = '{standing}'" for standing in Standing},
    Standing.RETRYING: "x.status = 'running' AND x.failure IS NOT NULL",
    Standing.PAUSED: "x.status = 'parked' AND substr(x.failure, 1, 21) = x'7b2274797065223a2265646f772e50617573656422'",
}
BY_WORKFLOW = """
    SELECT page.number
    FROM workflows CROSS JOIN executions AS page ON page.number IN (
        SELECT x.number FROM executions AS x
        WHERE x.workflow = workflows.name AND {which} AND {clause}
        ORDER BY x.started_at DESC, x.number DESC LIMIT :wanted
    )
    WHERE workflows.name IS NOT NULL
"""
BY_ID = """
    SELECT x.number FROM executions AS x
    WHERE {clause} AND ({which})
    AND (:workflow IS NULL OR x.workflow = :workflow)
"""


def few_begin_so(connection: sqlite3.Connection, prefix: str) -> bool:
    """Whether so few ids begin so that they may be sorted; counts no further."""
    (found,) = connection.execute(FOUND, {**_range(prefix), "most": FEW + 1}).fetchone()
    return int(found) <= FEW


def page_source(where: ExecutionFilter, by_id: bool) -> tuple[str, dict[str, object]]:
    """A SELECT for one execution more than the page holds, and its parameters. `by_id`: few ids begin so."""
    if not 0 < where.limit <= MOST:
        raise InvalidInput(f"limit {where.limit} is not between 1 and {MOST}")
    conditions, values = _conditions(where)
    wanted = [WHICH[standing] for standing in standings(where)] or ["FALSE"]
    clause = " AND ".join(conditions)
    if by_id:
        numbers = BY_ID.format(clause=clause, which=" OR ".join(wanted))
    else:
        numbers = " UNION ALL ".join(BY_WORKFLOW.format(clause=clause, which=which) for which in wanted)
    source = (
        f"{WORKFLOWS} SELECT e.*, s.body AS input FROM executions AS e"
        " LEFT JOIN segments AS s ON s.execution = e.id AND s.run = e.run AND s.seq = -1"
        f" WHERE e.number IN ({numbers}) ORDER BY e.started_at DESC, e.number DESC LIMIT :wanted"
    )
    return source, {**values, "workflow": where.workflow, "wanted": where.limit + 1}


def _conditions(where: ExecutionFilter) -> tuple[list[str], dict[str, object]]:
    conditions = ["TRUE"]
    values: dict[str, object] = {}
    for name, condition, value in (
        ("after", "x.started_at > :after", where.started_after),
        ("before", "x.started_at < :before", where.started_before),
    ):
        if value is not None:
            conditions.append(condition)
            values[name] = value
    if where.id_prefix:
        conditions.append("x.id >= :prefix AND x.id < :beyond")
        values |= _range(where.id_prefix)
    if where.cursor is not None:
        conditions.append("(x.started_at, x.number) < (:at, :number)")
        values["at"], values["number"] = decode_cursor(where.cursor)
    for index, (name, wanted) in enumerate((where.attributes or {}).items()):
        conditions.append(_attribute(index, wanted))
        values |= {f"name{index}": name, f"value{index}": wanted}
    return conditions, values


def _range(prefix: str) -> dict[str, object]:
    return {"prefix": prefix, "beyond": prefix + "\U0010ffff"}


def _attribute(index: int, wanted: str | int | float | bool) -> str:
    if isinstance(wanted, bool):
        test = f"a.type = '{'true' if wanted else 'false'}'"
    else:
        types = "'text'" if isinstance(wanted, str) else "'integer', 'real'"
        test = f"a.type IN ({types}) AND a.value = :value{index}"
    return f"EXISTS (SELECT 1 FROM json_each(x.attributes) AS a WHERE a.key = :name{index} AND {test})"
