"""From when on there are alerts: at the thresholds, neither before nor without them."""

import pytest

from edow.errors import InvalidInput
from edow.kpi.alert import Thresholds, dying, lagging, late, stuck
from edow.kpi.figures import Figures, Lag, TaskFigures, WorkflowFigures
from edow.kpi.waiting import Unanswered

SECOND = 1_000_000


def waits(waiting, seconds):
    return Figures(lag={"t": Lag("t", "workers", waiting, 0, seconds * SECOND)})


def test_a_backlog_is_told_by_its_age_and_if_wanted_by_its_size():
    """A message that waits for over a minute, unless another time was set; however many, unless a number was."""
    assert not list(lagging(waits(10_000, 60), Thresholds()))
    assert len(list(lagging(waits(1, 61), Thresholds()))) == 1
    assert not list(lagging(waits(1, 61), Thresholds(oldest_seconds=300)))
    assert not list(lagging(waits(99, 0), Thresholds(waiting=100)))
    assert len(list(lagging(waits(100, 0), Thresholds(waiting=100)))) == 1


def test_tasks_that_wait_are_told_where_no_broker_tells_their_age():
    """By when no worker can be at them without having said so, unless a longer time was set."""
    out = [Unanswered("t", 3, 100 * SECOND), Unanswered("u", 900, 101 * SECOND), Unanswered("v", 1, None)]
    found = list(late(out, Thresholds(oldest_seconds=5), 161 * SECOND))
    assert [(each.kind, each.subject) for each in found] == [("lag", "t workers")]
    assert "3 tasks are not answered, the oldest waits for 61 s" in found[0].message
    assert not list(late(out, Thresholds(oldest_seconds=61), 161 * SECOND))


def test_dead_letters_are_told_from_so_many_on_and_above_so_large_a_share():
    """Both must be."""
    figures = Figures(
        workflows={"order": WorkflowFigures(tasks={"pay": TaskFigures(completed=90, failed=10, letters=10)})}
    )
    assert len(list(dying(figures, Thresholds()))) == 1
    assert not list(dying(figures, Thresholds(dead_letters=11)))
    assert not list(dying(figures, Thresholds(dead_letter_share=0.1)))


def test_what_is_stuck_is_told_by_number_and_age():
    """Executions that make no progress, then commands that nobody takes."""
    assert [each.subject for each in stuck(1, 0, Thresholds())] == ["executions"]
    assert not list(stuck(1, 0, Thresholds(overdue=2)))
    assert [each.subject for each in stuck(0, 61, Thresholds())] == ["inbox"]
    assert not list(stuck(0, 61, Thresholds(inbox_seconds=90)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"dead_letters": 0},
        {"dead_letter_share": 5.0},
        {"dead_letter_share": float("nan")},
        {"oldest_seconds": 0.5},
        {"oldest_seconds": float("inf")},
        {"waiting": 0},
        {"inbox_seconds": -1},
        {"overdue": 10**10},
    ],
)
def test_thresholds_that_cannot_be_are_refused(wrong):
    """By their name."""
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        Thresholds(**wrong).checked()
