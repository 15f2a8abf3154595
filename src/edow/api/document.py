"""The OpenAPI document: names for generated clients, an example of every body, and what `Retry-After` means."""

from __future__ import annotations

from typing import Any, cast

from litestar import Litestar, Router
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.types import Method
from litestar.types.internal_types import PathParameterDefinition

import edow
from edow.api import structs
from edow.api.components import with_names
from edow.api.examples import EXAMPLES
from edow.api.routes import BEARER

JSON = "application/json"
RETRY_AFTER = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds until another try makes sense."}}
NUMBER = {"type": "number"}
INTEGER = {"type": "integer"}
WITH_RETRY_AFTER = ("429", "503")


def config() -> OpenAPIConfig:
    """How Litestar makes the document."""
    return OpenAPIConfig(
        title="EDOW",
        version=edow.__version__,
        description="Durable workflows: start executions, look at them, and act on them.",
        use_handler_docstrings=True,
        operation_id_creator=_operation_id,
        components=Components(security_schemes={BEARER: SecurityScheme(type="http", scheme="bearer")}),
        render_plugins=[JsonRenderPlugin()],
        openapi_router=Router("/api/schema", route_handlers=[], include_in_schema=False, opt={"access": "public"}),
    )


def document(app: Litestar) -> dict[str, Any]:
    """What `/openapi.json` answers."""
    if "document" not in app.state:
        made = app.openapi_schema.to_schema()
        structs.complete(made, app)
        app.state["document"] = with_names(_completed(made))
    return cast(dict[str, Any], app.state["document"])


def _operation_id(handler: HTTPRouteHandler, _method: Method, _path: list[str | PathParameterDefinition]) -> str:
    """What a generated client calls it."""
    return str(handler.handler_name)


def _completed(document: dict[str, Any]) -> dict[str, Any]:
    for item in document["paths"].values():
        for operation in item.values():
            body = operation.get("requestBody", {}).get("content", {}).get(JSON)
            if body is not None and (example := EXAMPLES.get(operation["operationId"])) is not None:
                body["example"] = example
            for status in WITH_RETRY_AFTER:
                operation["responses"][status].setdefault("headers", {}).update(RETRY_AFTER)
    _keep_one_number(document)
    return document


def _keep_one_number(node: object) -> None:
    """An integer is a number too: where *one of* both is asked for, no integer would do."""
    if isinstance(node, dict):
        choices = node.get("oneOf")
        if isinstance(choices, list) and NUMBER in choices and INTEGER in choices:
            choices.remove(INTEGER)
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _keep_one_number(inner)
