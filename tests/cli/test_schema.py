"""The wire format as documents say it, as AsyncAPI and the official CloudEvents SDK read it, and as it really is."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from jsonschema import Draft7Validator
from referencing import Registry, Resource

import edow
from edow.app import System
from edow.cli.schema import document
from edow.cli.schemas import schemas_of
from edow.errors import InvalidInput
from edow.model import wire
from edow.model.message import Message
from edow.monitor.roll import Roll
from tests.docs import markdown
from tests.integration.system import Setup, happened, has_status, registry_of, running, until

OFFICIAL = Draft7Validator(json.loads((Path(__file__).parent / "asyncapi" / "3.0.0.json").read_text()))

CODE = '''
"""Code with every kind of type."""
import dataclasses, datetime, decimal, enum, typing, uuid
import msgspec, pydantic
import edow

class Colour(enum.Enum):
    RED = "red"

class Inner(pydantic.BaseModel):
    cents: int

class Money(pydantic.BaseModel):
    inner: Inner

@dataclasses.dataclass
class Order:
    id: uuid.UUID
    colour: Colour
    at: datetime.datetime

@edow.task
async def charge(order: Order, money: Money, *more: decimal.Decimal, note: object = None) -> Money:
    """Charge the card.

    At length."""
    return money

@edow.task(topic="other")
async def nothing() -> None: ...

@edow.task
async def double(x: int) -> int:
    return 2 * x

class Cat(msgspec.Struct, tag=True):
    lives: int

class Dog(msgspec.Struct, tag=True):
    tricks: list[object]

class Car(pydantic.BaseModel):
    kind: typing.Literal["car"]

class Bus(pydantic.BaseModel):
    kind: typing.Literal["bus"]

class Trip(pydantic.BaseModel):
    by: Car | Bus = pydantic.Field(discriminator="kind")
    seat: tuple[int, str]
    then: "Trip | None" = None

class Place(typing.NamedTuple):
    x: int
    y: int = 0

@edow.task
async def travel(who: Cat | Dog, trip: Trip, way: list[Place], discriminator: tuple[int, str] = (1, "a")) -> Trip:
    return trip

class Failure(pydantic.BaseModel):
    mine: int

@edow.task(name="count losses & gains (\u00a3)")
async def count_pounds() -> Failure: ...

@edow.task(name="count losses & gains (\u20ac)")
async def count_euros() -> Failure: ...
'''


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    path = tmp_path / "described.py"
    path.write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    return str(path)


def validator(document: Any, name: str) -> Draft7Validator:
    """For a message of the document."""
    resource: Any = Resource.from_contents({"$schema": "http://json-schema.org/draft-07/schema#", **document})
    registry: Any = Registry().with_resource("doc:", resource)
    return Draft7Validator({"$ref": f"doc:#/components/messages/{name}/payload"}, registry=registry)


def references(thing: Any) -> list[str]:
    if isinstance(thing, dict):
        return [value for key, value in thing.items() if key == "$ref"] + [
            found for value in thing.values() for found in references(value)
        ]
    return [found for value in thing for found in references(value)] if isinstance(thing, list) else []


def test_it_is_what_asyncapi_says_a_document_is(run: Any, code: str) -> None:
    """By AsyncAPI's own JSON Schema, with code whose tasks have types of every kind, and without."""
    for arguments in (["schema"], ["schema", code]):
        told = json.loads(run(*arguments).out)
        assert [f"{error.json_path}: {error.message}" for error in OFFICIAL.iter_errors(told)] == []
        assert told["asyncapi"] == "3.0.0"


def test_every_reference_leads_somewhere(run: Any, code: str) -> None:
    """The document is complete by itself: schemas are valid, no reference hangs in the air, and names are as AsyncAPI
    wants them.
    """
    told = json.loads(run("schema", code).out)
    for reference in references(told):
        found = told
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
    for schema in told["components"]["schemas"].values():
        Draft7Validator.check_schema(schema)
    for name in (*told["components"]["schemas"], *told["components"]["messages"]):
        assert re.fullmatch(r"[a-zA-Z0-9.\-_]+", name)
    assert told["channels"]["tasks"]["parameters"]["topic"]["enum"] == ["default", "other"]
    assert told["components"]["messages"]["task.charge"]["summary"] == "Charge the card."


