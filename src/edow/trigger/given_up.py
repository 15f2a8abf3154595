"""Webhooks that were given up: dead letters of no execution that hold all it takes to send them again, under the id by
which the receiver knows them.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from edow.errors import NotFound
from edow.model.failure import Failure, fingerprint
from edow.store.contract import DeadLetter, LetterState, Put
from edow.trigger.outgoing import Sending

SOURCE = "endpoint/"
TYPE = "edow.GivenUp"


def letter_of(sending: Sending, why: str, now: int) -> DeadLetter:
    """Each message is one, however often it is given up; those of one endpoint for one reason are a group."""
    source = f"{SOURCE}{sending.endpoint}"
    step = f"{source}@{sending.id}"
    where = f"webhook {sending.id} ({sending.type}) for endpoint {sending.endpoint}"
    failure = Failure(type=TYPE, message=f"{where}: {why}", kind="poison", retryable=False)
    return DeadLetter(
        id=f"poison/{step}",
        execution="",
        run=0,
        step=step,
        task="",
        args=msgspec.Raw(msgspec.json.encode(sending)),
        failure=msgspec.Raw(msgspec.json.encode(failure)),
        attempts=sending.attempts,
        at=now,
        fingerprint=fingerprint(source, TYPE, why),
    )


def sending_in(letter: DeadLetter) -> Sending | None:
    """The message that was given up, if this is one and all of it is here."""
    if letter.execution or not letter.source.startswith(SOURCE):
        return None
    try:
        return msgspec.json.decode(letter.args, type=Sending)
    except msgspec.ValidationError:  # of a group's newest they are left out; earlier releases kept the body alone
        return None


def gone(letter: DeadLetter) -> NotFound:
    """Its endpoint is."""
    name = letter.source.removeprefix(SOURCE)
    return NotFound(f"there is no endpoint {name!r} any more: make it again, or discard {letter.id!r}")


def again(letters: Sequence[DeadLetter], now: int) -> tuple[list[Put], list[LetterState]]:
    """What sends their messages again, with all attempts before them, and closes the letters: for one transaction."""
    puts: list[Put] = []
    for sending in filter(None, map(sending_in, letters)):
        message, index = msgspec.structs.replace(sending, due_at=now, created_at=now, attempts=0).puts()
        puts += [msgspec.structs.replace(message, if_version=0), index]
    return puts, [LetterState(each.id, "redriven", "sent again") for each in letters]
