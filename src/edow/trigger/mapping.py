"""JMESPath expressions (https://jmespath.org): from what arrived to an execution's id, its input, a yes or a no.

An expression is compiled and checked when it is written down. It is bounded in length, in steps and in the size of what
it makes: neither an expression nor a payload that is made for it can keep a process busy or fill its memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec
from jmespath import exceptions, functions, parser, visitor  # type: ignore[import-untyped]

from edow.errors import InvalidInput
from edow.workflow import codec

MAX_EXPRESSION = 4096  # characters
MAX_STEPS = 200_000  # nodes of the expression visited for one payload
MAX_ITEMS = 100_000  # of any list on the way
MAX_BYTES = 4 * 1024 * 1024  # of what a function is given, and of a result
ID_LENGTH = 200

Json = object  # what a JSON decoder gives

_NAMES = frozenset(functions.Functions.FUNCTION_TABLE)


class Expression:
    """One compiled expression. Raises InvalidInput when it is none."""

    def __init__(self, text: str, what: str) -> None:
        """`what` names it in errors: "the id of hook shop"."""
        self.text = text
        self._what = what
        self._tree = _parsed(text, what)

    def evaluate(self, value: Json) -> Json:
        """What it finds; None for nothing. Raises InvalidInput when it cannot be evaluated, or within no limit."""
        try:
            found = _Walker().visit(self._tree, value)
            measure(found)
        except (exceptions.JMESPathError, TypeError, ValueError, RecursionError, ArithmeticError) as problem:
            raise InvalidInput(f"{self._what} ({self.text!r:.80}) cannot be evaluated: {_reason(problem)}") from None
        return found

    def text_of(self, value: Json) -> str | None:
        """A name made of a string, a whole number or a boolean; None when it finds nothing."""
        found = self.evaluate(value)
        match found:
            case None | "":
                return None
            case str():
                return found
            case bool():
                return "true" if found else "false"
            case int():
                return str(found)
        raise InvalidInput(f"{self._what} ({self.text!r:.80}) gives {_kind(found)}; it must give a text or a number")

    def holds(self, value: Json) -> bool:
        """As JMESPath takes it: null, false and what is empty do not hold."""
        found = self.evaluate(value)
        number = isinstance(found, int | float) and not isinstance(found, bool)
        return number or bool(found)

    def json_of(self, value: Json) -> msgspec.Raw:
        """What it finds, as JSON. Raises InvalidInput, PayloadTooLarge."""
        return codec.encode(self.evaluate(value), self._what)

    def parameters_of(self, value: Json) -> msgspec.Raw:
        """A workflow's parameters by name, as a JSON object."""
        found = self.evaluate(value)
        if not isinstance(found, Mapping):
            raise InvalidInput(
                f"{self._what} ({self.text!r:.80}) gives {_kind(found)}; it must give an object of parameters by name, "
                "such as {order: body}"
            )
        return codec.encode(found, self._what)


def measure(value: Json, limit: int = MAX_BYTES) -> None:
    """Raises ValueError if it takes more than about so many bytes. What is small in memory may be large as JSON, where
    each reference to one list is another copy of it.
    """
    left = limit
    waiting = [value]
    while waiting:
        each = waiting.pop()
        left -= 8
        match each:
            case str():
                left -= len(each)
            case list():
                left -= 8 * len(each)
                waiting += each if left >= 0 else ()
            case dict():
                left -= sum(map(len, each)) + 8 * len(each)
                waiting += each.values() if left >= 0 else ()
        if left < 0:
            raise ValueError(f"it takes more than {limit:,} bytes")


def _reason(problem: Exception) -> str:
    """Without the payload, which jmespath repeats in its errors."""
    if isinstance(problem, exceptions.JMESPathTypeError):
        expected = " or ".join(problem.expected_types)
        return f"{problem.function_name}() takes {expected}, and was given {problem.actual_type}"
    if isinstance(problem, RecursionError):
        return "it is nested too deeply"
    return f"{problem!s:.300}"


def _kind(value: Json) -> str:
    names: dict[type, str] = {
        type(None): "nothing",
        dict: "an object",
        list: "a list",
        str: "a text",
        bool: "a boolean",
    }
    return names.get(type(value), "a number")


@lru_cache(maxsize=1024)
def _parsed(text: str, what: str) -> dict[str, Any]:
    if not text or len(text) > MAX_EXPRESSION:
        raise InvalidInput(f"{what} has {len(text)} characters; give an expression of 1 to {MAX_EXPRESSION}")
    try:
        tree: dict[str, Any] = parser.Parser().parse(text).parsed
        _check(tree)
    except (exceptions.JMESPathError, RecursionError, ValueError) as problem:
        raise InvalidInput(
            f"{what} is no JMESPath expression: {_reason(problem)} (see https://jmespath.org)"
        ) from problem
    return tree


def _check(tree: dict[str, Any]) -> None:
    """Functions that do not exist are otherwise found out only when the first payload has come."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if node["type"] == "function_expression" and node["value"] not in _NAMES:
            raise ValueError(f"there is no function {node['value']}()")
        waiting += [child for child in node["children"] if isinstance(child, dict)]


class _Walker(visitor.TreeInterpreter):  # type: ignore[misc]
    """The interpreter within the limits."""

    def __init__(self) -> None:
        super().__init__()
        self._left = MAX_STEPS

    def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            raise ValueError(f"it takes more than {MAX_STEPS:,} steps")
        return super().visit(node, *args, **kwargs)

    def visit_flatten(self, node: Any, value: Any) -> Any:
        base = self.visit(node["children"][0], value)
        if not isinstance(base, list):
            return None
        if sum(len(each) if isinstance(each, list) else 1 for each in base) > MAX_ITEMS:
            raise ValueError(f"it makes a list of more than {MAX_ITEMS:,} items")
        return [item for each in base for item in (each if isinstance(each, list) else [each])]

    def visit_function_expression(self, node: Any, value: Any) -> Any:
        given = [self.visit(child, value) for child in node["children"]]
        measure(given)
        match node["value"], given:
            case "join", [str() as glue, list() as items] if len(glue) * len(items) > MAX_BYTES:
                raise ValueError(f"it makes a text of more than {MAX_BYTES:,} bytes")
        return self._functions.call_function(node["value"], given)
