"""`/api/v1/executions`: start, look, wait, act."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from litestar import Response, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromHeader, FromPath, FromQuery, JSONBody, QueryParameter

from edow.api.routes import ACTS, SHOWS, Acting, Shared, allows
from edow.api.views import (
    EventView,
    ExecutionSummary,
    ExecutionView,
    Reason,
    StandingName,
    StatusName,
    event_views,
    execution_summary,
    execution_view,
    microseconds_of,
)
from edow.client.outcome import failure_of
from edow.client.starting import is_traceparent
from edow.errors import AlreadyExists, InvalidInput
from edow.model.execution import ENDED, Execution, Standing
from edow.model.failure import Failure
from edow.model.raw import OptionalRaw
from edow.store.contract import Answer, ExecutionFilter
from edow.workflow.duration import seconds as seconds_of

TAGS = ["executions"]
MOST_STARTED = 1000  # by one request
MOST_EVENTS = 1000  # of a history in one answer

Limit = Annotated[int, QueryParameter(ge=1, le=500, description="At most so many.")]
Cursor = Annotated[str | None, QueryParameter(description="From the page before this one.")]
IfExists = Literal["attach", "reject", "replace"]
StartOutcome = Literal["started", "attached", "exists"]


class NewExecution(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`input`: JSON values by parameter name. `id`: made up if it is left out. `if_exists`: when the id is taken,
    *attach* answers the execution that has it, *reject* is an error, *replace* terminates it and begins anew. `notify`:
    the name of an endpoint that is told of the end, besides those that are told of every end.
    """

    workflow: str
    input: dict[str, object] = {}
    id: str | None = None
    if_exists: IfExists = "attach"
    notify: str = ""


