"""Histograms that add up: quantiles against the exact ones, merging in any order."""

from collections import Counter
from math import ceil

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edow.kpi.histogram import RELATIVE_ERROR, TABLE, Histogram, bucket_of

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
values = st.lists(st.integers(0, 90 * 86_400 * 1_000_000), min_size=1, max_size=200)


def of(given_values):
    histogram = Histogram()
    histogram.add(given_values)
    return histogram


@unhurried
@given(values, st.floats(0, 1))
def test_a_quantile_is_within_the_stated_error(many, part):
    """Whatever the values, the quantile by nearest rank is at most 2 % off the exact one."""
    exact = sorted(many)[max(1, ceil(part * len(many))) - 1]
    assert of(many).quantile(part) == pytest.approx(exact, rel=RELATIVE_ERROR * (1 + 1e-9))


@unhurried
@given(values, values, values)
def test_merging_is_associative_and_loses_nothing(first, second, third):
    """It does not matter who adds up what first: the outcome is that of all values in one histogram."""
    left = of(first)
    left.merge(of(second))
    left.merge(of(third))
    right = of(second)
    right.merge(of(third))
    whole = of(first)
    whole.merge(right)
    everything = of([*first, *second, *third])
    assert (left.buckets, left.total) == (whole.buckets, whole.total) == (everything.buckets, everything.total)


@unhurried
@given(values)
def test_count_and_mean_are_exact(many):
    """What needs no estimate is not estimated."""
    histogram = of(many)
    assert histogram.count == len(many)
    assert histogram.mean == pytest.approx(sum(many) / len(many))


@unhurried
@given(values, st.integers(1, 90 * 86_400 * 1_000_000))
def test_who_is_surely_within_a_limit_counts_as_within(many, limit):
    """Only values within the error of the limit may be on the wrong side of it."""
    surely = sum(value * (1 + RELATIVE_ERROR) * (1 + 1e-9) < limit for value in many)
    perhaps = sum(value * (1 - RELATIVE_ERROR) * (1 - 1e-9) <= limit for value in many)
    assert surely <= of(many).at_most(limit) <= perhaps


@unhurried
@given(values)
def test_it_survives_being_stored(many):
    """JSON and back gives the same histogram."""
    histogram = of(many)
    assert msgspec.json.decode(msgspec.json.encode(histogram), type=Histogram) == histogram


def test_a_clock_that_went_back_makes_no_time():
    """A difference below zero, between two machines' clocks, counts as nothing."""
    histogram = of([-5, 0])
    assert (histogram.count, histogram.total, histogram.quantile(1.0)) == (2, 0, 0.0)


def test_nothing_counted_has_no_quantile():
    """Of no values there is neither a quantile nor a mean."""
    assert (Histogram().quantile(0.5), Histogram().mean) == (None, None)


def test_what_is_looked_up_is_what_would_be_computed():
    """Each value of the table, on its own, and together with such as are beyond it."""
    assert of(range(TABLE)).buckets == Counter(map(bucket_of, range(TABLE)))
    some = [0, 1, 2, 25, 26, TABLE - 1, TABLE, TABLE + 1, 10**9]
    assert of(some).buckets == Counter(map(bucket_of, some))
