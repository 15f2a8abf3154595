"""The dead-letter desk as pages: what failed alike, one letter, and redrives in stages as they go on."""

from __future__ import annotations

import msgspec

from edow.client.redrives import Redrive
from edow.console.look import Look, now_us
from edow.model.failure import Failure
from edow.store.contract import DeadLetter, DeadLetterFilter, LetterGroup
from edow.trigger.given_up import sending_in
from edow.trigger.poison import message_in

MOST = 200  # letters on a page
LONGEST_ARGS = 100_000  # characters that a form offers for editing
AGAIN = {
    "applied": ("Apply anew", "By the trigger as it is now, once somebody has mended it"),
    "sent": ("Send again", "Under the same id, and with all attempts, once its receiver is well"),
}


class Kind(msgspec.Struct, frozen=True):
    """Letters that failed alike."""

    group: LetterGroup
    failure: Failure | None

    @property
    def share(self) -> int:
        return self.group.count


class DeskView(msgspec.Struct, frozen=True):
    now: int
    aside: bool
    kinds: list[Kind]
    redrives: list[Redrive]


class GroupPage(msgspec.Struct, frozen=True):
    """Letters of one kind, the oldest first."""

    now: int
    group: str
    aside: bool
    failure: Failure | None
    source: str  # a task, or where poison came from
    letters: list[DeadLetter]
    more: bool
    change: str  # an example, for the form
    again: str  # what may be done with messages of no execution: see AGAIN


class LetterPage(msgspec.Struct, frozen=True):
    letter: DeadLetter
    failure: Failure | None
    args: str
    again: str  # what may be done with a message of no execution: see AGAIN
    editable: str  # the arguments as they are, for the form; "": too long, or not to be seen
    masked: bool


async def desk_view(look: Look, aside: bool) -> DeskView:
    async def groups() -> list[LetterGroup]:
        return await look.client.desk().groups(aside=aside)

    return DeskView(
        now=now_us(),
        aside=aside,
        kinds=[Kind(each, failure_of(each.newest)) for each in await look.shared.get(("groups", aside), groups)],
        redrives=(await look.shared.get("redrives", lambda: look.client.desk().redrives()))[:20],
    )


async def group_page(look: Look, group: str, aside: bool) -> GroupPage:
    where = DeadLetterFilter(fingerprint=group, aside=aside, limit=MOST + 1)
    letters = list(await look.letters(where))
    newest = letters[-1] if letters else None
    return GroupPage(
        now=now_us(),
        group=group,
        aside=aside,
        failure=None if newest is None else failure_of(newest),
        source="" if newest is None else newest.source,
        letters=letters[:MOST],
        more=len(letters) > MOST,
        again="" if newest is None else _again(newest),
        change="" if newest is None else look.masking.short(newest.args, 300),
    )


def letter_page(look: Look, letter: DeadLetter) -> LetterPage:
    """Arguments with a secret field are not offered for editing: what is not seen cannot be sent back."""
    body = bytes(letter.args)
    masked = _compact(look.masking.masked(body)) != _compact(msgspec.json.decode(body))
    text = msgspec.json.format(body, indent=2).decode()
    editable = "" if masked or len(text) > LONGEST_ARGS else text
    return LetterPage(letter, failure_of(letter), look.masking.shown(letter.args), _again(letter), editable, masked)


def _again(letter: DeadLetter) -> str:
    if sending_in(letter) is not None:
        return "sent"
    return "applied" if message_in(letter) is not None else ""


def failure_of(letter: DeadLetter) -> Failure | None:
    return msgspec.json.decode(letter.failure, type=Failure | None)


def _compact(value: object) -> bytes:
    return msgspec.json.encode(value)