class BatchItem(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    input: dict[str, object] = {}
    id: str | None = None


class ExecutionBatch(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """All in one transaction; an id that is taken stops none of the others. `notify`: as of one, for all."""

    workflow: str
    executions: Annotated[list[BatchItem], msgspec.Meta(min_length=1, max_length=MOST_STARTED)]
    if_exists: IfExists = "attach"
    notify: str = ""


class StartedExecution(msgspec.Struct, kw_only=True):
    """*attached*: the id was taken, and nothing was started; *exists*: likewise, where that was to be rejected."""

    id: str
    run: int
    outcome: StartOutcome


class Signal(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    name: str
    value: object = None


class Accepted(msgspec.Struct, kw_only=True):
    """It is on disk, and will be acted on."""

    id: str
    accepted: bool


class ExecutionPage(msgspec.Struct, kw_only=True):
    """Newest first. `cursor` null: this was the last page."""

    executions: list[ExecutionSummary]
    cursor: str | None


class HistoryPage(msgspec.Struct, kw_only=True):
    """In order. `after` null: there are no more events now; else ask with it for the next ones."""

    id: str
    run: int
    events: list[EventView]
    after: int | None


class ExecutionResult(msgspec.Struct, kw_only=True, omit_defaults=True):
    """`result`: of a completed execution; `failure`: why it has none."""

    id: str
    run: int
    status: StatusName
    result: OptionalRaw = None
    failure: Failure | None = None


ATTACHED = ResponseSpec(StartedExecution, description="The id was taken: attached to it.")


@post("/executions", tags=TAGS, summary="Start an execution", **allows("operate", 409, also={200: ATTACHED}))
async def start_execution(
    client: Acting, data: JSONBody[NewExecution], traceparent: FromHeader[str | None] = None
) -> Response[StartedExecution]:
    """Answers when the execution is on disk. An orchestrator that knows the workflow checks the input when it begins;
    until one does, the execution waits.
    """
    [(id, answer)] = await client.submit_named(
        data.workflow,
        [(data.id, data.input)],
        if_exists=data.if_exists,
        traceparent=trace_of(traceparent),
        notify=data.notify,
    )
    if answer.outcome == "exists":
        raise AlreadyExists(f"execution {id!r} exists already ({answer.status}); choose another id, attach or replace")
    return Response(started(id, answer), status_code=200 if answer.outcome == "attached" else 201)


@post("/executions/batch", tags=TAGS, summary="Start many executions", status_code=200, **allows("operate"))
async def start_executions(
    client: Acting, data: JSONBody[ExecutionBatch], traceparent: FromHeader[str | None] = None
) -> list[StartedExecution]:
    """For each execution what became of it, in order."""
    inputs = [(each.id, each.input) for each in data.executions]
    found = await client.submit_named(
        data.workflow, inputs, if_exists=data.if_exists, traceparent=trace_of(traceparent), notify=data.notify
    )
    return [started(id, answer) for id, answer in found]


@get("/executions", tags=TAGS, summary="List executions", **allows("read"))
async def list_executions(  # noqa: PLR0913  # conditions
    client: Acting,
    workflow: FromQuery[str | None] = None,
    status: FromQuery[list[StandingName] | None] = None,
    prefix: Annotated[str | None, QueryParameter(description="Of the id.")] = None,
    started_after: FromQuery[datetime | None] = None,
    started_before: FromQuery[datetime | None] = None,
    attribute: Annotated[list[str] | None, QueryParameter(description="NAME=VALUE: an attribute equals.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> ExecutionPage:
    """Newest first; conditions are joined by *and*."""
    where = ExecutionFilter(
        workflow=workflow,
        status=[Standing(each) for each in status] if status else None,
        id_prefix=prefix,
        started_after=None if started_after is None else microseconds_of(started_after),
        started_before=None if started_before is None else microseconds_of(started_before),
        attributes=dict(map(attribute_of, attribute)) if attribute else None,
        limit=limit,
        cursor=cursor,
    )
    page = await client.page(where)
    return ExecutionPage(executions=[execution_summary(row) for row in page.executions], cursor=page.cursor)


@get("/executions/{id:str}", tags=TAGS, summary="Describe an execution", **SHOWS)
async def show_execution(client: Acting, id: FromPath[str]) -> ExecutionView:
    """The execution as it is now, with its input and result."""
    return execution_view(await client.get(id).describe())


@get(
    "/executions/{id:str}/result",
    tags=TAGS,
    summary="Wait for the result",
    **allows("read", 404, also={202: ResponseSpec(ExecutionResult, description="It has not ended yet: ask again.")}),
)
async def wait_for_result(
    client: Acting,
    backend: Shared,
    id: FromPath[str],
    timeout: Annotated[str, QueryParameter(description="Like 30s; longer ones than 60s are cut.")] = "30s",
) -> Response[ExecutionResult]:
    """Waits until the execution has ended, at most for the timeout; 202 if it goes on."""
    seconds = min(seconds_of(timeout, "timeout"), backend.settings.longest_wait_seconds)
    with backend.room_to_wait():
        row = await client.get(id).ended(seconds)
    return Response(result_of(row), status_code=200 if row.status in ENDED else 202)


@get("/executions/{id:str}/history", tags=TAGS, summary="Read the history", **SHOWS)
async def read_history(
    client: Acting,
    id: FromPath[str],
    run: Annotated[int | None, QueryParameter(ge=1, le=2**31 - 1, description="An earlier run.")] = None,
    after: Annotated[int, QueryParameter(ge=0, description="Of the page before this one.")] = 0,
    limit: Annotated[int, QueryParameter(ge=1, le=MOST_EVENTS)] = MOST_EVENTS,
) -> HistoryPage:
    """The events of a run in order."""
    row = await client.get(id).describe()
    events = await client.history(id, run or row.run)
    page = event_views(events[after : after + limit], after)
    more = after + limit if after + limit < len(events) else None
    return HistoryPage(id=id, run=run or row.run, events=page, after=more)


NO_REASON = Reason()  # of a request without a body


@post("/executions/{id:str}/signal", tags=TAGS, summary="Send a signal", status_code=202, **ACTS)
async def signal_execution(client: Acting, id: FromPath[str], data: JSONBody[Signal]) -> Accepted:
    """It is kept until the workflow waits for it. 409 after the end."""
    return await accepted(id, client.get(id).signal(data.name, data.value))


@post("/executions/{id:str}/cancel", tags=TAGS, summary="Cancel an execution", status_code=202, **ACTS)
async def cancel_execution(client: Acting, id: FromPath[str], data: JSONBody[Reason] = NO_REASON) -> Accepted:
    """Ask the workflow to stop; its cleanup and compensations run."""
    return await accepted(id, client.get(id).cancel(data.reason))


@post("/executions/{id:str}/terminate", tags=TAGS, summary="Terminate an execution", status_code=202, **ACTS)
async def terminate_execution(client: Acting, id: FromPath[str], data: JSONBody[Reason] = NO_REASON) -> Accepted:
    """End it as it stands: no cleanup, no compensation."""
    return await accepted(id, client.get(id).terminate(data.reason))


@post("/executions/{id:str}/pause", tags=TAGS, summary="Pause an execution", status_code=202, **ACTS)
async def pause_execution(client: Acting, id: FromPath[str], data: JSONBody[Reason] = NO_REASON) -> Accepted:
    """Nothing of it happens until it is resumed; what reaches it meanwhile is kept."""
    return await accepted(id, client.get(id).pause(data.reason))


@post("/executions/{id:str}/resume", tags=TAGS, summary="Resume an execution", status_code=202, **ACTS)
async def resume_execution(client: Acting, id: FromPath[str]) -> Accepted:
    """Go on with a paused execution, or try a parked one again with today's code. 409 if it is neither."""
    return await accepted(id, client.get(id).resume())


async def accepted(id: str, action: Awaitable[None]) -> Accepted:
    await action
    return Accepted(id=id, accepted=True)


def trace_of(traceparent: str | None) -> str:
    """One that is malformed is as good as none: that is the rule of W3C Trace Context."""
    return traceparent if traceparent is not None and is_traceparent(traceparent) else ""


def started(id: str, answer: Answer) -> StartedExecution:
    match answer.outcome:
        case "attached" | "exists":
            return StartedExecution(id=id, run=answer.run, outcome=answer.outcome)
    return StartedExecution(id=id, run=answer.run, outcome="started")


def result_of(row: Execution) -> ExecutionResult:
    ended = row.status in ENDED
    return ExecutionResult(
        id=row.id,
        run=row.run,
        status=row.status.value,
        result=row.result if ended else None,
        failure=failure_of(row),
    )


def attribute_of(given: str) -> tuple[str, str | int | float | bool]:
    """`n=7` is a number, `n="7"` and `n=x` are texts."""
    name, equals, text = given.partition("=")
    if not equals or not name:
        raise InvalidInput(f"attribute {given[:100]!r} is not NAME=VALUE; write it like customer=ada")
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        value = text
    return name, value if isinstance(value, str | int | float | bool) else text


ROUTES = (
    start_execution,
    start_executions,
    list_executions,
    show_execution,
    wait_for_result,
    read_history,
    signal_execution,
    cancel_execution,
    terminate_execution,
    pause_execution,
    resume_execution,
)
