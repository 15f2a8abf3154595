"""The heaviest keys of a stream in bounded memory."""

from collections import Counter

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edow.kpi.figures import Figures, Lag
from edow.kpi.keys import KEPT, Keys
from edow.kpi.series import Point
from edow.kpi.summary import group_rates, summary

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
streams = st.lists(st.lists(st.integers(0, 300).map(str), max_size=400), min_size=1, max_size=5)


def of(stream):
    keys = Keys()
    for at in range(0, len(stream), 50):
        keys.add(Counter(stream[at : at + 50]))
    return keys


@unhurried
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


def test_a_hot_partition_is_named():
    """One that has most of a topic's messages, among several; an even spread and a single partition are none."""
    lags = {
        "hot": Lag("hot", "workers", 10, 0, None, 1000, 8, "3", 0.7),
        "even": Lag("even", "workers", 10, 0, None, 1000, 8, "3", 0.15),
        "two": Lag("two", "workers", 10, 0, None, 1000, 2, "1", 0.9),
        "one": Lag("one", "workers", 10, 0, None, 1000, 1, "0", 1.0),
    }
    found = summary(Figures(lag=lags), 60.0).hot_partitions
    assert [(each.topic, each.partition, each.share, each.partitions) for each in found] == [("hot", "3", 0.7, 8)]
    assert "spread" in found[0].action


def test_rates_of_groups_follow_from_what_the_broker_counts():
    """In ten seconds 100 messages came and 20 more wait than before: 8 a second went."""
    first = Figures(lag={"a": Lag("a", "g", 5, 5, None, 1000), "b": Lag("b", "g", 1, 1)})
    last = Figures(lag={"a": Lag("a", "g", 20, 10, None, 1100), "b": Lag("b", "g", 1, 1)})
    rates = group_rates([Point(100, 10, first), Point(105, 10, Figures()), Point(110, 10, last)])
    assert rates == {"a": (10.0, 8.0)}
    (one, other) = summary(last, 60.0, None, rates).lag
    assert (one.in_per_second, one.out_per_second, other.in_per_second) == (10.0, 8.0, None)
