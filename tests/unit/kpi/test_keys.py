"""The heaviest keys of a stream in bounded memory."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from edow.kpi.keys import KEPT, Keys

streams = st.lists(st.lists(st.integers(0, 300).map(str), max_size=400), min_size=1, max_size=5)


def of(stream):
    keys = Keys()
    for at in range(0, len(stream), 50):
        keys.add(Counter(stream[at : at + 50]))
    return keys


@given(streams)
def test_counts_are_lower_limits_with_a_known_error(parts):
    """Merged from several processes, no count is too high nor too low by more than `missed`, which is bounded."""
    merged, exact = Keys(), Counter(key for part in parts for key in part)
    for part in parts:
        merged.merge(of(part))
    assert merged.all == exact.total()
    assert merged.missed <= exact.total() / (KEPT + 1)
    assert len(merged.counts) <= KEPT
    for key, count in exact.items():
        assert count - merged.missed <= merged.counts.get(key, 0) <= count


def test_a_hot_key_is_named_with_its_share_and_what_to_do():
    """One key with a third of a long stream of others is told with its share and an action; the others with none."""
    keys = of([str(number) if number % 3 else "hot" for number in range(3000)])
    first, *others = keys.heaviest("edow.tasks.orders")
    assert (first.key, first.messages) == ("hot", 1000 - keys.missed)
    assert first.share > 0.3
    assert "topic of its own" in first.action
    assert not any(each.action for each in others)


def test_a_key_that_everything_has_is_told_otherwise():
    """Where all messages have one key, a topic of its own would not help."""
    (only,) = of(["same"] * 100).heaviest("edow.tasks.orders")
    assert (only.share, "leave out the key" in only.action) == (1.0, True)
