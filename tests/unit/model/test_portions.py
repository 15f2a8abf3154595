"""What becomes of a batch that is too much for one call."""

from __future__ import annotations

from collections import deque
from itertools import count, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edow.model.portions import portions


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([], []),
        (["aa"], [["aa"]]),
        (["a", "b", "c", "d", "e"], [["a", "b", "c"], ["d", "e"]]),  # too many
        (["aaaa", "bbb", "cccccccc", "d"], [["aaaa", "bbb"], ["cccccccc", "d"]]),  # too large
        (["a", "b" * 11, "c"], [["a"], ["b" * 11], ["c"]]),  # one that no portion could hold goes alone
        (["aaaaa", "bbbbb", "", "c"], [["aaaaa", "bbbbb", ""], ["c"]]),  # as much as may be, and not a byte more
    ],
)
def test_a_portion_is_bounded_in_number_and_in_bytes(items: list[str], expected: list[list[str]]) -> None:
    """And holds as much as it may, in order."""
    assert list(portions(items, len, most=3, most_bytes=10)) == expected


def test_an_item_may_count_for_several() -> None:
    """As a call that asks for several things does, which is never split."""
    calls = [[1], [2, 3], [4], [5, 6, 7, 8], [9]]
    found = list(portions(calls, lambda call: 1, most=3, most_bytes=100, number=len))
    assert found == [[[1], [2, 3]], [[4]], [[5, 6, 7, 8]], [[9]]]


def test_the_first_portion_of_a_long_queue_reads_no_more_than_it() -> None:
    """And the one item that does not fit."""
    numbers = count()
    assert next(portions(numbers, lambda number: 1, most=3, most_bytes=10)) == [0, 1, 2]
    assert next(numbers) == 4
    assert next(portions(deque[int](), lambda number: 1, most=3, most_bytes=10), []) == []


@given(st.lists(st.integers(0, 50)), st.integers(1, 10), st.integers(1, 100))
def test_nothing_is_lost_and_nothing_would_have_fitted(sizes: list[int], most: int, most_bytes: int) -> None:
    """Whatever the items and the bounds: a portion ends only where the next item would have been too much."""
    found = list(portions(sizes, lambda size: size, most, most_bytes))
    assert [size for portion in found for size in portion] == sizes
    assert all(len(each) <= most and (sum(each) <= most_bytes or len(each) == 1) for each in found)
    assert all(len(each) == most or sum(each) + after[0] > most_bytes for each, after in pairwise(found))
