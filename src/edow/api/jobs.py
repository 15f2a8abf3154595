"""`/api/v1/jobs`: one action on all executions that match, in the background."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from litestar import get, post
from litestar.params import FromPath, JSONBody

from edow.api.routes import ACTS, SHOWS, Acting, allows
from edow.api.views import Reason, StandingName, microseconds_of, moment, optional_moment
from edow.client.jobs import Action, Job, Match, Order, Preview, State
from edow.model.execution import Standing

TAGS = ["bulk jobs"]


class Matching(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Conditions are joined by *and*; without a status, executions that have not ended."""

    workflow: str | None = None
    status: list[StandingName] = []
    prefix: str | None = None
    started_after: datetime | None = None
    started_before: datetime | None = None
    attributes: dict[str, str | int | float | bool] = {}

    def match(self) -> Match:
        return Match(
            workflow=self.workflow,
            status=tuple(map(Standing, self.status)),
            prefix=self.prefix,
            started_after=None if self.started_after is None else microseconds_of(self.started_after),
            started_before=None if self.started_before is None else microseconds_of(self.started_before),
            attributes=self.attributes,
        )


class NewJob(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`at_most`: refuse (409) if more match than that, for instance than a preview has counted. `rate`: executions a
    second. `signal` and `value`: for the action signal.
    """

    action: Action
    match: Matching
    reason: str = ""
    signal: str = ""
    value: object = None
    rate: Annotated[float, msgspec.Meta(gt=0, le=10_000)] = 100.0
    at_most: Annotated[int, msgspec.Meta(ge=0)] | None = None


class JobView(msgspec.Struct, kw_only=True):
    """`total`: executions that matched when it began, counted up to 10,000; `handled`: looked at so far; `skipped`: of
    them, those that had ended or were in no state for it.
    """

    id: str
    action: Action
    state: State
    reason: str
    why: str
    rate: float
    created_at: datetime
    created_by: str
    ended_at: datetime | None
    total: int
    handled: int
    skipped: int


@post("/jobs/preview", tags=TAGS, summary="Count what a bulk job would act on", status_code=200, **allows("read"))
async def preview_job(client: Acting, data: JSONBody[Matching]) -> Preview:
    """How many executions match now, counted up to 10,000, and the ids of the newest. Nothing is done."""
    return await client.jobs().preview(data.match())


@post("/jobs", tags=TAGS, summary="Start a bulk job", **allows("operate", 409))
async def start_job(client: Acting, data: JSONBody[NewJob]) -> JobView:
    """It acts on the executions that match and had been started by now, at a rate, and goes on over any crash."""
    order = Order(
        action=data.action,
        match=data.match.match(),
        reason=data.reason,
        signal=data.signal,
        value=data.value,
        rate=data.rate,
        at_most=data.at_most,
    )
    return job_view(await client.jobs().start(order))


@get("/jobs", tags=TAGS, summary="List bulk jobs", **allows("read"))
async def list_jobs(client: Acting) -> list[JobView]:
    """Those that run, and those that ended in the last 30 days; the newest first."""
    return [job_view(each) for each in await client.jobs().list()]


@get("/jobs/{id:str}", tags=TAGS, summary="Look at a bulk job", **SHOWS)
async def show_job(client: Acting, id: FromPath[str]) -> JobView:
    """How far it is."""
    return job_view(await client.jobs().get(id))


@post("/jobs/{id:str}/stop", tags=TAGS, summary="Stop a bulk job", status_code=200, **ACTS)
async def stop_job(client: Acting, id: FromPath[str], data: JSONBody[Reason]) -> JobView:
    """It acts on no more executions; what it has told stays told."""
    return job_view(await client.jobs().stop(id, data.reason))


def job_view(job: Job) -> JobView:
    return JobView(
        id=job.id,
        action=job.action,
        state=job.state,
        reason=job.reason,
        why=job.why,
        rate=job.rate,
        created_at=moment(job.created_at),
        created_by=job.created_by,
        ended_at=optional_moment(job.ended_at),
        total=job.total,
        handled=job.handled,
        skipped=job.skipped,
    )


ROUTES = (preview_job, start_job, list_jobs, show_job, stop_job)
