"""Bulk jobs: preview, progress, several runners at once, and a runner that is killed at every boundary."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from edow.app import System, now
from edow.client import Client, jobs
from edow.client.actor import Actor
from edow.client.job_runner import JobRunner
from edow.client.jobs import Job, Match, Order
from edow.errors import WrongState
from edow.model import inbox
from edow.store.contract import Put
from tests.api import job_child
from tests.api.serving import Api
from tests.forks import Fork

COUNT = 250
STARTS = COUNT + 1  # commands in the inboxes before any job: one Start each


async def start_many(client: Client, count: int = COUNT) -> None:
    await client.submit_named("w", [(f"x-{number:03}", {}) for number in range(count)])
    await client.submit_named("other", [("y", {})])


async def commands(system: System) -> Counter[tuple[str, str]]:
    """(execution, kind) of everything in the inboxes but the starts."""
    rows = await system.store.inbox_read(range(system.store.shards), (), 10_000)
    decoded = [(row.execution, inbox.decode(row.command)) for row in rows]
    return Counter((id, type(each).__name__) for id, each in decoded if not isinstance(each, inbox.Start))


async def finish(runner: JobRunner, client: Client, id: str) -> Job:
    while (job := await client.jobs().get(id)).ended_at is None:
        await runner.run_once()
    return job


async def test_a_job_begins_however_many_have_ended(each: Api):
    """Those that have ended are kept for a month, and come first."""
    ended = [Job(id=f"job-{n:05}", action="cancel", match=Match(), created_at=1, ended_at=now()) for n in range(1001)]
    await each.system.store.records_put([jobs.put(job, 0) for job in ended], now())
    await start_many(each.client, 3)
    job = await each.client.jobs().start(Order(action="cancel", match=Match(workflow="w")))
    assert (await finish(JobRunner(each.system.store, now), each.client, job.id)).handled == 3


async def test_a_job_that_cannot_be_gone_on_with_holds_up_no_other(each: Api):
    """Its record makes no sense, say after a downgrade."""
    await each.system.store.records_put([Put(jobs.KIND, "job-0", b"{}")], now())
    await start_many(each.client, 3)
    job = await each.client.jobs().start(Order(action="cancel", match=Match(workflow="w")))
    assert (await finish(JobRunner(each.system.store, now), each.client, job.id)).handled == 3


async def test_a_job_acts_on_all_that_match_once(each: Api):
    """Also with two runners that take steps at the same time; those started later are left alone."""
    await start_many(each.client)
    operator = each.client.acting_as(Actor("cli:ada", "operate"))
    match = Match(workflow="w")
    found = await operator.jobs().preview(match)
    assert (found.count, found.exact, len(found.sample)) == (COUNT, True, 10)
    order = Order(action="cancel", match=match, reason="wrong prices", rate=10_000, at_most=COUNT)
    job = await operator.jobs().start(order)
    assert (job.total, job.created_by, job.state) == (COUNT, "cli:ada", "running")
    await each.client.submit_named("w", [("later", {})])

    runners = [JobRunner(each.system.store, now) for _ in range(2)]
    jobs = await asyncio.gather(*(finish(runner, operator, job.id) for runner in runners))
    assert [(each.state, each.handled, each.skipped) for each in jobs] == [("completed", COUNT, 0)] * 2
    assert await commands(each.system) == Counter({(f"x-{number:03}", "Cancel"): 1 for number in range(COUNT)})
    [entry] = (await operator.audit()).entries
    assert (entry.action, entry.target, entry.actor) == ("job.start", job.id, "cli:ada")
    assert entry.parameters == {"action": "cancel", "reason": "wrong prices", "matched": COUNT, "workflow": "w"}


async def test_more_than_the_preview_is_refused(each: Api):
    """What somebody has not seen is not acted on."""
    await start_many(each.client, 3)
    with pytest.raises(WrongState, match="3 executions match, more than the 2 allowed"):
        await each.client.jobs().start(Order(action="cancel", match=Match(workflow="w"), at_most=2))
    assert await each.client.jobs().list() == []


async def test_a_job_can_be_stopped(each: Api):
    """It acts on no more, and cannot be stopped twice."""
    await start_many(each.client)
    job = await each.client.jobs().start(Order(action="terminate", match=Match(workflow="w"), rate=100))
    runner = JobRunner(each.system.store, now)
    assert await runner.run_once() == 1
    stopped = await each.client.jobs().stop(job.id, "enough")
    assert (stopped.state, stopped.why, stopped.handled) == ("stopped", "enough", 100)
    assert await runner.run_once() == 0
    assert sum((await commands(each.system)).values()) == 100
    with pytest.raises(WrongState, match="nothing left to stop"):
        await each.client.jobs().stop(job.id)


async def test_the_rate_is_kept(each: Api):
    """A step acts on no more than a second's worth, and the next one waits until the rate allows it."""
    await start_many(each.client, 9)
    job = await each.client.jobs().start(Order(action="cancel", match=Match(workflow="w"), rate=4))
    at = now()
    runner = JobRunner(each.system.store, lambda: at)
    handled = []
    for seconds in (0, 0.5, 0.5, 0.5, 1):
        at += round(seconds * 1_000_000)
        await runner.run_once()
        handled.append((await each.client.jobs().get(job.id)).handled)
    assert handled == [4, 4, 8, 8, 9]


