"""`edow schema`: the wire format as AsyncAPI 3.0, for whoever writes a worker in another language.

Seen from a worker: it receives task events and cancellations, and sends results and what it could not read. With
modules, each of their tasks has a message of its own with the schema of its parameters and result.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
import typer

import edow
from edow.cli.binding import load_code
from edow.cli.jsons import print_json
from edow.errors import InvalidInput
from edow.model import topics, wire
from edow.model.failure import Failure
from edow.model.policy import RetryPolicy
from edow.workflow.codec import schema_hook
from edow.workflow.task import Task

REFERENCE = "#/components/schemas/{name}"
WIRE = (wire.TaskEvent, wire.ResultEvent, wire.CancelEvent, wire.PresenceEvent, Failure, RetryPolicy)
TYPES = {
    "TaskEvent": wire.TASK_TYPE,
    "ResultEvent": wire.RESULT_TYPE,
    "CancelEvent": wire.CANCEL_TYPE,
    "PresenceEvent": wire.PRESENCE_TYPE,
}
JSON_TYPE = "application/cloudevents+json"

AnyTask = Task[..., Any]
Json = dict[str, Any]


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
    messages: Json = {name: _message(name) for name in (*TYPES, "DeadMessage")}
    for task in tasks:
        messages[f"task.{task.name}"] = _task_message(task, schemas)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "EDOW",
            "version": edow.__version__,
            "description": "What travels between orchestrators and workers: CloudEvents 1.0 in structured JSON mode.",
        },
        "defaultContentType": JSON_TYPE,
        "channels": _channels(tasks),
        "operations": {
            "runTask": _operation("receive", "tasks", "Run the task; then report its result to `replytopic`."),
            "report": _operation("send", "results", "What became of an attempt."),
            "heedCancellation": _operation("receive", "control", "Stop these steps, if they run here."),
            "reportPoison": _operation("send", "dead", "A message that could not be read."),
        },
        "components": {"messages": messages, "schemas": schemas},
    }


def _wire_schemas() -> Json:
    from edow.worker.reports import DeadMessage

    _, schemas = msgspec.json.schema_components([_plain(kind) for kind in (*WIRE, DeadMessage)], ref_template=REFERENCE)
    for name, kind in TYPES.items():  # what the decoder checks beside the types
        schemas[name]["properties"]["type"] = {"const": kind}
        schemas[name]["properties"]["specversion"] = {"const": wire.SPEC_VERSION}
    return schemas


def _plain(kind: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """The same with `Any` for bytes of JSON that are passed on unread."""
    fields: list[Any] = []
    for field in msgspec.structs.fields(kind):
        raw = field.type is msgspec.Raw
        default = msgspec.field(default_factory=dict) if raw else msgspec.field(default=field.default)
        fields.append((field.name, Any if raw else field.type, *([] if field.required else [default])))
    return msgspec.defstruct(kind.__name__, fields, kw_only=True, namespace={"__doc__": kind.__doc__})


def _message(name: str) -> Json:
    made: Json = {"name": TYPES.get(name, name), "payload": {"$ref": REFERENCE.format(name=name)}}
    return made | {"contentType": JSON_TYPE if name in TYPES else "application/json"}


def _task_message(task: AnyTask, schemas: Json) -> Json:
    try:
        (args, result), parts = msgspec.json.schema_components(
            task.signature.types, schema_hook=schema_hook, ref_template=REFERENCE
        )
    except TypeError as problem:
        raise InvalidInput(f"task {task.name!r} has a type without JSON Schema: {problem}") from problem
    arguments = parts.pop(args["$ref"].rpartition("/")[2])
    schemas |= parts | {f"{task.name}.result": result}
    for each in [arguments, result, *parts.values()]:
        _hoist(each, schemas)
    only = {
        "properties": {"subject": {"const": task.name}, "data": {**arguments, "title": f"parameters of {task.name}"}}
    }
    made: Json = {
        "name": task.name,
        "title": f"run {task.name}",
        "contentType": JSON_TYPE,
        "payload": {"allOf": [{"$ref": REFERENCE.format(name="TaskEvent")}, only]},
    }
    about = (task.fn.__doc__ or "").strip()
    return made | ({"summary": about.splitlines()[0]} if about else {})


def _hoist(schema: Any, schemas: Json) -> None:
    """Definitions that a library has put beside its schema belong to all."""
    if isinstance(schema, dict):
        schemas |= schema.pop("$defs", {})
    for each in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        _hoist(each, schemas)


def _channels(tasks: list[AnyTask]) -> Json:
    names = sorted({"default"} | {task.policy.topic for task in tasks})
    task_messages = [f"task.{task.name}" for task in tasks] or ["TaskEvent"]
    return {
        "tasks": _channel(
            topics.task_topic("{topic}"),
            f"Consumer group `{topics.WORKERS}`. A key, where there is one, is the partition key.",
            task_messages,
            {"topic": {"description": "The task's `topic`.", "enum": names}},
        ),
        "results": _channel(
            topics.result_topic(0).replace("0", "{shard}"),
            f"Consumer group `{topics.ORCHESTRATORS}`; named by the task event's `replytopic`.",
            ["ResultEvent"],
            {"shard": {"description": "The execution's shard."}},
        ),
        "control": _channel(topics.CONTROL, "Broadcast to every worker.", ["CancelEvent"]),
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


def _operation(action: str, channel: str, about: str) -> Json:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": about}