def test_every_channel_is_used_and_operations_are_about_its_messages(run: Any, code: str) -> None:
    """A worker sends or receives on each; what it does with some of a channel's messages, it does with all of them."""
    told = json.loads(run("schema", code).out)
    done: set[tuple[str, str]] = set()
    for operation in told["operations"].values():
        channel = operation["channel"]["$ref"].removeprefix("#/channels/")
        every = [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in told["channels"][channel]["messages"]]
        for message in operation.get("messages", every):
            assert message in every
            done.add((channel, message["$ref"].rpartition("/")[2]))
    assert done == {(name, kind) for name, channel in told["channels"].items() for kind in channel["messages"]}


def event_of(name: str, data: Any) -> Any:
    """A task event."""
    required = [field.name for field in msgspec.structs.fields(wire.TaskEvent) if field.required]
    said = {"run": 1, "attempt": 1, "type": wire.TASK_TYPE, "specversion": "1.0", "subject": name}
    return dict.fromkeys(required, "x") | said | {"data": data}


def result_of(name: str, outcome: str, data: Any) -> Any:
    """A result event."""
    required = [field.name for field in msgspec.structs.fields(wire.ResultEvent) if field.required]
    said = {"run": 1, "attempt": 1, "type": wire.RESULT_TYPE, "specversion": "1.0", "subject": name}
    return dict.fromkeys(required, "x") | said | {"outcome": outcome, "data": data}


def test_parameters_of_tasks_are_described(run: Any, code: str) -> None:
    """What fits the task's signature fits the schema, and what does not is refused by both."""
    check = validator(json.loads(run("schema", code).out), "task.double")
    assert check.is_valid(event_of("double", {"x": 1}))
    assert not check.is_valid(event_of("double", {"x": "one"}))
    assert not check.is_valid(event_of("double", {}))
    assert not check.is_valid(event_of("charge", {"x": 1}))
    assert not check.is_valid(event_of("double", {"x": 1}) | {"specversion": "2.0"})


def test_results_of_tasks_are_described(run: Any, code: str) -> None:
    """A result by the task's annotation, a failure as one; details of a heartbeat are whatever they are."""
    check = validator(json.loads(run("schema", code).out), "result.double")
    failure = {"type": "shop.CardDeclined", "message": "7"}
    for outcome, data, fits in (
        ("completed", 8, True),
        ("completed", "8", False),
        ("failed", failure, True),
        ("failed", 8, False),
        ("heartbeat", "half of it", True),
    ):
        assert check.is_valid(result_of("double", outcome, data)) is fits, (outcome, data)


TRIP = {"by": {"kind": "car"}, "seat": [1, "a"], "then": {"by": {"kind": "bus"}, "seat": [2, "b"]}}
TRAVEL = {"who": {"type": "Cat", "lives": 7}, "trip": TRIP, "way": [[1, 2], [3]]}


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        ({}, True),
        ({"who": {"type": "Dog", "tricks": [1, "a", None]}}, True),
        ({"who": {"type": "Cow", "lives": 7}}, False),
        ({"trip": TRIP | {"by": {"kind": "ship"}}}, False),
        ({"trip": TRIP | {"seat": ["a", 1]}}, False),
        ({"trip": TRIP | {"then": {"seat": [2, "b"]}}}, False),
        ({"way": [[1, 2, 3]]}, False),
        ({"discriminator": [2, "b"]}, True),
        ({"discriminator": [2, "b", 3]}, False),
        ({"discriminator": ["b", 2]}, False),
    ],
)
def test_tuples_and_unions_are_described(run: Any, code: str, change: Any, fits: bool) -> None:
    """In the words of draft-07, which is what AsyncAPI reads; as msgspec and pydantic write them, it would understand
    something else.
    """
    check = validator(json.loads(run("schema", code).out), "task.travel")
    assert check.is_valid(event_of("travel", TRAVEL | change)) is fits


