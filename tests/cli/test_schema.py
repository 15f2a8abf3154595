"""The wire format as documents say it, as the official CloudEvents SDK reads it, and as it really is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

import edow
from edow.app import System, load_registry
from edow.model import topics, wire
from edow.transport.contract import Subscription

CODE = '''
"""Code with every kind of type."""
import dataclasses, datetime, decimal, enum, uuid
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

@edow.workflow
async def doubles(x: int) -> int:
    return await double(x)
'''


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    path = tmp_path / "described.py"
    path.write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    return str(path)


def validator(document: Any, name: str) -> Draft202012Validator:
    """For a message of the document."""
    resource: Any = Resource.from_contents({"$schema": "https://json-schema.org/draft/2020-12/schema", **document})
    registry: Any = Registry().with_resource("doc:", resource)
    return Draft202012Validator({"$ref": f"doc:#/components/messages/{name}/payload"}, registry=registry)


def references(thing: Any) -> list[str]:
    if isinstance(thing, dict):
        return [value for key, value in thing.items() if key == "$ref"] + [
            found for value in thing.values() for found in references(value)
        ]
    return [found for value in thing for found in references(value)] if isinstance(thing, list) else []


def test_every_reference_leads_somewhere(run: Any, code: str) -> None:
    """The document is complete by itself: schemas are valid and no reference hangs in the air."""
    document = json.loads(run("schema", code).out)
    for reference in references(document):
        found = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    assert document["asyncapi"] == "3.0.0"
    assert document["channels"]["tasks"]["parameters"]["topic"]["enum"] == ["default", "other"]
    assert document["components"]["messages"]["task.charge"]["summary"] == "Charge the card."


def test_parameters_of_tasks_are_described(run: Any, code: str) -> None:
    """What fits the task's signature fits the schema, and what does not is refused by both."""
    document = json.loads(run("schema", code).out)
    event = {name: "x" for name in wire.TaskEvent.__struct_fields__ if name in REQUIRED} | {
        "run": 1,
        "attempt": 1,
        "type": wire.TASK_TYPE,
        "specversion": "1.0",
        "subject": "double",
    }
    check = validator(document, "task.double")
    assert check.is_valid({**event, "data": {"x": 1}})
    assert not check.is_valid({**event, "data": {"x": "one"}})
    assert not check.is_valid({**event, "data": {}})
    assert not check.is_valid({**event, "data": {"x": 1}, "specversion": "2.0"})


REQUIRED = {field.name for field in msgspec.structs.fields(wire.TaskEvent) if field.required}


async def test_what_really_travels_is_as_described(tmp_path: Path, code: str) -> None:
    """Task and result events of a real run fit the schemas and are read by the official CloudEvents SDK."""
    from edow.cli.schema import document

    registry = load_registry([code])
    described = document(registry.tasks.values())
    async with System(f"sqlite:///{tmp_path / 'edow.db'}", None, registry) as system:
        client = edow.Client(store=system.store)
        orchestrator, worker = system.orchestrator(), system.worker()
        await orchestrator.start()
        async with client:
            handle = await client.start(registry.workflows["doubles"], 4)
            tasks = await system.transport.subscribe(Subscription(topics=("edow.tasks.default",), group="workers"))
            [task] = await tasks.receive(1, 20)
            await tasks.close()
            await system.transport.ensure([])
            await worker.start()
            assert await handle.result(20) == 8
            row = await handle.describe()
        await worker.stop()
        await orchestrator.stop()
        result = result_of(task.body, row.shard)
    for body, name in ((task.body, "task.double"), (result, "ResultEvent")):
        validator(described, name).validate(json.loads(body))
        event = JSONFormat().read(CloudEvent, body)
        assert event.get_specversion() == "1.0"
        assert event.get_extension("executionid") == row.id
        assert event.get_time() is not None


def result_of(task: bytes, shard: int) -> bytes:
    """What the worker's reporter makes of a task event."""
    from edow.worker.attempt import Attempt
    from edow.worker.reports import Reporter

    event = wire.decode_task(task)
    assert event.replytopic == topics.result_topic(shard)
    attempt: Any = Attempt(event, None, event.attempt)  # type: ignore[arg-type]
    attempt.result, attempt.started_at, attempt.duration = msgspec.Raw(b"8"), 1_790_000_000_000_000, 1 << 40
    return Reporter("me", lambda: 1_790_000_000_000_000, 1_000_000).completed(attempt).body
