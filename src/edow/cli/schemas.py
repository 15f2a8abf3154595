"""JSON Schemas of Python types, as AsyncAPI wants them: draft-07, each class once, under a name that nothing else has.

msgspec and pydantic write a later dialect, and neither knows of the other's names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import chain, count
from typing import Any

import msgspec

from edow.errors import InvalidInput
from edow.workflow.codec import schema_hook

REFERENCE = "#/components/schemas/{name}"
NO_KEY = re.compile(r"[^a-zA-Z0-9.\-_]")  # in the name of a component
BY_NAME = {"properties", "patternProperties"}  # keywords that hold schemas by names of the author's
DATA = {"const", "default", "enum", "examples"}  # keywords that hold no schema
ANYTHING: dict[str, object] = {"description": "Anything."}

Json = dict[str, Any]


def schemas_of(types: Iterable[Any], taken: set[str]) -> tuple[list[Json], Json]:
    """A schema of each, and by name those that they refer to; their names are added to the `taken`.

    Raises TypeError for a type that has no JSON Schema, InvalidInput for two classes that cannot be told apart.
    """
    models: dict[type, str] = {}  # pydantic's

    def refer(kind: type) -> dict[str, object]:
        if kind is object:
            return ANYTHING
        return {"$ref": f"{models.setdefault(kind, f'model {len(models)}: ')}{kind.__name__}"}

    try:
        found, parts = msgspec.json.schema_components(types, schema_hook=refer, ref_template="{name}")
    except KeyError as problem:
        raise InvalidInput(f"there are two types of one name, {problem}: rename one") from problem
    for kind, mark in models.items():
        model = schema_hook(kind, f"{mark}{{model}}")
        parts |= {f"{mark}{name}": each for name, each in model.pop("$defs", {}).items()}
        parts.setdefault(f"{mark}{kind.__name__}", model)  # one that holds itself is among its parts
    names = {part: free_name(part.rpartition(": ")[2], taken) for part in parts}
    return [_draft_07(each, names) for each in found], {names[part]: _draft_07(parts[part], names) for part in parts}


def free_name(name: str, taken: set[str]) -> str:
    """The name of a component that is like this one; `taken` afterwards."""
    plain = NO_KEY.sub("_", name)
    found = next(each for each in chain([plain], (f"{plain}_{number}" for number in count(2))) if each not in taken)
    taken.add(found)
    return found


def plain(kind: type[msgspec.Struct], name: str) -> type[msgspec.Struct]:
    """The same under another name, with `Any` for bytes of JSON that are passed on unread."""
    fields: list[Any] = []
    for field in msgspec.structs.fields(kind):
        hint = Any if field.type is msgspec.Raw else field.type
        fields.append((field.name, hint, *([] if field.required else [_default(field)])))
    strict = kind.__struct_config__.forbid_unknown_fields
    about = {"__doc__": kind.__doc__}
    return msgspec.defstruct(name, fields, kw_only=True, forbid_unknown_fields=strict, namespace=about)


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default is msgspec.NODEFAULT:
        return msgspec.field(default_factory=field.default_factory)
    known = field.default
    return msgspec.field(default=msgspec.json.decode(known) if isinstance(known, msgspec.Raw) else known)


def _draft_07(schema: Any, names: Mapping[str, str]) -> Any:
    """References lead to the components `names`; tuples are told as they were before 2020. A discriminator, which
    AsyncAPI has in a form of its own, can go: the alternatives themselves say which is which.
    """
    if isinstance(schema, list):
        return [_draft_07(each, names) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _keyword(key, value, names) for key, value in schema.items()}
    if isinstance(made.get("discriminator"), dict):
        del made["discriminator"]
    if "prefixItems" in made:
        others = made.pop("items", True)
        made |= {"items": made.pop("prefixItems"), "additionalItems": others}
    return made


def _keyword(key: str, value: Any, names: Mapping[str, str]) -> Any:
    if key == "$ref":
        return REFERENCE.format(name=names[value])
    if key in BY_NAME:
        return {name: _draft_07(each, names) for name, each in value.items()}
    return value if key in DATA else _draft_07(value, names)
