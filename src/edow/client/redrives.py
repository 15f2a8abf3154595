"""A redrive in stages: one letter, then ten, then all that are alike; it stops by itself when too many fail again.

Its state is a record. Which letters it has in hand is written in the transaction that redrives them, so whoever goes on
with it after a crash knows what became of each, and none is redriven twice by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from edow.client.jobs import check_rate
from edow.client.starting import parameters
from edow.errors import InvalidInput, NotFound
from edow.model import history, inbox
from edow.model.execution import ENDED, Execution
from edow.model.raw import OptionalRaw
from edow.store.contract import CommandRequest, DeadLetter, DeadLetterFilter, Record, RecordFilter, Store

KIND = "desk"
KEPT_US = 30 * 86_400 * 1_000_000  # after its end
MOST_IN_HAND = 100
MOST_AT_ONCE = 50
FEWEST = 5  # letters of which a share of failures means anything in the last stage

State = Literal["running", "stopped", "completed"]
Fate = Literal["waiting", "succeeded", "failed", "gone"]


class Sent(msgspec.Struct, frozen=True):
    """A letter in hand; `at`: when it had failed."""

    id: str
    execution: str
    run: int
    step: str
    at: int


class Redrive(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`stages`: sizes of the first ones; all that is left follows. `change`: arguments by name that replace a letter's.

    `stop_above`: the share of failures, of the letters of a stage that have been answered, at which it stops.
    """

    id: str
    created_at: int
    created_by: str = ""
    fingerprint: str | None = None
    task: str | None = None
    execution: str | None = None
    before: int  # letters that failed before it began: those that fail again are not tried again
    change: OptionalRaw = None
    stages: tuple[int, ...] = (1, 10)
    rate: float = 10.0  # letters a second
    stop_above: float = 0.2
    state: State = "running"
    why: str = ""  # it has stopped
    ended_at: int | None = None
    stage: int = 0
    stage_sent: int = 0
    stage_failed: int = 0
    stage_answered: int = 0
    succeeded: int = 0
    failed: int = 0
    gone: int = 0  # executions that ended without them
    in_hand: tuple[Sent, ...] = ()
    next_at: int = 0

    @property
    def stage_size(self) -> int | None:
        """None: the last, of all that are left."""
        return self.stages[self.stage] if self.stage < len(self.stages) else None

    def checked(self) -> Redrive:
        """Itself. Raises InvalidInput."""
        if self.fingerprint is None and self.task is None and self.execution is None:
            raise InvalidInput("nothing selected; give a group's fingerprint, a task, or an execution")
        if not all(size >= 1 for size in self.stages) or len(self.stages) > 10:
            raise InvalidInput(f"stages {list(self.stages)} are not up to ten sizes of at least 1, like 1,10")
        check_rate(self.rate, "letters")
        if not 0 <= self.stop_above <= 1:
            raise InvalidInput(f"stop_above {self.stop_above:g} is not a share between 0 and 1")
        return self


_decoder = msgspec.json.Decoder(Redrive)


def of_record(record: Record) -> Redrive:
    return _decoder.decode(record.body)


async def find(store: Store, id: str) -> tuple[Redrive, Record]:
    """Raises NotFound."""
    [record] = await store.records_get(KIND, [id])
    if record is None:
        raise NotFound(f"there is no redrive {id!r}; `edow dlq redrives` shows what there is")
    return of_record(record), record


async def all_of(store: Store) -> list[Redrive]:
    """Those that run and those of the last weeks, the newest first."""
    return [of_record(each) for each in await store.records_list(RecordFilter(KIND, descending=True))]


def new_args(letter: DeadLetter, change: msgspec.Raw | None) -> msgspec.Raw | None:
    """The letter's arguments with those of `change` in their place; None: as they are."""
    if change is None:
        return None
    values: Mapping[str, object] = {
        **msgspec.json.decode(letter.args, type=dict[str, object]),
        **msgspec.json.decode(change, type=dict[str, object]),
    }
    return parameters(values, f"the new arguments of {letter.task!r}")


