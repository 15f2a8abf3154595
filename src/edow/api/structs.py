"""What the OpenAPI document can learn from the types: their texts, and which fields an answer always has.

A field with a default value need not be there in what is sent to us; in what we answer it is, default or not, and so a
client that is generated from the document need not look whether it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from inspect import cleandoc
from typing import Any

import msgspec
from litestar import Litestar, Response
from litestar.handlers import HTTPRouteHandler
from msgspec import inspect

from edow.api.problems import Problem


def complete(document: dict[str, Any], app: Litestar) -> None:
    """In place, while components still have the names of their types."""
    schemas = document["components"]["schemas"]
    sent, answered = _structs(_bodies(app)), _structs([Problem, *_answers(app)])
    for name, struct in (answered | sent).items():
        if name in schemas and struct.cls.__doc__:
            schemas[name]["description"] = cleandoc(struct.cls.__doc__)
    for name, struct in answered.items():
        if name in schemas and name not in sent and not struct.cls.__struct_config__.omit_defaults:
            schemas[name]["required"] = sorted(field.encode_name for field in struct.fields if _is_written(field))


def _is_written(field: inspect.Field) -> bool:
    """Whatever is not UNSET, which shows as no default at all."""
    return field.required or not (field.default is field.default_factory is msgspec.NODEFAULT)


def _handlers(app: Litestar) -> Iterator[HTTPRouteHandler]:
    for route in app.routes:
        for handler in getattr(route, "route_handlers", ()):
            if handler.resolve_include_in_schema() and handler.http_methods != {"OPTIONS"}:
                yield handler


def _bodies(app: Litestar) -> list[Any]:
    return [handler.parsed_data_field.annotation for handler in _handlers(app) if handler.parsed_data_field]


def _answers(app: Litestar) -> Iterator[Any]:
    for handler in _handlers(app):
        field = handler.parsed_return_field
        yield from (each.annotation for each in (field.inner_types if field.is_subclass_of(Response) else [field]))


def _structs(types: list[Any]) -> dict[str, inspect.StructType]:
    """Those that the types are made of, by name."""
    found: dict[str, inspect.StructType] = {}
    ahead: list[Any] = list(inspect.multi_type_info(types))
    while ahead:
        node = ahead.pop()
        if isinstance(node, inspect.StructType):
            if node.cls.__name__ in found:
                continue
            found[node.cls.__name__] = node
        if isinstance(node, inspect.Type | inspect.Field):
            ahead += [getattr(node, name) for name in node.__struct_fields__]
        elif isinstance(node, list | tuple):
            ahead += node
    return found
