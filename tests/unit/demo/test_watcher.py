"""The live demo's stopwatch: what counts as progress, and incidents that overlap."""

from __future__ import annotations

from edow.demo.live.watcher import Watcher


class Clock:
    now = 0

    def __call__(self) -> int:
        return self.now


def begun(*orders: str) -> tuple[Watcher, Clock]:
    clock = Clock()
    watcher = Watcher(clock)
    watcher.started(orders)
    return watcher, clock


def test_what_ends_before_the_replacement_is_there_is_no_progress():
    """It was in somebody's hands already, and says nothing of how the system heals."""
    watcher, clock = begun("a", "b", "c")
    watcher.broken("killed")
    clock.now = 5
    watcher.finished("a")
    assert watcher.settle(complete=False) == []
    clock.now = 10
    assert watcher.settle(complete=True) == []
    clock.now = 12
    watcher.finished("b")
    incident = watcher.incident
    assert incident is not None
    assert (incident.first_progress, incident.recovered, incident.waiting) == (12, None, {"c"})
    watcher.finished("c")
    assert watcher.settle(complete=True) == [incident]
    assert incident.recovery == 12


def test_a_second_incident_leaves_the_first_going():
    """Each ends by itself, with the times of its own."""
    watcher, clock = begun("a")
    watcher.broken("first")
    clock.now = 3
    watcher.started(["b"])
    watcher.broken("second")
    watcher.settle(complete=True)
    clock.now = 5
    watcher.finished("a")
    assert [(each.name, each.recovery) for each in watcher.settle(complete=True)] == [("first", 5)]
    assert [each.name for each in watcher.going] == ["second"]
    clock.now = 7
    watcher.finished("b")
    assert [(each.name, each.first_progress, each.recovery) for each in watcher.settle(complete=True)] == [
        ("second", 2, 4)
    ]


def test_what_stays_broken_heals_from_when_it_is_mended():
    """Nothing counts before."""
    watcher, clock = begun("a", "b")
    watcher.broken("down", lasting=True)
    watcher.settle(complete=True)
    watcher.finished("a")
    clock.now = 50
    watcher.mended()
    clock.now = 60
    watcher.finished("b")
    [incident] = watcher.settle(complete=True)
    assert (incident.first_progress, incident.recovery) == (10, 10)
