"""Expressions: what they find, what is refused when they are written down, and their limits."""

import msgspec
import pytest

from edow.errors import InvalidInput
from edow.trigger.mapping import MAX_EXPRESSION, Expression, measure

PAYLOAD = {"body": {"order": {"id": 7}, "items": [{"n": 1}, {"n": 2}], "ok": True, "none": None}, "headers": {"a": "b"}}


def find(text):
    return Expression(text, "the id of hook shop")


@pytest.mark.parametrize(
    ("text", "found"),
    [("body.order.id", "7"), ("headers.a", "b"), ("body.ok", "true"), ("body.none", None), ("nothing.there", None)],
)
def test_a_name_is_made_of_what_has_one_form(text, found):
    """Of texts, whole numbers and booleans."""
    assert find(text).text_of(PAYLOAD) == found


@pytest.mark.parametrize("text", ["body.order", "body.items", "`1.5`"])
def test_a_name_is_made_of_nothing_else(text):
    """1.5 may be written in many ways, an object in more."""
    with pytest.raises(InvalidInput, match="must give a text or a number"):
        find(text).text_of(PAYLOAD)


def test_parameters_must_be_an_object():
    """The error shows how to make one."""
    assert msgspec.json.decode(find("{order: body.order.id}").parameters_of(PAYLOAD)) == {"order": 7}
    with pytest.raises(InvalidInput, match=r"gives a list; .*\{order: body\}"):
        find("body.items").parameters_of(PAYLOAD)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("body.order.id > `5`", True),
        ("body.order.id > `8`", False),
        ("body.nothing", False),
        ("`0`", True),
        ("`[]`", False),
    ],
)
def test_a_filter_holds_as_jmespath_says(text, holds):
    """Null, false and what is empty do not; zero does."""
    assert find(text).holds(PAYLOAD) is holds


@pytest.mark.parametrize(
    "text", ["", "a b", "foo(@)", "body.items[?", "[" * 4000, "!" * 4000, "@" * (MAX_EXPRESSION + 1)]
)
def test_what_is_no_expression_is_refused_when_written_down(text):
    """Also one with a function that does not exist."""
    with pytest.raises(InvalidInput, match="the id of hook shop"):
        find(text)


@pytest.mark.parametrize(
    "text",
    [
        "|".join(["[@,@]"] * 60),  # doubles the result each time
        "|".join(["[@,@][]"] * 60),  # doubles a list each time
        f"[{','.join(['@'] * 1000)}][]|[{','.join(['@'] * 900)}][]",  # a million items in two steps
        f"to_string(@)|[{','.join(['@'] * 900)}]|join(to_string(@),@)",
        "|".join(["map(&[@,@,@,@,@],@)[]"] * 12).replace("map", "[@,@]|map", 1),
        "abs(body)",
        "body.items[].sort_by(@,&n)",
    ],
)
def test_what_takes_too_much_is_refused(text):
    """Quickly, and without telling the payload."""
    with pytest.raises(InvalidInput, match="cannot be evaluated") as caught:
        find(text).evaluate(PAYLOAD | {"secret": "p4yl04d"})
    assert "p4yl04d" not in str(caught.value)


def test_depth_is_no_way_around():
    """A payload nested as deeply as the decoder allows."""
    deep = msgspec.json.decode(b"[" * 200 + b"]" * 200)
    assert find("@ == @").evaluate(deep) is True
    with pytest.raises(ValueError, match="takes more than"):
        measure([[1] * 100] * 100, 1000)