def test_classes_of_one_name_are_told_apart(run: Any, code: str) -> None:
    """An author's `Failure` takes nothing from EDOW's, nor a task's name from one that differs in a special sign."""
    told = json.loads(run("schema", code).out)
    pounds, euros = ("count losses & gains (\u00a3)", "count losses & gains (\u20ac)")
    names = [name for name, each in told["components"]["messages"].items() if each.get("title") == f"result of {euros}"]
    assert names == ["result.count_losses___gains_____2"]
    check = validator(told, names[0])
    assert check.is_valid(result_of(euros, "completed", {"mine": 1}))
    assert not check.is_valid(result_of(pounds, "completed", {"mine": 1}))
    assert not check.is_valid(result_of(euros, "failed", {"mine": 1}))
    assert check.is_valid(result_of(euros, "failed", {"type": "x", "message": "y"}))


def test_classes_that_cannot_be_told_apart_are_refused() -> None:
    """By name: one of them would be described as the other."""

    def made() -> type:
        return msgspec.defstruct("Twin", ["x"], module="twins")

    with pytest.raises(InvalidInput, match=r"two types of one name.*twins\.Twin.*rename one"):
        schemas_of([made(), made()], set())


def test_the_reference_shows_what_is_described(run: Any) -> None:
    """Its examples of events fit their schemas."""
    told = json.loads(run("schema").out)
    for kind, name in (("task", "TaskEvent"), ("result", "ResultEvent"), ("cancel", "CancelEvent")):
        [block] = [each for each in markdown.blocks("docs/reference.md", "json") if kind in each.words]
        validator(told, name).validate(json.loads(block.text))


async def test_what_really_travels_is_as_described(tmp_path: Path) -> None:
    """Whatever is published in the life of a system is one message of the channel with the topic's address, an ordinary
    CloudEvent unless it is poison, and there is no channel, and no message in one, that nothing is published to.
    """
    began = threading.Event()

    @edow.task
    async def double(x: int) -> int:
        return 2 * x

    @edow.task(retry=1)
    async def refuse() -> None:
        raise ValueError("no")

    @edow.task
    async def hold() -> None:
        began.set()
        await asyncio.Event().wait()

    @edow.workflow
    async def doubles(x: int) -> int:
        return await double(x)

    @edow.workflow
    async def refuses() -> None:
        await refuse()

    @edow.workflow
    async def holds() -> None:
        await hold()

    published: list[Message] = []
    registry = registry_of(locals())
    async with running(Setup(tmp_path, "separate"), registry, change=lambda system: note(system, published)) as now:
        assert await (await now.client.start(doubles, 4)).result(20) == 8
        with pytest.raises(edow.WorkflowFailed):
            await (await now.client.start(refuses)).result(20)
        held = await now.client.start(holds)
        await happened(began)
        await held.cancel()
        assert await Roll(now.system.transport, "test").call()
        await now.system.transport.publish([Message("edow.tasks.default", b"poison")])
        await until(lambda: has_been_sent("edow.dead", published))
        await until(lambda: has_been_sent("edow.control", published, 2))
        await has_status(held, "cancelled")
    described = json.loads(json.dumps(document(registry.tasks.values())))
    found = {place_of(message, described) for message in published if message.body != b"poison"}
    assert found == {(name, kind) for name, channel in described["channels"].items() for kind in channel["messages"]}


def note(system: System, published: list[Message]) -> None:
    """Write down what is published from now on."""
    publish = system.transport.publish

    async def noting(messages: Sequence[Message], *, durable: bool = True) -> None:
        published.extend(messages)
        await publish(messages, durable=durable)

    system.transport.publish = noting  # type: ignore[method-assign]


async def has_been_sent(topic: str, published: list[Message], count: int = 1) -> bool:
    return sum(message.topic == topic for message in published) >= count


def place_of(message: Message, described: Any) -> tuple[str, str]:
    """Its channel, by the topic, and which of the channel's messages it is."""
    [(channel, about)] = [
        (name, about)
        for name, about in described["channels"].items()
        if re.fullmatch(re.sub(r"\\{\w+\\}", "[^.]+", re.escape(about["address"])), message.topic)
    ]
    body = json.loads(message.body)
    [kind] = [name for name in about["messages"] if validator(described, name).is_valid(body)]
    if channel != "dead":
        event = JSONFormat().read(CloudEvent, message.body)
        assert (event.get_specversion(), event.get_type()) == ("1.0", body["type"])
        assert event.get_time() is not None
    return channel, kind
