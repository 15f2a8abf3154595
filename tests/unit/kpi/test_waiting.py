"""Tasks that wait in vain are told from those that wait for their turn, and from long ones."""

from __future__ import annotations

import msgspec
import pytest

from edow.kpi.incident import Presence
from edow.kpi.waiting import Unanswered, in_vain, unanswered

SECOND = 1_000_000
NOW = 1_000 * SECOND


def one(
    waits: dict[str, int] | None = None,
    served: list[str] | None = None,
    heard: int = 900,
    at: int = 999,
    since: int = 0,
) -> Presence:
    """Moments in seconds; `waits`: for how many."""
    return Presence(
        process="a",
        at=at * SECOND,
        started_at=0,
        shards=[0],
        served_since=since * SECOND,
        first_progress_at=0,
        progress_at=at * SECOND,
        heard_at=heard * SECOND,
        unbegun={topic: NOW - waited * SECOND for topic, waited in (waits or {}).items()},
        served=served,
    )


@pytest.mark.parametrize(
    ("said", "topics"),
    [
        ([], []),
        ([one()], []),
        ([one(served=[])], []),  # no worker, and nothing to do
        ([one({"a": 9}, [])], []),  # not for long
        ([one({"a": 11}, [])], ["a"]),
        ([one({"a": 500}, ["a"], heard=999)], []),  # a long queue
        ([one({"a": 500}, ["a"], heard=945)], []),  # behind long tasks: who runs one says so
        ([one({"a": 500}, ["a"], heard=905)], ["a"]),  # workers are there, and work at nothing
        ([one({"a": 11, "b": 500}, ["b"], heard=999)], ["a"]),  # workers of other tasks alone
        ([one({"a": 500}, [], heard=995)], []),  # somebody works, and is too busy to answer
        ([one({"a": 80}, heard=0)], []),  # no roll call: a broker without broadcasts
        ([one({"a": 91}, heard=0)], ["a"]),
        ([one({"a": 500}, heard=0, since=950)], []),  # it has got its shards just now, and hears soon
        ([one({"a": 500}, [], at=900)], []),  # an orchestrator that is gone: another finding
        ([one({"a": 500}, ["a"], heard=0), one(heard=990)], []),  # what another hears counts
        ([one({"a": 20}), one(served=[])], ["a"]),  # and what another knows of workers
    ],
)
def test_what_waits_in_vain(said: list[Presence], topics: list[str]):
    """By topic."""
    found = in_vain(said, NOW)
    assert ([] if found is None else found.topics) == topics


def test_how_long_is_told():
    """Of the oldest."""
    found = in_vain([one({"a": 20, "b": 30}, [])], NOW)
    assert found is not None
    assert (found.topics, found.seconds) == (["a", "b"], 30.0)


def test_what_is_out_is_added_up_over_all_orchestrators_that_are_here():
    """By topic, with the oldest that no worker is known to be at."""
    said = [
        msgspec.structs.replace(one({"a": 4}), unanswered={"a": 3, "b": 1}),
        msgspec.structs.replace(one({"a": 9}), unanswered={"a": 2}),
        msgspec.structs.replace(one({"a": 99}, at=900), unanswered={"a": 50}),
    ]
    assert unanswered(said, NOW) == [Unanswered("a", 5, NOW - 9 * SECOND), Unanswered("b", 1, None)]
