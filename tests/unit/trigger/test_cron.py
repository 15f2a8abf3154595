"""Ticks of crons and intervals, compared with a scan of every minute."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edow.errors import InvalidInput
from edow.trigger.schedules.cron import MACROS, Cron
from edow.trigger.schedules.definition import instant, moment, utc
from tests.unit.trigger import oracle

ZONES = {  # with years in which something happens
    "Europe/Berlin": (1980, 2024, 2026),
    "Europe/Dublin": (1971, 2025),  # winter time is the exception there
    "America/New_York": (1974, 2006, 2007, 2026),  # rules changed: 1974 (winter daylight saving), 2007
    "America/Sao_Paulo": (2018, 2019),  # clocks change at midnight; given up in 2019
    "America/Havana": (2024,),  # at midnight
    "America/Caracas": (2007, 2016),  # by half an hour, for good
    "Australia/Sydney": (2025, 2026),
    "Australia/Lord_Howe": (1981, 2025, 2026),  # by half an hour, twice a year
    "Pacific/Chatham": (2025,),  # 12:45 ahead
    "Pacific/Apia": (2011,),  # left out the 30th of December
    "Pacific/Kwajalein": (1993,),  # left out a day, too
    "Africa/Casablanca": (2018, 2026),  # four times a year
    "Africa/Cairo": (2014, 2023),
    "Asia/Tehran": (2022,),
    "Asia/Pyongyang": (2015, 2018),
    "Asia/Gaza": (2025,),
    "Antarctica/Troll": (2025,),  # by two hours
    "America/Scoresbysund": (2024,),  # changed its zone on the day of the change
    "Asia/Kathmandu": (1986, 2026),
    "UTC": (2024, 2026),
}


@lru_cache
def changes() -> list[tuple[str, datetime]]:
    """All transitions of these zones in these years, and a leap day for those without."""
    return [
        (name, at)
        for name, years in ZONES.items()
        for year in years
        for at in oracle.transitions(ZoneInfo(name), year) or [datetime(year, 2, 28, 22, tzinfo=UTC)]
    ]


def numbers(low: int, high: int) -> st.SearchStrategy[str]:
    """A field: a number, a list, a range, a step, or everything."""
    one = st.integers(low, high)
    return st.one_of(
        st.just("*"),
        one.map(str),
        st.lists(one, min_size=2, max_size=4).map(lambda each: ",".join(map(str, each))),
        st.tuples(one, one).map(lambda pair: f"{min(pair)}-{max(pair)}"),
        st.integers(2, high).map(lambda step: f"*/{step}"),
        st.tuples(one, st.integers(2, high)).map(lambda pair: f"{pair[0]}/{pair[1]}"),
    )


DAY = st.one_of(st.just("*"), st.just("*"), numbers(1, 28))
MONTH = st.one_of(st.just("*"), st.just("*"), numbers(1, 12), st.sampled_from(["FEB", "MAR-APR", "oct,nov".upper()]))
WEEKDAY = st.one_of(st.just("*"), st.just("*"), st.sampled_from(["SUN", "MON-FRI", "0", "7", "6,0", "1-5", "SAT,SUN"]))
CRONS = st.tuples(numbers(0, 59), numbers(0, 23), DAY, MONTH, WEEKDAY).map(" ".join)


def between(cron: str, zone: str, start: datetime, end: datetime) -> list[datetime]:
    """The ticks from `start` up to `end`."""
    first, last = moment(start), moment(end)
    return [utc(tick) for tick in takewhile(lambda tick: tick < last, Cron(cron, zone).after(first - 1))]


@pytest.mark.timeout(180)
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(CRONS, st.data())
def test_a_cron_fires_as_a_scan_of_every_minute_says(cron, data):
    """Whatever the cron, the zone and the change of its clocks: the same ticks as by brute force."""
    zone, change = data.draw(st.sampled_from(changes()))
    start, end = change - timedelta(days=2, hours=7), change + timedelta(days=2, hours=5)
    [expected] = oracle.ticks([cron], ZoneInfo(zone), start, end)
    assert between(cron, zone, start, end) == expected


YEARLY = ("30 2 * * *", "*/20 * * * *", "15 1,2,3 * * SUN", "0 0 31 * *")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("zone", ["Europe/Berlin", "Australia/Lord_Howe"])
def test_a_whole_year(zone):
    """A year of ticks is the same, minute by minute; nothing drifts over its two changes."""
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    for cron, expected in zip(YEARLY, oracle.ticks(YEARLY, ZoneInfo(zone), start, end), strict=True):
        assert between(cron, zone, start, end) == expected
        assert len(expected) > 6


@settings(max_examples=100, deadline=None, derandomize=True)
@given(CRONS, st.data(), st.integers(0, 5 * 86_400))
def test_ticks_do_not_depend_on_where_one_begins(cron, data, seconds):
    """Asked for what comes after any moment, a cron goes on with the very ticks it had from before."""
    zone, change = data.draw(st.sampled_from(changes()))
    start, end = change - timedelta(days=2), change + timedelta(days=3)
    middle = start + timedelta(seconds=seconds)
    assert between(cron, zone, middle, end) == [each for each in between(cron, zone, start, end) if each >= middle]


def local(cron: str, zone: str, start: str, count: int) -> list[str]:
    """The next ticks, as the clock on the wall reads, with its offset."""
    first = moment(datetime.fromisoformat(start))
    return [
        utc(tick).astimezone(ZoneInfo(zone)).strftime("%m-%d %H:%M %z")
        for tick in islice(Cron(cron, zone).after(first), count)
    ]


def test_a_time_that_does_not_exist_fires_when_the_clock_goes_forward():
    """02:30 in Berlin on the 29th of March 2026: there is none, so it fires at 03:00, once."""
    assert local("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00Z", 2) == ["03-29 03:00 +0200", "03-30 02:30 +0200"]


def test_times_that_are_left_out_together_fire_together():
    """Four times of the hour that is left out, and the one at its end, are one tick."""
    assert local("*/15 2,3 * * *", "Europe/Berlin", "2026-03-29T00:00Z", 3) == [
        "03-29 03:00 +0200",
        "03-29 03:15 +0200",
        "03-29 03:30 +0200",
    ]


def test_a_time_that_occurs_twice_fires_once():
    """02:30 in Berlin on the 25th of October 2026 occurs twice, and fires at the first."""
    assert local("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00Z", 2) == ["10-25 02:30 +0200", "10-26 02:30 +0100"]


def test_intervals_go_on_through_both_changes():
    """Every half hour is every half hour, also through the hour that is left out and the one that occurs twice."""
    assert local("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:00Z", 3) == [
        "03-29 01:30 +0100",
        "03-29 03:00 +0200",
        "03-29 03:30 +0200",
    ]
    assert local("*/30 * * * *", "Europe/Berlin", "2026-10-25T00:00Z", 4) == [
        "10-25 02:30 +0200",
        "10-25 02:00 +0100",
        "10-25 02:30 +0100",
        "10-25 03:00 +0100",
    ]


def test_every_second_hour_names_hours():
    """`0 */2` is 00, 02, 04 ... o'clock: 02:00 fires once in autumn, and at 03:00 in spring."""
    assert local("0 */2 * * *", "Europe/Berlin", "2026-10-24T22:30Z", 2) == ["10-25 02:00 +0200", "10-25 04:00 +0100"]
    assert local("0 */2 * * *", "Europe/Berlin", "2026-03-28T23:30Z", 2) == ["03-29 03:00 +0200", "03-29 04:00 +0200"]


