"""Health means progress: what waits for nobody is healthy, what waits in vain is not."""

from __future__ import annotations

import pytest

from edow.api.health import judge
from edow.app import now
from edow.kpi.incident import Presence
from edow.kpi.waiting import InVain
from edow.monitor.incidents import here
from edow.store.contract import Counts, Lease
from tests.api.serving import ELSEWHERE, Api

SECOND = 1_000_000
NOW = 1_000 * SECOND
ALIVE = [Lease(shard, "orchestrator-1", 1, NOW + SECOND) for shard in range(4)]
DEAD = [Lease(shard, "orchestrator-1", 1, NOW - SECOND) for shard in range(4)]


def counts(running: int = 0, overdue: int = 0, inbox_oldest_at: int | None = None) -> Counts:
    return Counts(
        by_status={"running": running, "completed": 7},
        dead_letters=2,
        inbox=0 if inbox_oldest_at is None else 1,
        inbox_oldest_at=inbox_oldest_at,
        outbox=0,
        overdue=overdue,
        healed=0,
        bytes=0,
    )


@pytest.mark.parametrize(
    ("seen", "leases", "problem"),
    [
        (counts(), [], None),
        (counts(), DEAD, None),
        (counts(running=5), ALIVE, None),
        (counts(running=5, inbox_oldest_at=NOW - 9 * SECOND), ALIVE, None),
        (counts(running=5), [], "no orchestrator is alive"),
        (counts(running=5), DEAD, "no orchestrator is alive"),
        (counts(running=5, overdue=3), ALIVE, "3 running executions are overdue"),
        (counts(inbox_oldest_at=NOW - 11 * SECOND), ALIVE, "waited for 11 s"),
    ],
)
def test_what_makes_progress(seen: Counts, leases: list[Lease], problem: str | None):
    """An idle system does, and one whose orchestrators take what comes; not one where something waits in vain."""
    health = judge(seen, leases, 4, NOW)
    assert (health.live, health.ready, health.progressing) == (True, True, problem is None)
    assert [problem in said for said in health.problems] == ([] if problem is None else [True])
    assert (health.dead_letters, health.shards, health.shards_held) == (2, 4, 4 if leases is ALIVE else 0)


def test_tasks_that_nobody_takes_are_no_progress():
    """However many orchestrators there are, and whatever else goes on."""
    health = judge(counts(running=5), ALIVE, 4, NOW, InVain(["edow.tasks.secret"], 23.4))
    assert (health.progressing, health.problems) == (False, ["tasks have waited for 23 s, and no worker takes them"])


async def test_what_orchestrators_say_of_waiting_tasks_is_believed(each: Api):
    """As far as the health of everybody; which topic it is, is nobody's matter who has no token."""
    at = now()
    said = Presence(
        process="a", at=at, started_at=0, shards=[0, 1, 2, 3], served_since=0, first_progress_at=0, progress_at=at,
        unbegun={"edow.tasks.secret": at - 20 * SECOND}, served=[],
    )  # fmt: skip
    await each.system.store.records_put([here(said)], at)
    answer = await each.http(ELSEWHERE).get("/health")
    assert (answer.status_code, answer.json()["progressing"]) == (503, False)
    assert "no worker takes them" in answer.json()["problems"][0]
    assert "secret" not in answer.text


async def test_an_idle_system_is_healthy(each: Api):
    """And tells so to everybody, with numbers alone."""
    for path in ("/health", "/health/live", "/health/ready"):
        answer = await each.http(ELSEWHERE).get(path)
        assert (answer.status_code, answer.json()["live"]) == (200, True), path


async def test_executions_that_nobody_advances_are_not_healthy(each: Api):
    """503 and why; the process is live and ready all the same."""
    await each.client.submit_named("w", [("a", {})])
    answer = await each.http().get("/health")
    assert (answer.status_code, answer.json()["progressing"]) == (503, False)
    assert answer.json()["problems"] == ["executions are running, and no orchestrator is alive"]
    assert (await each.http().get("/health/ready")).status_code == 200
    assert (await each.http().get("/health/live")).status_code == 200


async def test_a_store_that_does_not_answer(api: Api):
    """Not ready, and other routes answer 503 with Retry-After; still live."""
    await api.http().get("/health/live")
    await api.system.transport.close()  # both are in one file, which stays open for either
    await api.system.store.close()
    for path in ("/health", "/health/ready"):
        answer = await api.http().get(path)
        assert (answer.status_code, answer.json()["ready"]) == (503, False)
    assert (await api.http().get("/health/live")).status_code == 200
    answer = await api.http().get("/api/v1/executions")
    assert (answer.status_code, answer.json()["error"], answer.headers["Retry-After"]) == (503, "Closed", "1")
