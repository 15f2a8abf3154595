"""Names for what is written inline in the OpenAPI document: a generated client makes one type of each name.

Without them it would make a type of every place where, for instance, a status is told, and name it after the place.
"""

from __future__ import annotations

from typing import Any, get_args

import msgspec

from edow.api.audit import AuditOutcome
from edow.api.dead_letters import AnyState, LetterState
from edow.api.executions import IfExists, StartOutcome
from edow.api.views import StandingName, StatusName
from edow.client import jobs
from edow.client.actor import Role
from edow.kpi import alert, slo
from edow.transport import contract
from edow.trigger import action, signatures
from edow.trigger.schedules import book, definition, views

ENUMS: dict[str, Any] = {
    "ActionMode": action.Mode,
    "AlertKind": alert.Kind,
    "AlertSeverity": slo.Severity,
    "AuditOutcome": AuditOutcome,
    "ExecutionStanding": StandingName,
    "ExecutionStatus": StatusName,
    "HmacAlgorithm": signatures.Algorithm,
    "HmacEncoding": signatures.Encoding,
    "HookScheme": signatures.Scheme,
    "IfExists": IfExists,
    "JobAction": jobs.Action,
    "JobState": jobs.State,
    "LetterState": LetterState,
    "LetterStateOrAny": AnyState,
    "Overlap": definition.Overlap,
    "Role": Role,
    "ScheduleState": views.State,
    "StartOutcome": StartOutcome,
    "TickCause": book.Cause,
    "TickOutcome": book.Became,
    "WaitingTold": contract.Told,
}
"""Literals by the name that they have in the document."""

OBJECTS: dict[str, Any] = {
    "JsonObject": {"type": "object", "additionalProperties": {}},
    "NamedCounts": {"type": "object", "additionalProperties": {"type": "integer"}},
}

RENAMED = {
    "Counts": "ScheduleCounts",
    "Preview": "JobPreview",
    "Run": "ScheduleRun",
    "Summary": "KpiSummary",
}
"""Types whose names say enough only where they are at home."""

REFERENCE = "#/components/schemas/"
NULL = {"type": "null"}


def with_names(document: dict[str, Any]) -> dict[str, Any]:
    """The document with a component for each of these, where it has them inline."""
    namer = _Namer()
    named: dict[str, Any] = namer.named(msgspec.to_builtins(document))  # a default may be a struct
    schemas = {RENAMED.get(name, name): schema for name, schema in named["components"]["schemas"].items()}
    for name in namer.used:
        schemas[name] = OBJECTS.get(name) or {"type": "string", "enum": list(get_args(ENUMS[name]))}
    named["components"]["schemas"] = {name: schemas[name] | {"title": name} for name in sorted(schemas)}
    return named


class _Namer:
    """Remembers what it has named."""

    def __init__(self) -> None:
        self.used: set[str] = set()
        self._enums = {get_args(literal): name for name, literal in ENUMS.items()}

    def named(self, node: Any) -> Any:
        """The same, with references in the place of what has a name."""
        if isinstance(node, list):
            return [self.named(each) for each in node]
        if not isinstance(node, dict):
            return node
        if isinstance(node.get("$ref"), str):
            name = node["$ref"].removeprefix(REFERENCE)
            return node | {"$ref": REFERENCE + RENAMED.get(name, name)}
        return self._enum(node) or self._object(node) or {name: self.named(each) for name, each in node.items()}

    def _enum(self, node: dict[str, Any]) -> dict[str, Any] | None:
        values = node.get("enum")
        name = self._enums.get(tuple(each for each in values if each is not None)) if isinstance(values, list) else None
        if values is None or name is None:
            return None
        reference = self._reference(name)
        rest = {name: each for name, each in node.items() if name not in ("type", "enum")}
        if None in values:
            return {"oneOf": [reference, NULL]} | rest
        return {"allOf": [reference]} | rest if rest else reference

    def _object(self, node: dict[str, Any]) -> dict[str, Any] | None:
        values = node.get("additionalProperties")
        if node.get("type") != "object" or not isinstance(values, dict):
            return None
        kind = {name: each for name, each in values.items() if name != "description"}
        for name, each in OBJECTS.items():
            if each["additionalProperties"] == kind:
                return self._reference(name)
        return None

    def _reference(self, name: str) -> dict[str, Any]:
        self.used.add(name)
        return {"$ref": REFERENCE + name}
