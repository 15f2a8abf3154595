"""Starting executions inside a PostgreSQL transaction of one's own: `edow.start_in`.

What a program changes in its database and the execution that is to follow from it become true together, or neither
does. Where EDOW's store is in the same database, the execution is stored there at once. Where it is not, the start
waits in a table, `edow_outbox`, until it is handed on after the commit: see `edow.client.forwarder`.
"""

from __future__ import annotations

import inspect
import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ParamSpec

from edow.client.ids import IdSource
from edow.client.link import wall_clock
from edow.client.starting import new_start, options_of
from edow.errors import AlreadyExists, InvalidInput, NotFound, WrongState
from edow.store.contract import StartRequest
from edow.workflow.definition import Workflow

P = ParamSpec("P")

TABLE = """
CREATE TABLE IF NOT EXISTS edow_outbox (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    execution text NOT NULL, -- the id that it will have
    workflow text NOT NULL,
    input text NOT NULL,     -- JSON: the parameters by name
    trace text NOT NULL,
    at bigint NOT NULL,      -- microseconds since the epoch
    problem text             -- why the store does not take it; such rows stay until somebody looks at them
)
"""
CHANNEL = "edow_outbox"
LOOK = (
    "SELECT EXISTS (SELECT 1 FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace"
    " WHERE n.nspname = CAST($1 AS text) AND p.proname = 'start_in'), to_regclass('edow_outbox') IS NOT NULL"
)
STORE = (
    "WITH stored AS (INSERT INTO edow_outbox (execution, workflow, input, trace, at) VALUES"
    " (CAST($1 AS text), CAST($2 AS text), CAST($3 AS text), CAST($4 AS text), CAST($5 AS bigint)) RETURNING number)"
    f" SELECT pg_notify('{CHANNEL}', '') FROM stored"
)
Ask = Callable[[str, Sequence[object]], Awaitable[Sequence[Any]]]

_ids = IdSource(wall_clock, secrets.randbits)


async def start_in(connection: object, workflow: Workflow[P, Any], *args: P.args, **kwargs: P.kwargs) -> str:
    """Start an execution when the transaction that is open on `connection` commits; the id that it will have.

    `connection` is one of asyncpg's, an asynchronous one of psycopg's, or an AsyncSession or AsyncConnection of
    SQLAlchemy's. The id comes from `workflow.with_options(id=...)`, or is made up. If it is taken, nothing is started;
    with `if_exists="reject"`, which needs the store in the same database, AlreadyExists is raised.

    EDOW's store is looked for in the schema "edow" of that database; for another use `Outbox`.

    Raises SignatureMismatch, InvalidInput, WrongState (no transaction is open) and NotFound (the database has neither
    EDOW's store nor an outbox).
    """
    return await Outbox().start(connection, workflow, *args, **kwargs)


class Outbox:
    """`schema`: where EDOW's store is, if it is in the database of the connections."""

    def __init__(self, schema: str = "edow") -> None:
        self._schema = schema

    async def start(self, connection: object, workflow: Workflow[P, Any], *args: P.args, **kwargs: P.kwargs) -> str:
        """See `start_in`."""
        ask = asker(connection)
        options = options_of(workflow)
        if options.if_exists == "replace":
            raise InvalidInput(
                'if_exists="replace" cannot be part of a transaction: use Client.start after it has committed'
            )
        body = workflow.signature.encode_call(args, kwargs)
        id = options.id or _ids.new(workflow.name)
        request = new_start(id, workflow.name, body, options, (1, wall_clock()))
        has_store, has_outbox = await ask(LOOK, [self._schema])
        if has_store:
            await self._store(ask, request)
        elif has_outbox:
            await _write_down(ask, request)
        else:
            raise NotFound(
                f"this database has no EDOW store in schema {self._schema!r}, and no table edow_outbox: start an "
                f"orchestrator with --outbox and the URL of this database, which makes the table, or make it by{TABLE}"
            )
        return id

    async def _store(self, ask: Ask, request: StartRequest) -> None:
        from edow.store.postgresql.inside import answer_inside, start_inside

        (value,) = await ask(*start_inside(request, self._schema))
        if answer_inside(request, value).outcome == "exists":
            raise AlreadyExists(f"execution {request.execution.id!r} exists: give another id, or attach to it")


async def _write_down(ask: Ask, request: StartRequest) -> None:
    if request.if_exists == "reject":
        raise InvalidInput(
            'if_exists="reject" needs the store in the same database: whether the id is taken is not known here'
        )
    row = request.execution
    await ask(STORE, [row.id, row.workflow, bytes(row.input).decode(), row.trace, row.started_at])


def asker(connection: Any) -> Ask:
    """How this kind of connection is asked for one row. Raises InvalidInput, or WrongState without a transaction."""
    library = type(connection).__module__.partition(".")[0]
    if hasattr(connection, "is_in_transaction") and hasattr(connection, "fetchrow"):
        _check_open(connection.is_in_transaction(), "async with connection.transaction():")
        return lambda text, values: connection.fetchrow(text, *values)
    if library == "psycopg" and inspect.iscoroutinefunction(connection.execute):
        is_open = not connection.autocommit or connection.info.transaction_status
        _check_open(is_open, "async with connection.transaction():")
        return lambda text, values: _ask_psycopg(connection, text, values)
    if library == "sqlalchemy" and inspect.iscoroutinefunction(getattr(connection, "execute", None)):
        return lambda text, values: _ask_sqlalchemy(connection, text, values)
    hint = "; take a connection from the pool first" if hasattr(connection, "acquire") else ""
    raise InvalidInput(
        f"edow.start_in() was given a {type(connection).__qualname__}{hint}; it takes an asynchronous connection of "
        "asyncpg, psycopg or SQLAlchemy on which a transaction is open"
    )


def _check_open(is_open: object, remedy: str) -> None:
    if not is_open:
        raise WrongState(f"edow.start_in() is for use inside a transaction, and none is open: use `{remedy}`")


async def _ask_psycopg(connection: Any, text: str, values: Sequence[object]) -> Sequence[Any]:
    from psycopg.rows import tuple_row  # type: ignore[import-not-found, unused-ignore]

    cursor = connection.cursor(row_factory=tuple_row)
    await cursor.execute(re.sub(r"\$\d+", "%s", text), values)
    row: Sequence[Any] = await cursor.fetchone()
    return row


async def _ask_sqlalchemy(connection: Any, text: str, values: Sequence[object]) -> Sequence[Any]:
    from sqlalchemy import text as sql  # type: ignore[import-not-found, unused-ignore]

    named = {f"p{number}": value for number, value in enumerate(values, 1)}
    result = await connection.execute(sql(re.sub(r"\$(\d+)", r":p\1", text)), named)
    row: Sequence[Any] = result.one()
    return row