async def test_signals_and_what_is_in_no_state_for_it(each: Api):
    """A signal reaches all; nobody is resumed who waits for nobody."""
    await start_many(each.client, 3)
    runner = JobRunner(each.system.store, now)
    order = Order(action="signal", match=Match(prefix="x-"), signal="go", value={"a": 1}, rate=10_000)
    await finish(runner, each.client, (await each.client.jobs().start(order)).id)
    assert set((await commands(each.system)).values()) == {1}
    resume = await each.client.jobs().start(Order(action="resume", match=Match(prefix="x-"), rate=10_000))
    job = await finish(runner, each.client, resume.id)
    assert (job.handled, job.skipped) == (3, 3)


async def test_over_http(api: Api):
    """Preview, start, look, stop; the filter is that of a list."""
    await start_many(api.client, 5)
    http = api.http()
    jobs = "/api/v1/jobs"
    assert (await http.post(f"{jobs}/preview", json={"workflow": "w"})).json()["count"] == 5
    assert (await http.post(f"{jobs}/preview", json={"status": ["completed"]})).json()["count"] == 0
    new = {"action": "pause", "match": {"workflow": "w"}, "rate": 2}
    assert (await http.post(jobs, json=new | {"at_most": 4})).status_code == 409
    assert (await http.post(jobs, json=new | {"action": "dance"})).status_code == 422
    assert (await http.post(jobs, json=new | {"action": "signal"})).status_code == 400
    assert (await http.post(jobs, json=new | {"rate": 1e-14})).status_code == 400  # which would never get on
    made = await http.post(jobs, json=new)
    assert (made.status_code, made.json()["total"], made.json()["created_by"]) == (201, 5, "local")
    id = made.json()["id"]
    await JobRunner(api.system.store, now).run_once()
    assert (await http.get(f"{jobs}/{id}")).json()["handled"] == 2
    assert [each["id"] for each in (await http.get(jobs)).json()] == [id]
    assert (await http.post(f"{jobs}/{id}/stop", json={"reason": "no"})).json()["state"] == "stopped"
    assert (await http.post(f"{jobs}/{id}/stop", json={})).status_code == 409
    assert (await http.get(f"{jobs}/nothing")).status_code == 404


@pytest.mark.timeout(300)
async def test_a_runner_that_is_killed(tmp_path: Path):
    """`kill -9` before or after any write: another runner goes on, and every execution has been told exactly once."""
    for crash_at in range(1, 9):
        store = f"sqlite:///{tmp_path}/{crash_at}.db"
        async with System(store) as system, Client(store=system.store) as client:
            await start_many(client)
            order = Order(action="signal", match=Match(workflow="w"), signal="go", rate=10_000)
            job = await client.jobs().start(order)
            child = Fork(job_child.run, store, crash_at)
            async with asyncio.timeout(60):
                code = await child.wait()
            done = await finish(JobRunner(system.store, now), client, job.id)
            expected = Counter({(f"x-{number:03}", "Signal"): 1 for number in range(COUNT)})
            assert await commands(system) == expected, crash_at
            assert (done.state, done.handled, done.skipped) == ("completed", COUNT, 0)
        assert code == (-9 if crash_at <= 6 else 0), f"three writes are six boundaries; {crash_at} answered {code}"
