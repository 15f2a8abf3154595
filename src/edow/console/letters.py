"""The dead-letter desk as pages: what failed alike, one letter, and redrives in stages as they go on."""

from __future__ import annotations

import msgspec

from edow.client.redrives import Redrive
from edow.console.look import Look, now_us
from edow.model.failure import Failure
from edow.store.contract import DeadLetter, DeadLetterFilter, LetterGroup
from edow.trigger.poison import message_in

MOST = 200  # letters on a page
LONGEST_ARGS = 100_000  # characters that a form offers for editing


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
    applicable: bool  # messages that their trigger may apply anew


class LetterPage(msgspec.Struct, frozen=True):
    letter: DeadLetter
    failure: Failure | None
    args: str
    applicable: bool  # a message that its trigger may apply anew
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
        applicable=newest is not None and message_in(newest) is not None,
        change="" if newest is None else look.masking.short(newest.args, 300),
    )


def letter_page(look: Look, letter: DeadLetter) -> LetterPage:
    """Arguments with a secret field are not offered for editing: what is not seen cannot be sent back."""
    body = bytes(letter.args)
    masked = _compact(look.masking.masked(body)) != _compact(msgspec.json.decode(body))
    text = msgspec.json.format(body, indent=2).decode()
    editable = "" if masked or len(text) > LONGEST_ARGS else text
    applicable = message_in(letter) is not None
    return LetterPage(letter, failure_of(letter), look.masking.shown(letter.args), applicable, editable, masked)


def failure_of(letter: DeadLetter) -> Failure | None:
    return msgspec.json.decode(letter.failure, type=Failure | None)


def _compact(value: object) -> bytes:
    return msgspec.json.encode(value)
