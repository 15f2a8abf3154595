"""Objectives: budgets and burn rates against cases computed by hand."""

import msgspec
import pytest

from edow.errors import InvalidInput
from edow.kpi.alert import burning
from edow.kpi.figures import Figures
from edow.kpi.slo import DAY, HOUR, Objective, Rule, Tally, evaluate, said_of_budget, tally, windows

MONTH = Objective(name="orders", workflow="order", target=0.999)


def of(objective=MONTH, **bad):
    """100,000 executions in each window, of which so many are bad: `d30=`, `d3=`, `h6=`, `h1=`, `m30=`, `m5=`."""
    names = {"m5": HOUR / 12, "m30": HOUR / 2, "h1": HOUR, "h6": 6 * HOUR, "d3": 3 * DAY, "d30": 30 * DAY}
    found = {seconds: Tally(100_000 - bad.get(name, 0), 100_000) for name, seconds in names.items()}
    return evaluate(objective, found[30 * DAY], found)


def test_the_budget_is_what_may_go_wrong():
    """Of 100,000 at 99.9 % a hundred may fail; of these, 25 did."""
    found = of(d30=25)
    assert (found.budget, found.attained, found.budget_left) == (
        pytest.approx(100),
        pytest.approx(0.99975),
        pytest.approx(0.75),
    )


def test_a_missed_objective_has_a_budget_below_zero():
    """Twice as many failed as may."""
    assert of(d30=200).budget_left == pytest.approx(-1)


def test_thresholds_are_those_of_the_workbook():
    """2 % of the budget in an hour, 5 % in six, 10 % in three days: 14.4, 6 and 1 times as fast as it may go."""
    assert [burn.threshold for burn in of().burns] == [pytest.approx(14.4), pytest.approx(6), pytest.approx(1)]


@pytest.mark.parametrize(
    ("bad", "severity"),
    [
        ({"h1": 1440, "m5": 1440}, "page"),  # 1.44 % fail, 0.1 % may: 14.4 times
        ({"h1": 1439, "m5": 1440}, None),  # not yet
        ({"h1": 1440, "m5": 1439}, None),  # not any more
        ({"h6": 600, "m30": 600}, "page"),
        ({"h6": 599, "m30": 5000}, None),
        ({"d3": 100, "h6": 100}, "ticket"),
        ({"d3": 99, "h6": 100}, None),
        ({"d3": 100, "h6": 600, "m30": 600}, "page"),
        ({}, None),
    ],
)
def test_an_alert_needs_the_long_and_the_short_window(bad, severity):
    """It fires when enough of the budget is gone, and is over soon after things are well again."""
    assert of(**bad).severity == severity


def test_an_objective_that_allows_much_can_still_burn():
    """At 80 % no failure rate is 14.4 times the allowed one: that everything fails is enough."""
    lax = Objective(name="lax", workflow="order", target=0.8)
    assert of(lax, h1=100_000, m5=100_000).severity == "page"
    assert of(lax, h1=99_000, m5=100_000).severity is None


def test_nothing_ended_is_no_failure():
    """Without executions the budget is whole and nobody is told."""
    found = evaluate(MONTH, Tally(), lambda _: Tally())
    assert (found.attained, found.budget_left, found.severity) == (None, 1.0, None)


@pytest.mark.parametrize(
    ("window", "alerts"),
    [
        (90 * DAY, [(3 * HOUR, 14.4), (18 * HOUR, 6), (9 * DAY, 1)]),
        (7 * DAY, [(840, 14.4), (5040, 6), (0.7 * DAY, 1)]),
        (DAY, [(300, 14.4), (720, 6), (2.4 * HOUR, 1)]),
        (HOUR, [(300, 6), (360, 1)]),  # half of the budget in five minutes, for less is too little to go by
    ],
)
def test_the_windows_of_alerts_are_in_proportion_to_that_of_the_objective(window, alerts):
    """So that they mean the same burn rates; none is shorter than five minutes, and no rate below 1 alerts anybody."""
    found = evaluate(msgspec.structs.replace(MONTH, window=window), Tally(), lambda _: Tally()).burns
    assert [(each.long_seconds, each.threshold) for each in found] == [pytest.approx(each) for each in alerts]


@pytest.mark.parametrize("window", [HOUR, 2 * HOUR, 6 * HOUR, DAY, 3 * DAY, 7 * DAY, 30 * DAY, 90 * DAY])
def test_a_service_that_keeps_its_objective_alerts_nobody(window):
    """Whatever the window; not even if it uses up nearly all that it may."""
    objective = Objective(name="x", workflow="order", target=0.99, window=window).checked()
    assert evaluate(objective, Tally(9901, 10_000), lambda _: Tally(9901, 10_000)).severity is None