def settled(redrive: Redrive, fates: Mapping[str, Fate]) -> Redrive:
    """After having heard what became of letters in hand; stopped, if too many of them failed again."""
    heard = [fates.get(each.id, "waiting") for each in redrive.in_hand]
    now = msgspec.structs.replace(
        redrive,
        in_hand=tuple(each for each, fate in zip(redrive.in_hand, heard, strict=True) if fate == "waiting"),
        succeeded=redrive.succeeded + heard.count("succeeded"),
        failed=redrive.failed + heard.count("failed"),
        gone=redrive.gone + heard.count("gone"),
        stage_failed=redrive.stage_failed + heard.count("failed"),
        stage_answered=redrive.stage_answered + heard.count("failed") + heard.count("succeeded"),
    )
    if now.state == "running" and _fails(now):
        why = f"{now.stage_failed} of {now.stage_answered} failed again, more than {now.stop_above:.0%} of the stage"
        return msgspec.structs.replace(now, state="stopped", why=why)
    return now


def _fails(redrive: Redrive) -> bool:
    """Whether too many of this stage's letters have failed again, even if all that are not answered yet succeed; of the
    last stage, whose size nobody knows, once there are a few answers.
    """
    size = redrive.stage_size or FEWEST
    return redrive.stage_failed > redrive.stop_above * max(size, redrive.stage_answered)


def room(redrive: Redrive, now: int) -> int:
    """How many letters it may take now, by its stage, its rate and what is in hand."""
    if redrive.state != "running" or now < redrive.next_at:
        return 0
    size = redrive.stage_size
    left = MOST_AT_ONCE if size is None else size - redrive.stage_sent
    return max(0, min(left, MOST_AT_ONCE, MOST_IN_HAND - len(redrive.in_hand), max(1, int(redrive.rate))))


def took(redrive: Redrive, letters: Sequence[DeadLetter], now: int) -> Redrive:
    """With these in hand, too; the next ones when the rate allows them."""
    sent = tuple(Sent(each.id, each.execution, each.run, each.step, each.at) for each in letters)
    return msgspec.structs.replace(
        redrive,
        in_hand=(*redrive.in_hand, *sent),
        stage_sent=redrive.stage_sent + len(sent),
        next_at=now + int(len(sent) / redrive.rate * 1_000_000),
    )


def moved_on(redrive: Redrive, nothing_left: bool, now: int) -> Redrive:
    """Into the next stage, or to its end, when all that this stage has taken is answered."""
    if redrive.in_hand:
        return redrive
    if redrive.state == "stopped" or nothing_left:
        state: State = "stopped" if redrive.state == "stopped" else "completed"
        return msgspec.structs.replace(redrive, state=state, ended_at=now)
    if redrive.stage_size is not None and redrive.stage_sent >= redrive.stage_size:
        return msgspec.structs.replace(redrive, stage=redrive.stage + 1, stage_sent=0, stage_failed=0, stage_answered=0)
    return redrive


def selection(redrive: Redrive, limit: int) -> DeadLetterFilter:
    """Letters that it may take. What it has in hand may be among them."""
    return DeadLetterFilter(
        fingerprint=redrive.fingerprint,
        task=redrive.task,
        execution=redrive.execution,
        before=redrive.before,
        limit=limit,
    )


def command(letter: DeadLetter, change: msgspec.Raw | None) -> CommandRequest:
    """What redrives it."""
    again = inbox.Redrive(run=letter.run, step=letter.step, args=new_args(letter, change))
    return CommandRequest(letter.execution, inbox.encode(again))


def fate(sent: Sent, letter: DeadLetter | None, row: Execution | None, events: Sequence[history.AnyEvent]) -> Fate:
    """What became of a letter: by itself, by its execution's row, and by the history where those do not tell."""
    if letter is not None and letter.at != sent.at and letter.state in ("parked", "raised"):
        return "failed"
    over = letter is None or letter.state == "discarded" or row is None or row.run != sent.run or row.status in ENDED
    if letter is None or letter.state != "redriven":
        return "gone" if over else "waiting"
    for event in reversed(events):
        if isinstance(event, history.TaskCompleted) and event.step == sent.step:
            return "succeeded"
        if isinstance(event, history.TaskRedriven) and event.step == sent.step:
            break
    return "gone" if over else "waiting"
