"""Which dead letters are meant: by filter, or by their ids.

All of them are read without what makes them large, page by page; whole only a few at a time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TypeVar

import msgspec

from edow.client.link import Link
from edow.errors import NotFound, WrongState
from edow.store.contract import DeadLetter, DeadLetterFilter, Store
from edow.store.paging import letter_cursor

T = TypeVar("T")

Selection = DeadLetterFilter | Sequence[str] | str
"""Letters by filter, by ids, or one by id."""

LIMIT = 10_000  # acted on by one command or request
COUNTED = 100_000  # what matches is counted no further
READ = 1000  # read together without arguments and failures,
WHOLE = 50  # or with them: up to 2 MiB each

_WHY_NOT = {
    "raised": "the execution has already received the exception and gone on; start it again if it should be done over",
    "redriven": "it has been redriven already",
    "discarded": "it has been discarded already",
}


async def select_letters(link: Link, which: Selection) -> list[DeadLetter]:
    """Those that wait for somebody to act, without arguments and failures. Raises NotFound and WrongState for one that
    was named and does not.
    """
    if isinstance(which, DeadLetterFilter):
        return await _found(link.store, msgspec.structs.replace(which, state="parked", whole=False))
    ids = [which] if isinstance(which, str) else list(dict.fromkeys(which))
    found: dict[str, DeadLetter] = {}
    for part in parts(ids, READ):
        where = DeadLetterFilter(ids=part, state=None, limit=len(part), whole=False)
        found |= {each.id: each for each in await link.store.dead_letters_list(where)}
    return [_actionable(name, found.get(name)) for name in ids]


async def left_over(link: Link, which: Selection) -> int:
    """How many letters a filter's limit leaves out, of the first COUNTED that match; none of those named by id."""
    if not isinstance(which, DeadLetterFilter):
        return 0
    count, where = 0, msgspec.structs.replace(which, state="parked", whole=False, limit=READ)
    while count < COUNTED:
        page = await link.store.dead_letters_list(where)
        count += len(page)
        if len(page) < READ:
            break
        where = msgspec.structs.replace(where, cursor=letter_cursor(page[-1]))
    return max(0, count - which.limit)


async def whole(link: Link, letters: Sequence[DeadLetter]) -> AsyncIterator[list[DeadLetter]]:
    """With arguments and failures, a few at a time, as far as they still wait."""
    for part in parts(letters, WHOLE):
        where = DeadLetterFilter(ids=[each.id for each in part], limit=len(part))
        yield await link.store.dead_letters_list(where)


def parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for at in range(0, len(items), size):
        yield items[at : at + size]


async def _found(store: Store, where: DeadLetterFilter) -> list[DeadLetter]:
    """Up to its limit."""
    found: list[DeadLetter] = []
    while wanted := min(READ, where.limit - len(found)):
        cursor = letter_cursor(found[-1]) if found else where.cursor
        page = await store.dead_letters_list(msgspec.structs.replace(where, limit=wanted, cursor=cursor))
        found += page
        if len(page) < wanted:
            break
    return found


def _actionable(name: str, letter: DeadLetter | None) -> DeadLetter:
    if letter is None:
        raise NotFound(f"there is no dead letter {name!r} in this store; `edow dlq list` shows what there is")
    if letter.state != "parked":
        raise WrongState(f"dead letter {name!r} is {letter.state}: {_WHY_NOT[letter.state]}")
    return letter
