"""`/api/v1/dead-letter-groups`, `/redrives` and their like: the dead-letter desk."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime

import msgspec
from litestar import get, post
from litestar.params import FromPath, FromQuery, JSONBody

from edow.api.routes import ACTS, SHOWS, Acting, Shared, allows
from edow.api.views import Reason, moment, optional_moment
from edow.client.client import Client
from edow.client.desk import MOST_GROUPS, DryRun, Stages
from edow.client.redrives import Redrive, State
from edow.client.selection import LIMIT, Selection
from edow.errors import InvalidInput
from edow.model.failure import Failure
from edow.store.contract import DeadLetterFilter, LetterGroup

TAGS = ["dead letters"]


class LetterChoice(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Either `ids`, or parked letters by one or more of the others. `source`: see LetterGroupView."""

    ids: list[str] | None = None
    group: str | None = None
    task: str | None = None
    source: str | None = None
    execution: str | None = None

    def selection(self) -> Selection:
        """Raises InvalidInput."""
        others = [self.group, self.task, self.source, self.execution]
        if bool(self.ids) == any(each is not None for each in others):
            raise InvalidInput("nothing clear is selected; give either ids, or a group, task, source or execution")
        return self.ids or self.filter()

    def filter(self) -> DeadLetterFilter:
        return DeadLetterFilter(
            fingerprint=self.group, task=self.task, source=self.source, execution=self.execution, limit=LIMIT
        )


