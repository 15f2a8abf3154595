"""Bulk jobs: one action on all executions that match, as a record which any process may take a step further.

How far a job is, is written in the transaction that acts: whoever goes on with it after a crash acts on none twice, and
leaves none out. Executions are taken newest first, from those that had been started when the job was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, get_args

import msgspec

from edow.client.audit import Value
from edow.client.link import Link
from edow.client.outcome import failure_of, is_paused
from edow.errors import InvalidInput, NotFound, WrongState
from edow.model import inbox
from edow.model.execution import ENDED, Execution, Standing, Status
from edow.model.raw import OptionalRaw
from edow.store.contract import CommandRequest, ExecutionFilter, Put, Record, RecordFilter
from edow.workflow import codec

KIND = "job"
KEPT_US = 30 * 86_400 * 1_000_000  # after its end
RATES = 0.001, 10_000.0  # executions a second
COUNTED = 10_000  # a preview counts no further
PAGE = 500
SAMPLE = 10

Action = Literal["cancel", "terminate", "pause", "resume", "signal"]
ACTIONS: tuple[Action, ...] = get_args(Action)
State = Literal["running", "stopped", "completed"]


class Match(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which executions: conditions joined by *and*, as in a list. Without a status: those that have not ended."""

    workflow: str | None = None
    status: tuple[Standing, ...] = ()
    prefix: str | None = None
    started_after: int | None = None
    started_before: int | None = None
    attributes: dict[str, str | int | float | bool] = {}

    def where(self, before: int, limit: int, cursor: str | None) -> ExecutionFilter:
        return ExecutionFilter(
            workflow=self.workflow,
            status=self.status or (Standing.RUNNING, Standing.PARKED),
            id_prefix=self.prefix,
            started_after=self.started_after,
            started_before=before if self.started_before is None else min(before, self.started_before),
            attributes=self.attributes or None,
            limit=limit,
            cursor=cursor,
        )


