"""A redrive in stages, as arithmetic: what it takes when, and what makes it stop."""

from __future__ import annotations

import msgspec
import pytest

from edow.client import redrives
from edow.client.redrives import Fate, Redrive, Sent
from edow.errors import InvalidInput
from edow.model import history
from edow.model.execution import Execution, Status
from edow.store.contract import DeadLetter

SECOND = 1_000_000


def redrive(**given: object) -> Redrive:
    return Redrive(**{"id": "r", "created_at": 0, "before": 1, "fingerprint": "f", **given})  # type: ignore[arg-type]


def letters(count: int, first: int = 0) -> list[DeadLetter]:
    return [
        DeadLetter(id=f"e{n}/1/s", execution=f"e{n}", run=1, step="s", task="t") for n in range(first, first + count)
    ]


def answered(given: Redrive, *fates: Fate) -> Redrive:
    """What is in hand gets these fates, in order."""
    return redrives.settled(given, {each.id: fate for each, fate in zip(given.in_hand, fates, strict=False)})


def test_it_takes_one_then_ten_then_all_that_are_left() -> None:
    """Each stage when the one before is answered."""
    now, taken, each = 0, [], redrive(rate=1000.0)
    while each.ended_at is None:
        count = redrives.room(each, now)
        found = letters(min(count, 37 - sum(taken)), sum(taken))
        if found:
            taken.append(len(found))
        each = redrives.moved_on(redrives.took(each, found, now), bool(count and not found), now)
        now += SECOND
        each = redrives.moved_on(answered(each, *["succeeded"] * len(each.in_hand)), False, now)
    assert taken == [1, 10, 26]
    assert (each.state, each.succeeded, each.failed, each.gone) == ("completed", 37, 0, 0)


@pytest.mark.parametrize(
    ("stage", "fates", "state"),
    [
        (0, ["failed"], "stopped"),
        (1, ["failed", "failed"], "running"),
        (1, ["failed", "failed", "failed"], "stopped"),
        (1, ["failed", "failed", *["succeeded"] * 8], "running"),
        (2, ["failed"], "running"),
        (2, ["failed", "failed"], "stopped"),
        (2, [*["succeeded"] * 18, "failed", "failed", "failed", "failed"], "running"),
        (2, [*["succeeded"] * 15, "failed", "failed", "failed", "failed"], "stopped"),
        (1, ["gone"] * 10, "running"),
    ],
)
def test_it_stops_when_more_than_a_fifth_of_a_stage_fails_again(stage: int, fates: list[Fate], state: str) -> None:
    """Of a stage with a size, as soon as that is certain; of the last one, from a few answers on."""
    each = redrives.took(redrive(stage=stage), letters(len(fates)), 0)
    each = answered(each, *fates)
    assert each.state == state
    assert bool(each.why) == (state == "stopped")


def test_one_that_has_stopped_waits_for_what_it_has_in_hand() -> None:
    """And takes nothing more."""
    each = redrives.took(redrive(stage=1, stop_above=0.0), letters(3), 0)
    each = redrives.moved_on(answered(each, "failed"), False, SECOND)
    assert (each.state, each.ended_at, redrives.room(each, SECOND)) == ("stopped", None, 0)
    each = redrives.moved_on(answered(each, "succeeded", "gone"), False, 2 * SECOND)
    assert (each.state, each.ended_at) == ("stopped", 2 * SECOND)
    assert (each.succeeded, each.failed, each.gone) == (1, 1, 1)


def test_the_rate_is_kept() -> None:
    """What was taken has to be earned by waiting; also less than one letter a second."""
    each = redrives.took(redrive(rate=4.0, stage=2), letters(4), 0)
    assert redrives.room(each, SECOND - 1) == 0
    assert redrives.room(each, SECOND) == 4
    slow = redrives.took(redrive(rate=0.5, stage=2), letters(1), 0)
    assert redrives.room(slow, 2 * SECOND - 1) == 0
    assert redrives.room(slow, 2 * SECOND) == 1


def test_what_is_in_hand_has_a_limit() -> None:
    """However high the rate."""
    each = redrives.took(redrive(rate=10_000.0, stage=2), letters(redrives.MOST_IN_HAND - 7), 0)
    assert redrives.room(each, SECOND) == 7


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"fingerprint": None}, "nothing selected"),
        ({"stages": (0,)}, "stages"),
        ({"stages": (1,) * 11}, "stages"),
        ({"rate": 0.0}, "rate 0"),
        ({"rate": 1e-14}, "rate 1e-14"),
        ({"rate": float("nan")}, "rate nan"),
        ({"stop_above": 1.5}, "stop_above 1.5"),
    ],
)
def test_what_makes_no_sense_is_refused(given: dict[str, object], what: str) -> None:
    """With the name of the setting."""
    with pytest.raises(InvalidInput, match=what):
        redrive(**given).checked()


SENT = Sent("e/1/s", "e", 1, "s", 5)
LETTER = DeadLetter(id="e/1/s", execution="e", run=1, step="s", task="t", at=5)
ROW = Execution(id="e", workflow="w", shard=0, run=1, status=Status.RUNNING)
AGAIN = history.TaskRedriven(at=6, step="s")
DONE = history.TaskCompleted(at=7, step="s", attempt=1, result=msgspec.Raw(b"1"))
OTHER = history.TaskCompleted(at=7, step="other", attempt=1, result=msgspec.Raw(b"1"))


@pytest.mark.parametrize(
    ("letter", "row", "events", "fate"),
    [
        ({}, {}, [], "waiting"),  # its command has not been acted on
        ({"state": "redriven"}, {}, [AGAIN], "waiting"),
        ({"state": "redriven"}, {}, [DONE, AGAIN, OTHER], "waiting"),
        ({"state": "redriven"}, {}, [AGAIN, DONE], "succeeded"),
        ({"state": "redriven"}, {"status": Status.COMPLETED}, [AGAIN, DONE, OTHER], "succeeded"),
        ({"state": "redriven"}, {"status": Status.CANCELLED}, [AGAIN], "gone"),
        ({"state": "parked", "at": 9}, {}, [], "failed"),
        ({"state": "raised", "at": 9}, {"status": Status.FAILED}, [], "failed"),
        ({"state": "discarded"}, {}, [], "gone"),
        ({}, {"status": Status.TERMINATED}, [], "gone"),
        ({}, {"run": 2}, [], "gone"),
    ],
)
def test_what_became_of_a_letter(
    letter: dict[str, object], row: dict[str, object], events: list[history.AnyEvent], fate: Fate
) -> None:
    """By the letter, the execution and its history, without comparing clocks."""
    found = msgspec.structs.replace(LETTER, **letter)
    assert redrives.fate(SENT, found, msgspec.structs.replace(ROW, **row), events) == fate


def test_a_letter_whose_execution_was_purged_is_gone() -> None:
    """Retention has taken both."""
    assert redrives.fate(SENT, None, None, []) == "gone"


def test_some_arguments_are_replaced() -> None:
    """The others stay as each letter has them."""
    letter = msgspec.structs.replace(LETTER, args=msgspec.Raw(b'{"a": 1, "b": [2]}'))
    assert redrives.new_args(letter, None) is None
    assert bytes(redrives.new_args(letter, msgspec.Raw(b'{"b": 3}')) or b"") == b'{"a":1,"b":3}'
