"""`/api/v1/dead-letters`: failures that wait for a person. Groups, the parking lot and stages are `edow.api.desk`'s."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Annotated, Literal

import msgspec
from litestar import get, post
from litestar.params import JSONBody, QueryParameter

from edow.api.desk import LetterChoice, LetterCount, count_letters
from edow.api.routes import ACTS, SHOWS, Acting, Shared, allows
from edow.api.views import moment
from edow.errors import NotFound
from edow.model.failure import Failure
from edow.store.contract import DeadLetter, DeadLetterFilter
from edow.store.paging import letter_cursor

TAGS = ["dead letters"]

LetterState = Literal["parked", "raised", "redriven", "discarded"]
AnyState = Literal["parked", "raised", "redriven", "discarded", "any"]


class LetterView(msgspec.Struct, kw_only=True):
    """`args`: parameters by name. `group`: failures of the same kind share it. `aside`: why it was set aside, or ""."""

    id: str
    execution: str
    run: int
    step: str
    task: str
    workflow: str
    state: LetterState
    attempts: int
    at: datetime
    failure: Failure | None
    args: msgspec.Raw
    correlation: str
    traceparent: str
    reason: str
    group: str
    aside: str


class LetterPage(msgspec.Struct, kw_only=True):
    """Oldest first. `cursor` null: this was the last page."""

    letters: list[LetterView]
    cursor: str | None


class RedriveLetters(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`args`: new arguments by parameter name, for all of them. They are checked against the task's signature, for
    which the API was given its code, unless `unchecked`.
    """

    which: LetterChoice
    args: dict[str, object] | None = None
    unchecked: bool = False


class DiscardLetters(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    which: LetterChoice
    reason: str


@get("/dead-letters", tags=TAGS, summary="List dead letters", **allows("read"))
async def list_dead_letters(  # noqa: PLR0913  # conditions
    client: Acting,
    task: Annotated[str | None, QueryParameter(description="Of this task.")] = None,
    source: Annotated[str | None, QueryParameter(description="Of a topic, trigger/NAME or endpoint/NAME.")] = None,
    execution: Annotated[str | None, QueryParameter(description="Of this execution.")] = None,
    error: Annotated[str | None, QueryParameter(description="In the type or message of the error.")] = None,
    group: Annotated[str | None, QueryParameter(description="Of this group.")] = None,
    letters: Annotated[AnyState, QueryParameter(name="state", description="Those that wait: parked.")] = "parked",
    aside: Annotated[bool, QueryParameter(description="In the parking lot.")] = False,
    limit: Annotated[int, QueryParameter(ge=1, le=1000, description="At most so many.")] = 100,
    cursor: Annotated[str | None, QueryParameter(description="From the page before this one.")] = None,
) -> LetterPage:
    """Oldest first; by default those that wait for somebody to act."""
    where = DeadLetterFilter(
        execution=execution,
        task=task,
        source=source,
        state=None if letters == "any" else letters,
        error=error,
        fingerprint=group,
        aside=aside,
        limit=limit + 1,  # of which the last says that there are more
        cursor=cursor,
    )
    found = await client.dead_letters(where)
    shown = found[:limit]
    more = letter_cursor(shown[-1]) if len(found) > limit else None
    return LetterPage(letters=[letter_view(each) for each in shown], cursor=more)


@get("/dead-letters/letter", tags=TAGS, summary="Show a dead letter", **SHOWS)
async def show_dead_letter(
    client: Acting, id: Annotated[str, QueryParameter(description="execution/run/step")]
) -> LetterView:
    """With arguments, error and stack. Its id has slashes, and so is no part of a path."""
    found = await client.dead_letters(DeadLetterFilter(ids=[id], state=None, limit=1))
    if not found:
        raise NotFound(f"there is no dead letter {id[:200]!r}; list those in state any to see what there is")
    return letter_view(found[0])


@post("/dead-letters/redrive", tags=TAGS, summary="Redrive dead letters", status_code=200, **ACTS)
async def redrive_dead_letters(client: Acting, backend: Shared, data: JSONBody[RedriveLetters]) -> LetterCount:
    """Run the steps again at once; `/redrives` does it in stages. What a trigger could not apply is applied anew, and
    webhooks that were given up are sent again.
    """
    which = data.which.selection()
    registry, unchecked = backend.registry, data.unchecked
    redriven = partial(client.redrive, which, data.args, registry=registry, unchecked=unchecked)
    return await count_letters(client, which, redriven)


@post("/dead-letters/discard", tags=TAGS, summary="Discard dead letters", status_code=200, **ACTS)
async def discard_dead_letters(client: Acting, data: JSONBody[DiscardLetters]) -> LetterCount:
    """Answer the steps with TaskDiscarded; their workflows go on with that."""
    which = data.which.selection()
    return await count_letters(client, which, lambda: client.discard(which, data.reason))


def letter_view(letter: DeadLetter) -> LetterView:
    return LetterView(
        id=letter.id,
        execution=letter.execution,
        run=letter.run,
        step=letter.step,
        task=letter.task,
        workflow=letter.workflow,
        state=letter.state,
        attempts=letter.attempts,
        at=moment(letter.at),
        failure=msgspec.json.decode(letter.failure, type=Failure | None),
        args=letter.args,
        correlation=letter.correlation,
        traceparent=letter.trace,
        reason=letter.reason,
        group=letter.fingerprint,
        aside=letter.lot,
    )


ROUTES = (list_dead_letters, show_dead_letter, redrive_dead_letters, discard_dead_letters)