def test_an_alert_of_an_older_release_needs_a_rate_of_one():
    """One that a rate below 1 set off was possible then."""
    objective = Objective(name="x", workflow="order", target=0.99, window=HOUR, rules=(Rule("page", 0.02, HOUR, 300),))
    assert evaluate(objective, Tally(999, 1000), lambda _: Tally(999, 1000)).severity is None
    assert evaluate(objective, Tally(99, 100), lambda _: Tally(99, 100)).severity == "page"


def test_what_counts_as_good():
    """Completed, and in time where that is asked; failed is bad; cancelled and terminated count for nothing."""
    figures = Figures()
    order = figures.workflow("order")
    order.completed, order.failed, order.cancelled, order.terminated = 4, 1, 7, 9
    order.took.add([1_000_000, 2_000_000, 40_000_000, 50_000_000])
    assert tally(MONTH, figures) == Tally(4, 5)
    assert tally(Objective(name="fast", workflow="order", target=0.9, within=30.0), figures) == Tally(2, 5)
    assert tally(Objective(name="other", workflow="other", target=0.9), figures) == Tally()


@pytest.mark.parametrize(
    "given",
    [
        {"name": ""},
        {"name": "a/b"},
        {"name": "a\0b"},
        {"name": "a" * 101},
        {"workflow": ""},
        {"target": 0.0},
        {"target": 1.0},
        {"target": 99.9},
        {"target": float("nan")},
        {"within": 0.0},
        {"within": float("nan")},
        {"window": 60.0},
        {"window": 100 * DAY},
    ],
)
def test_an_objective_that_makes_no_sense_is_refused(given):
    """Each with what would make sense."""
    with pytest.raises(InvalidInput, match=":"):
        Objective(**({"name": "x", "workflow": "order", "target": 0.9} | given)).checked()


def test_an_objective_may_have_alerts_of_its_own():
    """They are looked at instead of the usual ones, over their own windows."""
    rule = Rule("ticket", 0.5, 2 * HOUR, HOUR / 4)
    objective = Objective(name="orders", workflow="order", target=0.999, rules=(rule,)).checked()
    assert windows(objective) == [HOUR / 4, 2 * HOUR]
    [burn] = evaluate(objective, Tally(), lambda _: Tally(999, 1000)).burns
    assert (burn.threshold, burn.long_rate, burn.fires) == (pytest.approx(180), pytest.approx(1), False)
    assert evaluate(objective, Tally(), lambda _: Tally(0, 1000)).severity == "ticket"


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (Rule("page", 2, HOUR, 300), "budget=2"),
        (Rule("page", float("nan"), HOUR, 300), "budget=nan"),
        (Rule("page", 0.02, HOUR, HOUR), "long=3600 s"),
        (Rule("page", 0.02, HOUR, 10), "short=10 s"),
        (Rule("page", 0.02, 60 * DAY, HOUR), "no more than the window"),
        (Rule("page", 0.02, DAY, HOUR), "without missing the objective: give more than 0.0333"),
    ],
)
def test_an_alert_that_cannot_be_is_refused(rule, said):
    """By what is wrong with it."""
    with pytest.raises(InvalidInput, match=said):
        Objective(name="orders", workflow="order", target=0.9, rules=(rule,)).checked()


def test_an_objective_of_an_older_release_has_the_usual_alerts():
    """Its record says nothing of any."""
    stored = b'{"name":"orders","workflow":"order","target":0.999,"within":null,"window":2592000.0}'
    assert msgspec.json.decode(stored, type=Objective) == MONTH
    own = msgspec.structs.replace(MONTH, rules=(Rule("page", 0.02, HOUR, 300.0),))
    assert msgspec.json.decode(msgspec.json.encode(own), type=Objective) == own


@pytest.mark.parametrize(
    ("left", "said"),
    [
        *[(1.0, "100% left"), (0.62, "62% left"), (0.099, "9.9% left"), (0.004, "0.4% left")],
        *[(0.0004, "none left"), (0.0, "none left"), (-0.04, "none left")],
        *[(-0.4, "spent 1.4 times over"), (-8.96, "spent 10 times over"), (-799.0, "spent 800 times over")],
        (-123_455.7, "spent 123,457 times over"),
    ],
)
def test_a_budget_is_told_as_a_person_would(left, said):
    """Also one that is overdrawn, however far."""
    assert said_of_budget(left) == said


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"h1": 3000, "m5": 3000, "d30": 200}, "goes 30 times as fast as it may: spent 2 times over"),
        ({"h6": 650, "m30": 650, "d30": 40}, "goes 6.5 times as fast as it may: 60% left"),
        ({"d3": 100, "h6": 100, "d30": 10}, "goes as fast as it may: 90% left"),
    ],
)
def test_an_alert_says_how_fast_the_budget_goes_and_what_is_left(bad, said):
    """In words that one can say aloud."""
    [condition] = burning([of(**bad)])
    assert condition.message == f"the error budget {said}"