def test_half_an_hour_on_lord_howe():
    """02:15 is left out in October, when clocks go from 02:00 to 02:30; 01:45 occurs twice in April."""
    assert local("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00Z", 1) == ["10-04 02:30 +1100"]
    assert local("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T00:00Z", 2) == [
        "04-05 01:45 +1100",
        "04-06 01:45 +1030",
    ]


def test_a_day_that_is_left_out():
    """Samoa went from the 29th to the 31st of December 2011: noon of the 30th fires when the 31st begins."""
    assert local("0 12 * * *", "Pacific/Apia", "2011-12-29T12:00Z", 3) == [
        "12-29 12:00 -1000",
        "12-31 00:00 +1400",
        "12-31 12:00 +1400",
    ]


def test_leap_days_and_last_days():
    """The 29th of February is there every four years but in 2100; the 31st in seven months."""
    first = moment(datetime(2024, 3, 1, tzinfo=UTC))
    years = [utc(tick).year for tick in islice(Cron("0 0 29 2 *", "Europe/Berlin").after(first), 21)]
    assert years == [*range(2028, 2100, 4), 2104, 2108, 2112]
    months = [utc(tick).month for tick in islice(Cron("0 12 31 * *", "America/New_York").after(first), 7)]
    assert months == [3, 5, 7, 8, 10, 12, 1]
    assert [instant(tick) for tick in islice(Cron("0 0 L 2 *", "UTC").after(first), 2)] == [
        "2025-02-28T00:00:00Z",
        "2026-02-28T00:00:00Z",
    ]


@pytest.mark.parametrize("macro", MACROS)
def test_macros(macro):
    """Each stands for five fields."""
    at = moment(datetime(2026, 6, 1, tzinfo=UTC))
    assert list(islice(Cron(macro.upper(), "UTC").after(at), 3)) == list(
        islice(Cron(MACROS[macro], "UTC").after(at), 3)
    )


@pytest.mark.parametrize(
    ("cron", "said"),
    [
        ("* * * *", "4 fields"),
        ("0 * * * * *", "6 fields"),
        ("", "0 fields"),
        ("@often", "1 fields"),
        ("60 * * * *", "bad minute"),
        ("0 24 * * *", "bad hour"),
        ("0 0 0 * *", "bad day-of-month"),
        ("0 0 * 13 *", "bad month"),
        ("0 0 * * 8", "bad day-of-week"),
        ("0 0 * * MOO", "bad day-of-week"),
        ("0 0 31 2 *", "bad day-of-month"),
        ("5-1 * * * *", "bad minute"),
        ("*/90 * * * *", "longer than the minute field; for intervals"),
        ("0 */36 * * *", "longer than the hour field"),
        ("*/0 * * * *", "bad minute"),
        ("x" * 100_000, "100000 characters"),
    ],
)
def test_what_is_no_cron_is_refused(cron, said):
    """The error names the field and shows one that is right."""
    with pytest.raises(InvalidInput, match=said) as caught:
        Cron(cron, "UTC")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../etc/passwd", "Europe", "a\0b", "/usr/share/zoneinfo/UTC"])
def test_what_is_no_zone_is_refused(zone):
    """The error shows a name that is right."""
    with pytest.raises(InvalidInput, match="Europe/Berlin"):
        Cron("@daily", zone)
