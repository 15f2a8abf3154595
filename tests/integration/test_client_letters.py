"""The client: redriving and discarding dead letters."""

from __future__ import annotations

import msgspec
import pytest

import edow
from edow.client import Client
from edow.client.selection import LIMIT, WHOLE
from edow.model import inbox
from edow.model.execution import Execution, Status
from edow.store.contract import DeadLetter, DeadLetterFilter
from edow.workflow.registry import Registry
from tests.integration.memory_store import MemoryStore


@edow.task
async def read(path: str, errors: str = "strict") -> int:
    return 0


def letter(execution: str, step: str = "read", state: str = "parked") -> DeadLetter:
    args = msgspec.Raw(msgspec.json.encode({"path": f"{execution}.py"}))
    return DeadLetter(
        id=f"{execution}/1/{step}", execution=execution, run=1, step=step, task="read", state=state, args=args
    )


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    for name in ("a", "b", "c", "d"):
        store.rows[name] = Execution(id=name, workflow="index", shard=0, status=Status.PARKED)
    store.letters = [letter("a"), letter("b"), letter("c", state="raised"), letter("d", state="redriven")]
    store.letters.append(DeadLetter(id="/0/poison", execution="", run=0, step="poison", task="?"))
    return store


@pytest.fixture
async def client(store):
    async with Client(store=store) as client:
        yield client


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    registry.add(read)
    return registry


def redrive(execution: str, args: bytes | None = None) -> tuple[str, inbox.Redrive]:
    return execution, inbox.Redrive(run=1, step="read", args=None if args is None else msgspec.Raw(args))


async def test_redrive_by_filter_takes_what_waits(client, store):
    """A filter redrives the parked letters of executions, and leaves poison alone."""
    assert await client.redrive(DeadLetterFilter()) == 2
    assert store.commands == [redrive("a"), redrive("b")]


async def test_redrive_by_id(client, store):
    """One id, or several, each once."""
    assert await client.redrive("a/1/read") == 1
    assert await client.redrive(["b/1/read", "b/1/read"]) == 1
    assert store.commands == [redrive("a"), redrive("b")]
    assert await client.redrive([]) == 0


async def test_new_arguments_are_checked(client, store, registry):
    """Edited arguments that fit the task's signature are sent; others are refused before anything is."""
    with pytest.raises(edow.SignatureMismatch, match="read"):
        await client.redrive("a/1/read", {"path": 7}, registry=registry)
    with pytest.raises(edow.SignatureMismatch, match="lenient"):
        await client.redrive(DeadLetterFilter(), {"path": "x", "lenient": True}, registry=registry)
    assert store.commands == []
    await client.redrive("a/1/read", {"path": "x", "errors": "replace"}, registry=registry)
    assert store.commands == [redrive("a", b'{"path":"x","errors":"replace"}')]


async def test_new_arguments_may_depend_on_the_letter(client, store, registry):
    """A function makes the new arguments out of each letter."""
    await client.redrive(
        DeadLetterFilter(),
        lambda letter: {**msgspec.json.decode(letter.args), "errors": "replace"},
        registry=registry,
    )
    assert store.commands == [
        redrive("a", b'{"path":"a.py","errors":"replace"}'),
        redrive("b", b'{"path":"b.py","errors":"replace"}'),
    ]


async def test_unknown_code_is_not_guessed(client, store):
    """Without the task's code, new arguments are refused unless sent unchecked."""
    with pytest.raises(edow.InvalidInput, match="unchecked"):
        await client.redrive("a/1/read", {"path": "x"})
    assert store.commands == []
    await client.redrive("a/1/read", {"path": "x"}, unchecked=True)
    assert store.commands == [redrive("a", b'{"path":"x"}')]


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("x/1/read", edow.NotFound, "no dead letter 'x/1/read'"),
        ("c/1/read", edow.WrongState, "already received the exception"),
        ("d/1/read", edow.WrongState, "redriven already"),
        ("/0/poison", edow.WrongState, "belongs to no execution"),
    ],
)
async def test_what_cannot_be_redriven_is_told(client, store, name, error, said):
    """A letter that was named and cannot be redriven is an error; nothing is sent, not even for the others."""
    with pytest.raises(error, match=said):
        await client.redrive(["a/1/read", name])
    assert store.commands == []


async def test_an_execution_that_has_ended_since_is_told(client, store):
    """Redriving a letter of an execution that has ended is WrongState by id, and counted out by filter."""
    store.rows["a"].status = Status.TERMINATED
    with pytest.raises(edow.WrongState, match="terminated"):
        await client.redrive("a/1/read")
    assert await client.redrive(DeadLetterFilter()) == 1


async def test_discard_answers_and_closes(client, store):
    """Discarding answers the steps with the reason, and closes poison in the store."""
    assert await client.discard(DeadLetterFilter(), "not ours") == 3
    assert store.commands == [(each, inbox.Discard(run=1, step="read", reason="not ours")) for each in "ab"]
    assert store.closed_letters == [("/0/poison", "discarded", "not ours")]
    with pytest.raises(edow.InvalidInput, match="say why"):
        await client.discard(DeadLetterFilter(), " ")


async def test_letters_are_listed(client):
    """By default those that wait for somebody to act."""
    assert [each.id for each in await client.dead_letters()] == ["/0/poison", "a/1/read", "b/1/read"]
    assert len(await client.dead_letters(DeadLetterFilter(state=None))) == 5


@pytest.fixture
def crowd(store) -> MemoryStore:
    """2,600 letters of executions, all of whose arguments are not to be in memory at once."""
    for number in range(2_600):
        store.rows[f"x{number:04}"] = Execution(id=f"x{number:04}", workflow="index", shard=0, status=Status.PARKED)
        store.letters.append(letter(f"x{number:04}"))
    return store


EVERY = DeadLetterFilter(limit=LIMIT)


async def test_many_letters_are_acted_on_without_reading_them_whole(client, crowd):
    """Each once, as many as the filter allows."""
    assert await client.redrive(msgspec.structs.replace(EVERY, limit=2_501)) == 2_500
    assert len({id for id, _ in crowd.commands}) == len(crowd.commands) == 2_500
    assert await client.discard(EVERY, "not ours") == 2_603
    assert crowd.whole == [1], "poison, of which it is to be known what it is"


async def test_of_letters_that_are_needed_whole_a_few_are_read_at_once(client, crowd, registry):
    """To be given new arguments, which all of them are checked for before one is sent; or to be tried out."""
    tried = await client.desk().dry_run(EVERY, {"path": "x"}, registry)
    assert (tried.letters, tried.unfit, len(tried.trials)) == (2_603, 1, 20)
    assert tried.trials[0].id == "/0/poison"

    def last_is_wrong(letter: DeadLetter) -> dict[str, object]:
        return {"path": 7 if letter.execution == "x2599" else "x"}

    with pytest.raises(edow.SignatureMismatch):
        await client.redrive(EVERY, last_is_wrong, registry=registry)
    assert crowd.commands == []
    assert await client.redrive(EVERY, {"path": "x"}, registry=registry) == 2_602
    assert len({id for id, _ in crowd.commands}) == 2_602
    assert 0 < max(crowd.whole) <= WHOLE
