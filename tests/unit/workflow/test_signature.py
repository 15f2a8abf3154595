"""Arguments and results as JSON: what fits, what does not, and how that is told."""

import enum
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, TypedDict
from uuid import UUID

import msgspec
import pydantic
import pytest

import edow
from edow.workflow.signature import Signature


class Colour(enum.Enum):
    RED = "red"


class Point(msgspec.Struct):
    x: int


class Person(TypedDict):
    name: str


@dataclass
class Line:
    start: Point
    people: list[Person]


class Model(pydantic.BaseModel):
    when: datetime
    price: Decimal = Decimal(1)


class Opaque:
    pass


def every(
    a: int, b: Line, c: Colour, d: datetime, e: UUID, f: Decimal, g: bytes, h: Model, i: list[Model] | None = None
):
    return a


VALUES = (
    1, Line(Point(2), [{"name": "n"}]), Colour.RED, datetime(2026, 1, 2, tzinfo=UTC),
    UUID(int=5), Decimal("1.10"), b"\x00\xff", Model(when=datetime(2026, 1, 2, tzinfo=UTC)),
    [Model(when=datetime(2026, 1, 2, tzinfo=UTC))],
)  # fmt: skip


def signature(fn):
    return Signature(fn, f"task {fn.__name__}")


def test_every_kind_of_value_makes_the_round_trip():
    """Typed on the other side, pydantic models included."""
    args, kwargs = signature(every).decode_args(signature(every).encode_call(VALUES, {}))
    assert (args, kwargs) == (VALUES, {})


def shapes():
    def plain(a: int, b: str = "x"): ...
    def keyword(a: int, *, b: str = "x"): ...
    def positional(a: int, /, b: str = "x"): ...
    def many(a: int, *rest: int, **more: str): ...
    def bare(a, b=None): ...
    def nothing(): ...
    def mutable(a: int, b: list[int] = [1]): ...  # noqa: B006
    def sloppy(a: int, b: str = None): ...  # noqa: RUF013

    return {
        "plain": (plain, (1,), {"b": "y"}, (1, "y"), {}),
        "default": (plain, (1,), {}, (1, "x"), {}),
        "keyword": (keyword, (1,), {"b": "y"}, (1,), {"b": "y"}),
        "positional": (positional, (1, "y"), {}, (1, "y"), {}),
        "many": (many, (1, 2, 3), {"k": "v"}, (1, 2, 3), {"k": "v"}),
        "bare": (bare, ([1, {"x": 2}],), {}, ([1, {"x": 2}], None), {}),
        "nothing": (nothing, (), {}, (), {}),
        "mutable": (mutable, (1,), {}, (1, [1]), {}),
        "sloppy": (sloppy, (1,), {}, (1, None), {}),
    }


@pytest.mark.parametrize("shape", shapes())
def test_every_shape_of_signature_works(shape):
    """By name on the wire, as written on arrival."""
    fn, args, kwargs, expected_args, expected_kwargs = shapes()[shape]
    raw = signature(fn).encode_call(args, kwargs)
    assert isinstance(msgspec.json.decode(raw), dict)
    assert signature(fn).decode_args(raw) == (expected_args, expected_kwargs)


def order(id: str, total: int): ...


@pytest.mark.parametrize(
    ("args", "kwargs", "told"),
    [
        (("a",), {}, "total"),
        (("a", 1, 2), {}, "positional"),
        (("a", 1), {"x": 2}, "x"),
        (("a", "many"), {}, "Expected `int`, got `str` - at `\\$.total`"),
        ((None, 1), {}, "at `\\$.id`"),
    ],
)
def test_a_call_that_does_not_fit_names_function_and_parameter(args, kwargs, told):
    """It is a TypeError too, as for any call."""
    with pytest.raises(edow.SignatureMismatch, match=rf"task order\(id: str, total: int\).*{told}") as caught:
        signature(order).encode_call(args, kwargs)
    assert isinstance(caught.value, TypeError)


def test_edited_payloads_are_checked():
    """Against names and types."""
    signature(order).check(b'{"id":"a","total":1}')
    for payload in (b'{"id":"a"}', b'{"id":"a","total":1,"x":2}', b"[]", b"{", b'{"id":1,"total":1}'):
        with pytest.raises(edow.SignatureMismatch, match="task order"):
            signature(order).check(payload)


def loose(a: Any, b: Any = 1) -> Any: ...


@pytest.mark.parametrize("value", [Opaque(), [Opaque()], "\ud800", {(1, 2): Opaque()}])
def test_a_value_without_json_form_is_named(value):
    """Task, parameter, type and remedy."""
    with pytest.raises(edow.NotEncodable, match=r"argument 'b' of task loose is a .*use plain data"):
        signature(loose).encode_call((1, value), {})


def test_a_value_that_contains_itself_is_not_encodable():
    """Rather than a crash."""
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(edow.NotEncodable):
        signature(loose).encode_call((loop,), {})


def test_what_is_too_large_is_told_with_its_size():
    """And what to do."""
    with pytest.raises(edow.PayloadTooLarge, match=r"task loose takes 3,000,0\d\d bytes.*reference"):
        signature(loose).encode_call(("x" * 3_000_000,), {})


def counted() -> int: ...
def modelled() -> list[Model]: ...
def none() -> None: ...


def test_results_are_checked_where_they_are_made():
    """Against the return annotation."""
    assert signature(counted).decode_result(signature(counted).encode_result(5)) == 5
    assert signature(none).encode_result(None) == msgspec.Raw(b"null")
    found = signature(modelled).decode_result(signature(modelled).encode_result([VALUES[7]]))
    assert found == [VALUES[7]]
    with pytest.raises(edow.NotEncodable, match="result of task counted is a str that does not fit"):
        signature(counted).encode_result("five")
    with pytest.raises(edow.NotEncodable, match="result of task loose is a Opaque"):
        signature(loose).encode_result(Opaque())
    with pytest.raises(edow.SignatureMismatch, match="recorded result of task counted"):
        signature(counted).decode_result(b'"five"')


def test_annotations_that_cannot_be_resolved_name_the_function():
    """At first use."""

    def broken(a: "Nowhere"): ...  # noqa: F821

    with pytest.raises(edow.InvalidInput, match=r"task broken .*Nowhere.*module level"):
        signature(broken)


def test_constraints_are_checked():
    """msgspec.Meta works in annotations."""

    def limited(a: Annotated[int, msgspec.Meta(ge=1)]): ...

    with pytest.raises(edow.SignatureMismatch, match=">= 1"):
        signature(limited).encode_call((0,), {})


def test_object_says_what_any_says():
    """As an annotation of its own and in a union, of a parameter and of the result."""

    def anything(a: object, b: object | str, c: object | None = None) -> object: ...

    both = signature(anything)
    assert both.decode_args(both.encode_call((1, [2]), {})) == ((1, [2], None), {})
    assert both.decode_result(both.encode_result({"x": Point(1)})) == {"x": {"x": 1}}
