"""Accepting requests: thousands of starts and commands in one or two statements, each answered for itself.

Starts under ids that nobody else asks for, which most are, are stored at once, and the database says which ids were
taken. Anything else is decided in memory upon what a look has told; if somebody else changes that before it is
written, nothing is, and it is decided anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import msgspec

from edow.errors import RecordChanged, StoreUnavailable
from edow.model.execution import Execution
from edow.postgresql import Calls, Database
from edow.postgresql.problems import LETTER_CHANGED, OVERTAKEN, RECORD_CHANGED, code_of
from edow.store.acceptance import Draft, Known, insist, refusal, start_command
from edow.store.contract import LETTER, Answer, LetterState, Put, Request, StartRequest, told
from edow.store.postgresql.keys import key_of, name_of, printable
from edow.store.postgresql.rows import born

TRIES = 100  # of a batch that is overtaken by others

_known = msgspec.json.Decoder(list[Known]).decode


class Batch(NamedTuple):
    """One caller's requests."""

    requests: Sequence[Request]
    now: int


class Beside(NamedTuple):
    """What is written in the transaction of requests. `all_or_nothing`: of those, too."""

    puts: Sequence[Put] = ()
    letters: Sequence[LetterState] = ()
    all_or_nothing: bool = False


async def accept(database: Database, batches: Sequence[Batch]) -> list[list[Answer]]:
    """The answers to each caller, from one transaction."""
    requests = [request for batch in batches for request in batch.requests]
    now = max(batch.now for batch in batches)
    starts = [request for request in requests if isinstance(request, StartRequest) and request.if_exists != "replace"]
    apart = len(starts) == len(requests) == len({request.execution.id for request in starts})
    answers = await (_store(database, starts, now) if apart else _decide(database, requests, now, Beside()))
    cut: list[list[Answer]] = []
    for batch in batches:
        cut.append(answers[: len(batch.requests)])
        del answers[: len(batch.requests)]
    return cut


async def put_records(database: Database, beside: Beside, now: int, requests: Sequence[Request]) -> list[Answer]:
    """Records, letters and requests in one transaction. Raises RecordChanged and NotAccepted."""
    with telling(beside.puts, beside.letters):
        return await _decide(database, requests, now, beside)


async def write_beside(
    database: Database, statement: tuple[str, Sequence[object]], puts: Sequence[Put], now: int
) -> int:
    """A statement that takes records first, and writes them, too; how many rows it changes. Raises RecordChanged."""
    sql, arguments = statement
    with telling(puts):
        rows = await database.write(sql, now, *(puts_columns(puts) or [[]] * 5), *arguments)
    database.notify(told(puts))
    return sum(row[0] is not None for row in rows)


@contextmanager
def telling(puts: Sequence[Put], letters: Sequence[LetterState] = ()) -> Iterator[None]:
    """Which record was changed, or which letter acted on."""
    try:
        yield
    except Exception as problem:
        code = code_of(problem)
        if code == RECORD_CHANGED:
            put = _ordered(puts)[_which(problem)]
            raise RecordChanged(put.kind, put.key) from problem
        if code == LETTER_CHANGED:
            raise RecordChanged(LETTER, _by_key(letters)[_which(problem)].id) from problem
        raise


def _which(problem: BaseException) -> int:
    return int(getattr(problem, "detail", 1)) - 1


def _ordered(puts: Sequence[Put]) -> list[Put]:
    """As they are locked."""
    return sorted(puts, key=lambda put: (put.kind.encode(), put.key.encode()))


def _by_key(letters: Sequence[LetterState]) -> list[LetterState]:
    """As they are locked."""
    return sorted(letters, key=lambda each: key_of(each.id).encode())


