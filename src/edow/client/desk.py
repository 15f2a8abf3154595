"""The dead-letter desk: failures of one kind together, set aside or brought back, tried out, and redriven in stages."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from edow.client import redrives
from edow.client.audit import Value
from edow.client.letters import TOGETHER, checked_args
from edow.client.link import Link
from edow.client.redrives import KIND, Redrive
from edow.client.selection import Selection, left_over, parts, select_letters, whole
from edow.client.starting import parameters
from edow.errors import EdowError, InvalidInput, WrongState
from edow.store.contract import DeadLetter, DeadLetterFilter, LetterGroup, Put
from edow.trigger.again import Anew
from edow.workflow.registry import Registry

MOST_GROUPS = 500
SHOWN = 20  # letters that a dry run shows


class Trial(msgspec.Struct, frozen=True):
    """What a letter would be redriven with, and why that would not do: `problem`, or ""."""

    id: str
    task: str
    args: msgspec.Raw
    problem: str


class DryRun(msgspec.Struct, frozen=True):
    """`letters` of those selected could be redriven, `unfit` could not; `trials`: some of them, unfit ones first."""

    letters: int
    unfit: int
    trials: list[Trial]


class Stages(msgspec.Struct, frozen=True, kw_only=True):
    """How carefully to redrive: see `Redrive`."""

    stages: tuple[int, ...] = (1, 10)
    rate: float = 10.0
    stop_above: float = 0.2


class Desk:
    """Of one client; see `Client.desk`."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def groups(self, *, aside: bool = False, limit: int = 100) -> list[LetterGroup]:
        """Parked dead letters by what went wrong (poison: by where it came from, and why), the largest group first; or
        those in the parking lot.
        """
        if not 1 <= limit <= MOST_GROUPS:
            raise InvalidInput(f"limit {limit} is not between 1 and {MOST_GROUPS}")
        return await self._link.store.dead_letters_groups(aside, limit)

    async def set_aside(self, which: Selection, reason: str) -> int:
        """Put letters into the parking lot: out of the way until somebody brings them back, or they fail again."""
        if not reason.strip():
            raise InvalidInput("say why they are set aside; whoever finds them there will ask")
        return await self._park(which, reason.strip(), "dead_letter.set_aside")

    async def bring_back(self, which: Selection) -> int:
        """Out of the parking lot; how many were there."""
        if isinstance(which, DeadLetterFilter):
            which = msgspec.structs.replace(which, aside=True)
        return await self._park(which, "", "dead_letter.bring_back")

    async def left(self, which: Selection, *, aside: bool = False) -> int:
        """How many letters a filter means beyond its limit, and acting on it leaves; counted up to 100,000 letters."""
        if isinstance(which, DeadLetterFilter):
            which = msgspec.structs.replace(which, aside=aside)
        return await left_over(self._link, which)

    async def dry_run(self, which: Selection, change: Mapping[str, object] | None, registry: Registry | None) -> DryRun:
        """What redriving would do, with some arguments changed: nothing is done."""
        body = _body(change)
        anew = Anew(self._link.store, self._link.clock)
        letters, unfit, shown = 0, 0, list[Trial]()
        async for page in whole(self._link, await select_letters(self._link, which)):
            trials = [await _trial(each, body, registry, anew) for each in page]
            letters += len(trials)
            unfit += sum(bool(each.problem) for each in trials)
            shown = sorted([*shown, *trials], key=lambda trial: not trial.problem)[:SHOWN]
        return DryRun(letters, unfit, shown)

    async def redrive(
        self,
        where: DeadLetterFilter,
        change: Mapping[str, object] | None = None,
        how: Stages | None = None,
        *,
        registry: Registry | None = None,
        unchecked: bool = False,
    ) -> Redrive:
        """Begin a redrive in stages of the parked letters with this fingerprint, task or execution.

        It is gone on with beside any orchestrator. Raises InvalidInput, and SignatureMismatch for a change
        that does not fit a task's signature.
        """
        link, how = self._link, how or Stages()
        now, body = link.clock(), _body(change)
        letters = [each for each in await select_letters(link, where) if each.execution]
        if not letters:
            raise InvalidInput(
                "no parked dead letter that belongs to an execution is selected; `edow dlq groups` lists them, and "
                "what a trigger could not apply is redriven without stages"
            )
        if body is not None and not unchecked:
            async for page in whole(link, letters):
                for each in page:
                    checked_args(each, redrives.new_args(each, body), registry)
        redrive = Redrive(
            id=f"{now:017d}-{letters[0].fingerprint[:8] or 'letters'}",
            created_at=now,
            created_by=link.actor.name if link.actor else "",
            fingerprint=where.fingerprint,
            task=where.task,
            execution=where.execution,
            before=max(now, *(each.at for each in letters)) + 1,
            change=body,
            **msgspec.structs.asdict(how),
        ).checked()
        put = Put(KIND, redrive.id, msgspec.json.encode(redrive), if_version=0)
        told: dict[str, Value] = {"changed": body is not None, "stages": ",".join(map(str, redrive.stages))}
        await link.act("dead_letter.redrive_in_stages", redrive.id, told, puts=[put])
        return redrive

    async def redrives(self) -> list[Redrive]:
        """Those that run, and those that ended in the last weeks; the newest first."""
        return await redrives.all_of(self._link.store)

    async def get_redrive(self, id: str) -> Redrive:
        """Raises NotFound."""
        return (await redrives.find(self._link.store, id))[0]

    async def stop_redrive(self, id: str, reason: str = "") -> Redrive:
        """Take no more letters; those in hand are waited for. Raises NotFound, WrongState."""

        async def stopped() -> tuple[Redrive, Put]:
            redrive, record = await redrives.find(self._link.store, id)
            if redrive.state != "running":
                raise WrongState(f"redrive {id!r} is {redrive.state} already")
            now = msgspec.structs.replace(redrive, state="stopped", why=reason or "somebody stopped it")
            return now, Put(KIND, id, msgspec.json.encode(now), if_version=record.version)

        return await self._link.insist("dead_letter.stop_redrive", id, reason, stopped)

    async def _park(self, which: Selection, reason: str, action: str) -> int:
        link, count = self._link, 0
        for ids in parts([each.id for each in await select_letters(link, which)], TOGETHER):
            now = link.clock()
            told: dict[str, Value] = {"letters": len(ids), "reason": reason}
            entries = link.entries(action, ids[0] if len(ids) == 1 else "", told, now)
            count += await link.store.dead_letters_set_aside(ids, reason, entries, now)
        return count


def _body(change: Mapping[str, object] | None) -> msgspec.Raw | None:
    return None if change is None else parameters(dict(change), "the changed arguments")


async def _trial(letter: DeadLetter, change: msgspec.Raw | None, registry: Registry | None, anew: Anew) -> Trial:
    args, problem = letter.args, ""
    try:
        if letter.execution:
            args = redrives.new_args(letter, change) or letter.args
            checked_args(letter, args, registry)
        else:
            await anew.check(letter)
    except EdowError as error:
        problem = str(error)
    return Trial(letter.id, letter.task, args, problem)
