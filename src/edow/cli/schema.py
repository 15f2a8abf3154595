"""`edow schema`: the wire format as AsyncAPI 3.0, for whoever writes a worker in another language.

Seen from a worker: it receives task events, cancellations and roll calls, and sends results, its answers and what it
could not read. With modules, each of their tasks has messages of its own with the schemas of its parameters and result.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

import edow
from edow.cli.binding import load_code
from edow.cli.jsons import print_json
from edow.cli.schemas import REFERENCE, Json, free_name, plain, schemas_of
from edow.errors import InvalidInput
from edow.model import topics, wire
from edow.model.failure import Failure
from edow.model.policy import RetryPolicy
from edow.workflow.task import Task

TYPES = {
    "TaskEvent": wire.TASK_TYPE,
    "ResultEvent": wire.RESULT_TYPE,
    "CancelEvent": wire.CANCEL_TYPE,
    "RollCall": wire.ROLL_CALL_TYPE,
    "PresenceEvent": wire.PRESENCE_TYPE,
}
WIRE = (wire.TaskEvent, wire.ResultEvent, wire.CancelEvent, wire.PresenceEvent, Failure, RetryPolicy)
JSON_TYPE = "application/cloudevents+json"

AnyTask = Task[..., Any]


def schema(
    modules: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODULE]...", help="Code whose tasks to describe too.", show_default=False),
    ] = None,
) -> None:
    """Print the wire format as an AsyncAPI document with JSON Schemas."""
    tasks = load_code(modules).tasks.values() if modules else ()
    print_json(document(sorted(tasks, key=lambda task: task.name)))


def document(tasks: Iterable[AnyTask]) -> Json:
    """The AsyncAPI document. Raises InvalidInput for a task whose types have no JSON Schema."""
    tasks = list(tasks)
    schemas = _wire_schemas()
    messages = {name: _message(name) for name in (*TYPES, "DeadMessage")}
    runs, results = _task_messages(tasks, schemas)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "EDOW",
            "version": edow.__version__,
            "description": "What travels between orchestrators and workers: CloudEvents 1.0 in structured JSON mode.",
        },
        "defaultContentType": JSON_TYPE,
        "channels": _channels(sorted({"default"} | {task.policy.topic for task in tasks}), runs, results),
        "operations": {
            "runTask": _operation("receive", "tasks", "Run the task; then report its result to `replytopic`."),
            "report": _operation("send", "results", "What became of an attempt, or that it is at work."),
            "heedCancellation": _operation("receive", "control", "Stop these steps, if they run here.", "CancelEvent"),
            "heedRollCall": _operation("receive", "control", "Say that you are there, and what you do.", "RollCall"),
            "sayPresence": _operation("send", "roll", "When the roll is called; then also unasked, on leaving."),
            "reportPoison": _operation("send", "dead", "A message that could not be read."),
        },
        "components": {"messages": messages | runs | results, "schemas": schemas},
    }


def _wire_schemas() -> Json:
    from edow.worker.reports import DeadMessage

    _, schemas = schemas_of([plain(kind, kind.__name__) for kind in (*WIRE, DeadMessage)], set())
    schemas["RollCall"] = {**schemas["CancelEvent"], "title": "RollCall", "description": "Whoever is there says so."}
    for name, kind in TYPES.items():  # what the decoder checks beside the types
        said = {"type": {"const": kind}, "specversion": {"const": wire.SPEC_VERSION}}
        schemas[name] = schemas[name] | {"properties": schemas[name]["properties"] | said}
    schemas["ResultEvent"] |= _data_where("failed", {"$ref": REFERENCE.format(name="Failure")})
    return schemas


def _data_where(outcome: str, data: Json) -> Json:
    """What a result's `data` is, if this is its outcome."""
    return {
        "if": {"properties": {"outcome": {"const": outcome}}, "required": ["outcome"]},
        "then": {"properties": {"data": data}},
    }


def _message(name: str) -> Json:
    made: Json = {"name": TYPES.get(name, name), "payload": {"$ref": REFERENCE.format(name=name)}}
    return made | {"contentType": JSON_TYPE if name in TYPES else "application/json"}


def _task_messages(tasks: list[AnyTask], schemas: Json) -> tuple[Json, Json]:
    """By name, what runs each task and what tells its result; the schemas that they refer to are added to `schemas`."""
    for task in tasks:
        _check(task)
    shapes = [plain(task.signature.types[0], f"parameters.{number}") for number, task in enumerate(tasks)]
    found, parts = schemas_of([*shapes, *(task.signature.types[1] for task in tasks)], set(schemas))
    arguments = [parts.pop(shape["$ref"].removeprefix(REFERENCE.format(name=""))) for shape in found[: len(tasks)]]
    schemas |= parts
    runs: Json = {}
    results: Json = {}
    taken: set[str] = set()
    for task, parameters, result in zip(tasks, arguments, found[len(tasks) :], strict=True):
        run, told = (free_name(f"{kind}.{task.name}", taken) for kind in ("task", "result"))
        data = {"properties": {"data": {**parameters, "title": f"parameters of {task.name}"}}}
        runs[run] = {"name": run, "title": f"run {task.name}"} | _about(task, "TaskEvent", data)
        data = _data_where("completed", result)
        results[told] = {"name": told, "title": f"result of {task.name}"} | _about(task, "ResultEvent", data)
    return runs, results


def _check(task: AnyTask) -> None:
    try:
        schemas_of(task.signature.types, set())
    except TypeError as problem:
        raise InvalidInput(f"task {task.name!r} has a type without JSON Schema: {problem}") from problem


def _about(task: AnyTask, event: str, data: Json) -> Json:
    """An event that is about one task."""
    only = {"properties": {"subject": {"const": task.name}}}
    made: Json = {
        "contentType": JSON_TYPE,
        "payload": {"allOf": [{"$ref": REFERENCE.format(name=event)}, only, data]},
    }
    about = (task.fn.__doc__ or "").strip()
    return made | ({"summary": about.splitlines()[0]} if about else {})


def _channels(task_topics: list[str], runs: Iterable[str], results: Iterable[str]) -> Json:
    return {
        "tasks": _channel(
            topics.task_topic("{topic}"),
            f"Consumer group `{topics.WORKERS}`. A key, where there is one, is the partition key.",
            runs or ["TaskEvent"],
            {"topic": {"description": "The task's `topic`.", "enum": task_topics}},
        ),
        "results": _channel(
            f"{topics.RESULTS}{{shard}}",
            f"Consumer group `{topics.ORCHESTRATORS}`; named by the task event's `replytopic`.",
            results or ["ResultEvent"],
            {"shard": {"description": "The execution's shard."}},
        ),
        "control": _channel(topics.CONTROL, "Broadcast to every worker.", ["CancelEvent", "RollCall"]),
        "roll": _channel(topics.ROLL, "Broadcast by every worker, in answer to a roll call.", ["PresenceEvent"]),
        "dead": _channel(topics.DEAD, "Poison: what belongs to no execution.", ["DeadMessage"]),
    }


def _channel(address: str, about: str, messages: Iterable[str], parameters: Json | None = None) -> Json:
    made: Json = {
        "address": address,
        "description": about,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
    }
    return made | ({"parameters": parameters} if parameters else {})


def _operation(action: str, channel: str, about: str, message: str = "") -> Json:
    """With a channel's one message, or with all of them."""
    made: Json = {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": about}
    return made | ({"messages": [{"$ref": f"#/channels/{channel}/messages/{message}"}]} if message else {})