async def _store(database: Database, starts: Sequence[StartRequest], now: int) -> list[Answer]:
    """Starts under different ids."""
    calls = Calls()
    calls.add("start", False, now, *_fresh(starts), None, None, None)
    taken = await _answer(database, calls)
    if taken is None or len(taken) < len(starts):
        database.notify({"inbox"})
    known = {each.id: each for each in taken or ()}
    answers: list[Answer] = []
    for request in starts:
        row = request.execution
        found = known.get(key_of(row.id)) if known else None
        answers.append(Answer("accepted", row.run, row.status) if found is None else refusal(request, found))
    return answers


def _fresh(starts: Sequence[StartRequest]) -> list[list[object]]:
    rows = [request.execution for request in starts]
    return [
        *named(rows),
        *born(rows, [row.run for row in rows]),
        [row.input for row in rows],
        [request.segment for request in starts],
        [start_command(row.run) for row in rows],
    ]


def named(rows: Sequence[Execution]) -> list[list[object]]:
    """Keys, and names where they are needed."""
    return [[key_of(row.id) for row in rows], [name_of(row.id) for row in rows]]


async def _answer(database: Database, calls: Calls) -> list[Known] | None:
    (text,) = await database.call(calls)
    return _known(text) if text is not None else None


async def _decide(database: Database, requests: Sequence[Request], now: int, beside: Beside) -> list[Answer]:
    ids = [each.execution.id if isinstance(each, StartRequest) else each.execution for each in requests]
    by_key = {key_of(id): id for id in ids}
    for _ in range(TRIES):
        draft = Draft(await _look(database, by_key), now)
        answers = [draft.answer(request) for request in requests]
        if beside.all_or_nothing:
            insist(answers)
        if await _write(database, draft, now, beside):
            return answers
    raise StoreUnavailable(f"{database.place}: too many others start the same executions; try again")


async def _look(database: Database, by_key: Mapping[str, str]) -> dict[str, Known]:
    """What is known of executions, by id; `by_key` has their ids by key."""
    if not by_key:
        return {}
    look = Calls()
    look.add("known", list(by_key))
    known = {by_key[each.id]: each for each in await _answer(database, look) or ()}
    for id, each in known.items():
        each.id = id
    return known


def puts_columns(puts: Sequence[Put]) -> list[list[object]]:
    """What `put_records` takes, in the order in which records are locked."""
    rows = ((put.kind, put.key, put.body, put.if_version, put.expires_at) for put in _ordered(puts))
    return [list(column) for column in zip(*rows, strict=True)]


async def _write(database: Database, draft: Draft, now: int, beside: Beside) -> bool:
    """False: somebody was quicker, and nothing is written."""
    calls = Calls()
    if beside.puts:
        calls.add("put_records", now, *puts_columns(beside.puts))
    if beside.letters:
        closed = _by_key(beside.letters)
        reasons = [printable(each.reason) for each in closed]
        calls.add("settle", [key_of(each.id) for each in closed], [each.state for each in closed], reasons)
    replaced = draft.replaced
    again = sorted((row for id, row in draft.rows.items() if id in replaced), key=lambda each: key_of(each[0].id))
    if again:
        rows = [row for row, _ in again]
        old = [replaced[row.id] for row in rows]
        calls.add("replace", [key_of(row.id) for row in rows], old, *born(rows, [run for _, run in again]))
    new = [row for id, row in draft.rows.items() if id not in replaced]
    if new:
        rows = [row for row, _ in new]
        bare = [None] * 6  # inputs, segments and commands are written below; nobody is told
        calls.add("start", True, now, *named(rows), *born(rows, [run for _, run in new]), *bare)
    if draft.segments:
        columns = [draft.segments[at::5] for at in range(5)]
        calls.add("append", [key_of(str(id)) for id in columns[0]], *columns[1:])
    if draft.inbox:
        calls.add("command", now, *(draft.inbox[at::4] for at in range(3)))
    if not calls:
        return True
    try:
        await database.call(calls)
    except Exception as problem:
        if code_of(problem) != OVERTAKEN:
            raise
        return False
    database.notify(draft.channels() | told(beside.puts))
    return True