class SetLettersAside(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    which: LetterChoice
    reason: str


class BringLettersBack(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    which: LetterChoice


class TryLetters(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`change`: arguments by name that replace a letter's."""

    which: LetterChoice
    change: dict[str, object] | None = None


class NewRedrive(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`stages`: sizes of the first stages, all that is left follows; `rate`: letters a second; `stop_above`: share of a
    stage's letters that may fail again; `unchecked`: a change is not compared with the task's signature.
    """

    which: LetterChoice
    change: dict[str, object] | None = None
    stages: tuple[int, ...] = (1, 10)
    rate: float = 10.0
    stop_above: float = 0.2
    unchecked: bool = False


class LetterCount(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How many letters there were, or were accepted; `left`: how many more match than one request acts on (10,000),
    counted up to 100,000. Ask again for those.
    """

    letters: int
    left: int = 0


async def count_letters(
    client: Client, which: Selection, act: Callable[[], Awaitable[int]], *, aside: bool = False
) -> LetterCount:
    """What acting came to. Those it leaves are counted first: afterwards not all that it took show it yet."""
    left = await client.desk().left(which, aside=aside)
    return LetterCount(letters=await act(), left=left)


class LetterGroupView(msgspec.Struct, kw_only=True):
    """Letters of one task that failed alike, or poison from one `source` for one reason; `newest` is one of them."""

    group: str
    count: int
    task: str
    source: str  # the task, or where poison came from: a topic, trigger/NAME or endpoint/NAME
    first_at: datetime
    last_at: datetime
    newest: str
    failure: Failure | None
    reason: str  # why the newest one was set aside


class RedriveView(msgspec.Struct, kw_only=True):
    """`stage` counts from 1, and `stage_size` null is the last one, of all that are left."""

    id: str
    state: State
    why: str
    created_at: datetime
    created_by: str
    ended_at: datetime | None
    group: str | None
    task: str | None
    execution: str | None
    stage: int
    stage_size: int | None
    rate: float
    stop_above: float
    succeeded: int
    failed: int
    gone: int
    in_hand: int


@get("/dead-letter-groups", tags=TAGS, summary="Group dead letters", **allows("read"))
async def group_dead_letters(
    client: Acting, aside: FromQuery[bool] = False, limit: FromQuery[int] = 100
) -> list[LetterGroupView]:
    """Parked dead letters by task, type of error and message without particulars, the largest group first; with `aside`
    those in the parking lot.
    """
    found = await client.desk().groups(aside=aside, limit=min(limit, MOST_GROUPS))
    return [group_view(each) for each in found]


@post("/dead-letters/set-aside", tags=TAGS, summary="Set dead letters aside", status_code=200, **ACTS)
async def set_dead_letters_aside(client: Acting, data: JSONBody[SetLettersAside]) -> LetterCount:
    """Into the parking lot: out of the way until somebody brings them back, or they fail again."""
    which = data.which.selection()
    return await count_letters(client, which, lambda: client.desk().set_aside(which, data.reason))


@post("/dead-letters/bring-back", tags=TAGS, summary="Bring dead letters back", status_code=200, **ACTS)
async def bring_dead_letters_back(client: Acting, data: JSONBody[BringLettersBack]) -> LetterCount:
    """Out of the parking lot."""
    which = data.which.selection()
    return await count_letters(client, which, lambda: client.desk().bring_back(which), aside=True)


@post("/dead-letters/dry-run", tags=TAGS, summary="Try a redrive out", status_code=200, **allows("read", 404, 409))
async def try_redrive(client: Acting, backend: Shared, data: JSONBody[TryLetters]) -> DryRun:
    """Which letters would be redriven with what, and which of them would not do. Nothing is done."""
    return await client.desk().dry_run(data.which.selection(), data.change, backend.registry)


@post("/redrives", tags=TAGS, summary="Redrive in stages", **ACTS)
async def start_redrive(client: Acting, backend: Shared, data: JSONBody[NewRedrive]) -> RedriveView:
    """One letter, then ten, then all (or as `stages` says), at a rate; stops by itself when too many fail again."""
    how = Stages(stages=data.stages, rate=data.rate, stop_above=data.stop_above)
    if data.which.ids:
        raise InvalidInput("a redrive in stages takes no ids; give a group, task or execution")
    where, registry = data.which.filter(), backend.registry
    begun = await client.desk().redrive(where, data.change, how, registry=registry, unchecked=data.unchecked)
    return redrive_view(begun)


@get("/redrives", tags=TAGS, summary="List redrives", **allows("read"))
async def list_redrives(client: Acting) -> list[RedriveView]:
    """Those that run, and those that ended in the last 30 days; the newest first."""
    return [redrive_view(each) for each in await client.desk().redrives()]


@get("/redrives/{id:str}", tags=TAGS, summary="Look at a redrive", **SHOWS)
async def show_redrive(client: Acting, id: FromPath[str]) -> RedriveView:
    """How far it is."""
    return redrive_view(await client.desk().get_redrive(id))


@post("/redrives/{id:str}/stop", tags=TAGS, summary="Stop a redrive", status_code=200, **ACTS)
async def stop_redrive(client: Acting, id: FromPath[str], data: JSONBody[Reason]) -> RedriveView:
    """It takes no more letters."""
    return redrive_view(await client.desk().stop_redrive(id, data.reason))


def group_view(group: LetterGroup) -> LetterGroupView:
    newest = group.newest
    return LetterGroupView(
        group=group.fingerprint,
        count=group.count,
        task=newest.task,
        source=newest.source,
        first_at=moment(group.first_at),
        last_at=moment(group.last_at),
        newest=newest.id,
        failure=msgspec.json.decode(newest.failure, type=Failure | None),
        reason=newest.lot,
    )


def redrive_view(redrive: Redrive) -> RedriveView:
    return RedriveView(
        id=redrive.id,
        state=redrive.state,
        why=redrive.why,
        created_at=moment(redrive.created_at),
        created_by=redrive.created_by,
        ended_at=optional_moment(redrive.ended_at),
        group=redrive.fingerprint,
        task=redrive.task,
        execution=redrive.execution,
        stage=redrive.stage + 1,
        stage_size=redrive.stage_size,
        rate=redrive.rate,
        stop_above=redrive.stop_above,
        succeeded=redrive.succeeded,
        failed=redrive.failed,
        gone=redrive.gone,
        in_hand=len(redrive.in_hand),
    )


ROUTES = (
    group_dead_letters,
    set_dead_letters_aside,
    bring_dead_letters_back,
    try_redrive,
    start_redrive,
    list_redrives,
    show_redrive,
    stop_redrive,
)