class Job(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`handled` executions were looked at: `skipped` of them had ended, or were in no state for it; the rest was told.
    `rate`: executions a second.
    """

    id: str
    action: Action
    match: Match
    reason: str = ""
    signal: str = ""
    value: OptionalRaw = None
    rate: float = 100.0
    created_at: int
    created_by: str = ""
    total: int = 0  # that matched when it began; COUNTED: so many or more
    state: State = "running"
    why: str = ""  # it was stopped
    cursor: str | None = None
    handled: int = 0
    skipped: int = 0
    next_at: int = 0
    ended_at: int | None = None


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """What a job would act on. `exact` false: there are `count` or more."""

    count: int
    exact: bool
    sample: list[str]


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for."""

    action: Action
    match: Match
    reason: str = ""
    signal: str = ""
    value: object = None
    rate: float = 100.0
    at_most: int | None = None  # refuse if more match than whoever asks has seen

    def checked(self) -> Order:
        """Itself. Raises InvalidInput."""
        if self.action not in ACTIONS:
            raise InvalidInput(f"action {self.action!r} is unknown; use {', '.join(ACTIONS)}")
        check_rate(self.rate, "executions")
        if (self.action == "signal") != bool(self.signal):
            raise InvalidInput("a signal needs a name, and only a signal has one; give action signal and its name")
        return self


def check_rate(rate: float, what: str) -> None:
    """Raises InvalidInput. With a slower one, the next step would be after the end of time."""
    least, most = RATES
    if not least <= rate <= most:
        raise InvalidInput(f"rate {rate:g} is not between {least:g} and {most:,.0f} {what} a second")


_decoder = msgspec.json.Decoder(Job)


def of_record(record: Record) -> Job:
    return _decoder.decode(record.body)


class Jobs:
    """Of one client; see `Client.jobs`."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def preview(self, match: Match) -> Preview:
        """How many executions match now, and the newest of them. Nothing is done."""
        now, cursor, count, sample = self._link.clock(), None, 0, list[str]()
        while count < COUNTED:
            page = await self._link.store.executions_list(match.where(now, PAGE, cursor))
            sample += [row.id for row in page.executions[: SAMPLE - len(sample)]]
            count, cursor = count + len(page.executions), page.cursor
            if cursor is None:
                return Preview(count=count, exact=True, sample=sample)
        return Preview(count=count, exact=False, sample=sample)

    async def start(self, order: Order) -> Job:
        """Begin. Raises InvalidInput, and WrongState if more match than `at_most`."""
        order.checked()
        found = await self.preview(order.match)
        if order.at_most is not None and found.count > order.at_most:
            more = "" if found.exact else " or more"
            raise WrongState(f"{found.count}{more} executions match, more than the {order.at_most} allowed; look again")
        value = codec.encode(order.value, f"the value of signal {order.signal!r}") if order.signal else None
        link = self._link
        job = Job(
            id=link.ids.new("job"),
            action=order.action,
            match=order.match,
            reason=order.reason,
            signal=order.signal,
            value=value,
            rate=order.rate,
            created_at=link.clock(),
            created_by=link.actor.name if link.actor else "",
            total=found.count,
        )
        await link.act("job.start", job.id, _told(job), puts=[put(job, 0)])
        return job

    async def list(self) -> list[Job]:
        """Those that run, and those that ended in the last 30 days, the newest first."""
        return [of_record(each) for each in await self._link.store.records_list(RecordFilter(KIND, descending=True))]

    async def get(self, id: str) -> Job:
        """Raises NotFound."""
        return of_record(await self._record(id))

    async def stop(self, id: str, reason: str = "") -> Job:
        """It acts on no more executions. Raises NotFound, and WrongState when it is over."""

        async def stopped() -> tuple[Job, Put]:
            record = await self._record(id)
            job = of_record(record)
            if job.ended_at is not None:
                raise WrongState(f"job {id!r} is {job.state}; there is nothing left to stop")
            now = msgspec.structs.replace(job, state="stopped", why=reason, ended_at=self._link.clock())
            return now, put(now, record.version)

        return await self._link.insist("job.stop", id, reason, stopped)

    async def _record(self, id: str) -> Record:
        [record] = await self._link.store.records_get(KIND, [id])
        if record is None:
            raise NotFound(f"there is no job {id!r}; `edow bulk list` shows what there is")
        return record


def put(job: Job, version: int) -> Put:
    """Write the job if it is still in that version."""
    kept = None if job.ended_at is None else job.ended_at + KEPT_US
    return Put(KIND, job.id, msgspec.json.encode(job), if_version=version, expires_at=kept)


def command(job: Job, row: Execution) -> CommandRequest | None:
    """What tells the execution; None: it is in no state for it."""
    made = None if row.status in ENDED else COMMANDS[job.action](job, row)
    return None if made is None else CommandRequest(row.id, inbox.encode(made))


def _cancel(job: Job, _row: Execution) -> inbox.AnyCommand:
    return inbox.Cancel(reason=_reason(job))


def _terminate(job: Job, _row: Execution) -> inbox.AnyCommand:
    return inbox.Terminate(reason=_reason(job))


def _pause(job: Job, row: Execution) -> inbox.AnyCommand | None:
    return None if is_paused(row) else inbox.Pause(reason=_reason(job))


def _resume(_job: Job, row: Execution) -> inbox.AnyCommand | None:
    """Not what waits for a dead letter: that is to be redriven or discarded."""
    failure = failure_of(row) if row.status is Status.PARKED else None
    return None if failure is None or failure.step else inbox.Resume()


def _signal(job: Job, _row: Execution) -> inbox.AnyCommand:
    return inbox.Signal(name=job.signal, payload=msgspec.Raw(b"null") if job.value is None else job.value)


COMMANDS: Mapping[Action, Callable[[Job, Execution], inbox.AnyCommand | None]] = {
    "cancel": _cancel,
    "terminate": _terminate,
    "pause": _pause,
    "resume": _resume,
    "signal": _signal,
}


def _reason(job: Job) -> str:
    return f"{job.reason} (bulk job {job.id})".strip()


def _told(job: Job) -> dict[str, Value]:
    match = job.match
    conditions: dict[str, Value] = {
        "action": job.action,
        "reason": job.reason,
        "signal": job.signal,
        "matched": job.total,
        "workflow": match.workflow,
        "prefix": match.prefix,
        "status": ", ".join(match.status),
        "attributes": ", ".join(match.attributes),
    }
    return {name: value for name, value in conditions.items() if value not in ("", None)}
