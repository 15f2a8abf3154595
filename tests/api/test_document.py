"""The OpenAPI document: complete, and good enough to make a client from."""

from __future__ import annotations

import json
import keyword
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from litestar.serialization import encode_json

from edow.api import application
from edow.api.document import JSON, document
from edow.api.examples import EXAMPLES
from edow.client.actor import Actor
from tests.api.serving import Api
from tests.api.test_dead_letters import put_letters

DOCUMENT = document(application("sqlite:///unused.db"))


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def body_of(operation: dict[str, Any]) -> dict[str, Any] | None:
    found: dict[str, Any] | None = operation.get("requestBody", {}).get("content", {}).get(JSON)
    return found


OPERATIONS = {operation["operationId"]: (method, path, operation) for method, path, operation in operations()}
WITH_BODY = [name for name, (_, _, operation) in OPERATIONS.items() if body_of(operation) is not None]
MADE = [name for name in WITH_BODY if "{" not in OPERATIONS[name][1] and "201" in OPERATIONS[name][2]["responses"]]


def test_every_operation_can_be_called_from_a_program():
    """Each has a name of its own that is an identifier, a summary, and a description."""
    assert len(OPERATIONS) == sum(1 for _ in operations())
    for name, (_, _, operation) in OPERATIONS.items():
        assert name.isidentifier()
        assert not keyword.iskeyword(name)
        assert operation["summary"], name
        assert operation["description"], name


def test_every_answer_has_a_type():
    """JSON with a schema, or another type, or no content at all; and errors are all of one form."""
    for name, (_, _, operation) in OPERATIONS.items():
        for status, answer in operation["responses"].items():
            content = answer.get("content")
            assert content or status in ("202", "204"), (name, status)
            if content and status >= "400" and status != "503":
                assert content[JSON]["schema"] == {"$ref": "#/components/schemas/Problem"}, (name, status)


def test_every_reference_leads_somewhere():
    """To a component of the document."""

    def references(node: object) -> Iterator[str]:
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                yield node["$ref"]
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    found = set(references(DOCUMENT))
    known = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}
    assert found <= known
    assert found


def inline(node: object) -> Iterator[dict[str, Any]]:
    """Enumerations, and objects of any values, that stand where they are used."""
    if isinstance(node, dict):
        if "enum" in node or node.get("additionalProperties") == {}:
            yield node
        node = list(node.values())
    for each in node if isinstance(node, list) else ():
        yield from inline(each)


def test_every_vocabulary_has_a_name():
    """A generated client makes one type of each, and not one of every place where it is used."""
    components = DOCUMENT["components"]["schemas"]
    whole = [each for each in components.values() if "properties" not in each]
    assert [each for each in inline(DOCUMENT) if each not in whole] == []
    assert {"Role", "ExecutionStatus", "JsonObject"} <= set(components)
    assert all(name == each["title"] for name, each in components.items())


def test_what_an_answer_always_has_is_required():
    """Also what has a default; what is left out when it is empty, and what may be left out of a request, is not."""

    def optional(name: str) -> set[str]:
        component = DOCUMENT["components"]["schemas"][name]
        return set(component["properties"]) - set(component["required"])

    assert [optional(name) for name in ("ScheduleCounts", "Cost", "Health", "MadeEndpoint")] == [set()] * 4
    assert optional("ExecutionView") == {"input", "result", "attributes", "progress"}
    assert optional("Problem") == {"remedy"}
    assert optional("NewExecution") == {"id", "if_exists", "input", "notify"}


def test_there_are_no_examples_of_other_operations():
    """One that is renamed takes its example along."""
    assert set(EXAMPLES) == set(WITH_BODY)


@pytest.mark.parametrize("name", WITH_BODY)
def test_every_body_has_an_example_that_fits(name: str):
    """By the schema in the document."""
    body = body_of(OPERATIONS[name][2])
    assert body is not None
    schema = body["schema"] | {"components": DOCUMENT["components"]}
    jsonschema.Draft202012Validator(schema).validate(body["example"])


@pytest.mark.parametrize("name", MADE)
async def test_examples_of_what_can_be_made_are_accepted(api: Api, name: str):
    """Sent as they are, to a store that holds nothing but a few dead letters."""
    await put_letters(api)
    answer = await api.http().post(OPERATIONS[name][1], json=EXAMPLES[name])
    assert answer.status_code == 201, answer.text


async def test_answers_of_the_audit_log_fit_the_document(api: Api):
    """Parameters are texts, numbers of either kind, truth values and null."""
    operator = api.client.acting_as(Actor("cli:ada"))
    await operator.submit_named("w", [("a", {})])
    await operator.get("a").signal("go", [1, 2])
    await operator.tokens().create("x", "read", 1)
    http = api.http(token=await operator.tokens().create("y", "read"))
    page = (await http.get("/api/v1/audit")).json()
    schema = OPERATIONS["read_audit"][2]["responses"]["200"]["content"][JSON]["schema"]
    jsonschema.Draft202012Validator(schema | {"components": DOCUMENT["components"]}).validate(page)
    assert {type(value) for entry in page["entries"] for value in entry["parameters"].values()} == {
        str,
        int,
        type(None),
    }


async def test_it_is_served(api: Api):
    """To everybody, and the same."""
    answer = await api.http("192.0.2.1").get("/openapi.json")
    assert answer.json() == json.loads(encode_json(DOCUMENT))
