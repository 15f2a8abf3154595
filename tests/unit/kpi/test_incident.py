"""Incidents: fault, first progress, backlog drained; told from what orchestrators say of themselves."""

from edow.kpi.incident import SLACK, Presence, Sight, follow, of_lost, of_outage

SECOND = 1_000_000


def one(process="b", at=0, shards=(0, 1), served_since=0, first=0, outage=0):
    return Presence(
        process=process,
        at=at * SECOND,
        started_at=0,
        shards=list(shards),
        served_since=served_since * SECOND,
        first_progress_at=first * SECOND,
        progress_at=0,
        outage_at=outage * SECOND,
    )


def lost(backlog_before=3):
    return of_lost(one("a", at=100, shards=(0, 1)), 110 * SECOND, backlog_before)


def test_time_to_recover_is_from_the_fault_until_the_backlog_is_drained():
    """Its shards are taken at 103, worked on from 104, and at 120 no more waits than had waited before."""
    incident, taken = lost(), one(at=112, served_since=103, first=104)
    assert follow(incident, Sight(112 * SECOND, [taken], 500))
    assert (incident.progress_at, incident.drained_at, incident.backlog_most) == (104 * SECOND, None, 500)
    assert not follow(incident, Sight(114 * SECOND, [taken], 400))
    assert follow(incident, Sight(120 * SECOND, [taken], 3 + SLACK))
    assert (incident.over, incident.seconds) == (True, 20.0)


def test_that_others_work_on_is_not_progress():
    """While nobody has the shards of the lost one, or has committed nothing since it took them, they stand still."""
    incident = lost()
    assert not follow(incident, Sight(112 * SECOND, [one(shards=(1,), served_since=50, first=111)], 0))
    assert not follow(incident, Sight(112 * SECOND, [one(served_since=103, first=0)], None))
    assert incident.progress_at is None


def test_of_two_that_took_over_the_first_to_commit_counts():
    """Whoever had its shards before the fault does not."""
    incident = lost()
    present = [one("b", shards=(0,), served_since=103, first=107), one("c", shards=(1,), served_since=103, first=105)]
    follow(incident, Sight(112 * SECOND, [*present, one("d", shards=(2,), served_since=1, first=101)], 0))
    assert incident.progress_at == 105 * SECOND


def test_with_nothing_to_do_it_is_enough_that_somebody_is_there():
    """An idle system has recovered when its shards are served again."""
    incident = lost(0)
    assert follow(incident, Sight(112 * SECOND, [one(served_since=103)], 0))
    assert (incident.progress_at, incident.drained_at) == (103 * SECOND, 112 * SECOND)


def test_where_no_broker_tells_what_waits_progress_is_the_end():
    """Drained cannot be known there."""
    incident = lost()
    follow(incident, Sight(112 * SECOND, [one(served_since=103, first=104)], None))
    assert incident.seconds == 4.0


def test_an_outage_ends_with_the_first_commit_after_it():
    """Nobody was lost, nothing changed hands."""
    incident = of_outage(one(at=205, served_since=1, outage=200), 206 * SECOND, 0)
    follow(incident, Sight(206 * SECOND, [one(served_since=1)], 50))
    assert incident.progress_at is None
    assert follow(incident, Sight(210 * SECOND, [one(served_since=1, first=208)], 5))
    assert (incident.progress_at, incident.seconds) == (208 * SECOND, 10.0)
