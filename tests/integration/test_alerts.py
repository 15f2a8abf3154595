"""Alerts and incidents as monitors keep them: opened once, closed once, whoever sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

import edow
from edow.app import System, now
from edow.client.kpis import SloSpec
from edow.errors import StoreUnavailable
from edow.kpi.alert import Thresholds
from edow.kpi.figures import Figures, Lag
from edow.kpi.incident import Presence
from edow.kpi.meter import Meter
from edow.kpi.series import HOUR, SECOND
from edow.model.attempted import Attempted
from edow.model.execution import Execution, Status
from edow.model.message import Message
from edow.monitor import alerts, incidents, reading
from edow.monitor.duties import Duties
from edow.monitor.keeper import Keeper
from edow.store.contract import DeadLetterFilter, Put, RecordFilter, Store
from edow.transport.contract import TopicSpec
from edow.trigger.action import Action
from edow.trigger.events import TRIGGERS, Trigger
from edow.trigger.outgoing import ENDPOINTS, MESSAGES, OUTGOING, Endpoint, Sending
from edow.trigger.poison import Buried, bury
from edow.trigger.sender import Sender
from tests.integration.system import QUICK, registry_of, until


@edow.task
async def double(number: int) -> int:
    return 2 * number


@edow.workflow
async def order(number: int) -> int:
    return await double(number)


@pytest.fixture
async def system(database: str) -> AsyncIterator[System]:
    async with System(database, None, registry_of(globals())) as system:
        yield system


def ended(status: Status, count: int) -> list[Execution]:
    return [Execution(id="1", workflow="order", shard=0, status=status, started_at=1, ended_at=2)] * count


async def measured(system: System, name: str, at: int, good: int, bad: int, letters: int = 0) -> None:
    meter = Meter()
    meter.executions([], [*ended(Status.COMPLETED, good), *ended(Status.FAILED, bad)])
    meter.attempts([("order", [Attempted("double", "completed", 1, 2, 3, 4)] * (good + bad))], 5)
    for _ in range(letters):
        meter.dead_letter("order", "double")
    await Keeper(system.store, meter, name).flush(at)


async def judged(system: System, at: int) -> None:
    """By two monitors at the same moment."""
    duties = [Duties(system.store, system.transport, list) for _ in range(2)]
    await asyncio.gather(*(each.judge(at) for each in duties))


async def names(store: Store) -> tuple[list[str], list[str]]:
    holding, held = await alerts.alerts(store)
    return [f"{each.kind} {each.subject}" for each in holding], [f"{each.kind} {each.subject}" for each in held]


async def test_what_ended_before_an_objective_was_made_alerts_nobody(system: System) -> None:
    """It counts for the budget all the same, and what ends from then on alerts."""
    begin = now() // SECOND * SECOND
    await measured(system, "a", begin - 60 * SECOND, good=0, bad=100)
    async with edow.Client(store=system.store) as client:
        made = await client.kpis().create_slo(SloSpec(name="orders", workflow="order", target=0.99))
        assert (made.total, made.severity) == (100, None)
    await judged(system, begin + 15 * SECOND)
    assert await names(system.store) == ([], [])
    await measured(system, "b", begin + 60 * SECOND, good=0, bad=1)
    await judged(system, begin + 120 * SECOND)
    assert await names(system.store) == (["burn_rate orders"], [])


async def test_a_budget_that_burns_is_one_alert_and_over_when_things_are_well(system: System) -> None:
    """Two monitors see it and one alert is made: a page, a ticket once it no longer burns as fast, then none."""
    async with edow.Client(store=system.store) as client:
        await client.kpis().create_slo(SloSpec(name="orders", workflow="order", target=0.99))
    begin = now() // SECOND * SECOND + 120 * SECOND
    await measured(system, "a", begin - 60 * SECOND, good=50, bad=50)
    await judged(system, begin)
    assert await names(system.store) == (["burn_rate orders"], [])
    await judged(system, begin + 15 * SECOND)
    assert await names(system.store) == (["burn_rate orders"], [])
    later = begin + HOUR * SECOND // 2
    await measured(system, "b", later - 60 * SECOND, good=1000, bad=0)
    await judged(system, later)
    [ticket], [page] = await alerts.alerts(system.store)
    assert (page.severity, page.since, page.until) == ("page", begin, later)
    assert (ticket.severity, ticket.since, ticket.until) == ("ticket", later, None)
    much_later = begin + 7 * HOUR * SECOND
    await measured(system, "c", much_later - 60 * SECOND, good=1000, bad=0)
    await judged(system, much_later)
    assert await names(system.store) == ([], ["burn_rate orders", "burn_rate orders"])


async def test_endpoints_are_told_once_of_each_transition(system: System) -> None:
    """Two monitors see a condition come and go: two signed messages are to be sent, written with the transitions."""
    endpoint = Endpoint(name="pager", url="https://pager.example/", secrets=("env:PAGER",), workflows=())
    await system.store.records_put([Put(OUTGOING, f"{ENDPOINTS}pager", msgspec.json.encode(endpoint))], now())
    sender = Sender(system.store, now, "test")
    await sender.look_once()
    duties = [Duties(system.store, system.transport, list, sender.announced) for _ in range(2)]
    at = now()
    seen = Figures(lag={"t workers": Lag("t", "workers", 3, 0, 61 * SECOND)})
    await Keeper(system.store, Meter(), "b").flush(at - 15 * SECOND, seen)
    for moment in (at, at + HOUR * SECOND):
        await asyncio.gather(*(each.judge(moment) for each in duties))
    found = [
        msgspec.json.decode(msgspec.json.decode(record.body, type=Sending).body)
        for record in await system.store.records_list(RecordFilter(OUTGOING, MESSAGES))
    ]
    assert sorted(each["type"] for each in found) == ["alert.opened", "alert.over"]
    assert {each["data"]["subject"] for each in found} == {"t workers"}
    assert {each["data"]["until"] is None for each in found} == {True, False}


async def test_topics_of_triggers_and_of_tasks_that_only_others_know_are_looked_at(system: System) -> None:
    """Also when another of them is not there."""
    orchestrator, events = system.orchestrator(), system.events()
    monitor = system.monitor(orchestrator, events=events)
    trigger = Trigger(name="paid", topic="payments", action=Action(workflow="order", id="body.id"))
    await system.store.records_put([Put(TRIGGERS, trigger.name, msgspec.json.encode(trigger))], now())
    elsewhere = [TopicSpec("edow.tasks.elsewhere", ("workers",)), TopicSpec("payments", (trigger.consumer_group,))]
    await system.transport.ensure(elsewhere)
    await system.transport.publish([Message(each.name, b"x") for each in elsewhere])
    await events.look_once()
    meter = Meter()
    meter.sent([Message("edow.tasks.elsewhere", b"x"), Message("edow.tasks.deleted", b"x")])
    await Keeper(system.store, meter, "another").flush(now())
    await monitor.run_once()
    await monitor.run_once()
    await events.stop()
    lag = (await reading.figures(system.store, now() - 60 * SECOND, now() + 60 * SECOND)).lag
    assert lag["edow.tasks.elsewhere workers"].waiting == 1
    assert f"payments {trigger.consumer_group}" in lag


async def test_dead_letters_and_lag_are_told(system: System) -> None:
    """Many dead letters of one task; a group whose oldest message waits for more than a minute."""
    at = now()
    await measured(system, "a", at - 20 * SECOND, good=50, bad=0, letters=5)
    seen = Figures(lag={"t workers": Lag("t", "workers", 3, 0, 61 * SECOND), "u workers": Lag("u", "workers", 3, 0, 9)})
    await Keeper(system.store, Meter(), "b").flush(at - 15 * SECOND, seen)
    await judged(system, at)
    assert await names(system.store) == (["dead_letters order/double", "lag t workers"], [])
    await judged(system, at + HOUR * SECOND)
    assert (await names(system.store))[0] == []


async def test_tasks_that_wait_are_told_where_the_broker_does_not_tell_what_waits(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what orchestrators say is not answered; on a broker that tells, by that alone."""
    at = now()
    said = Presence("a", at, 0, [0], 0, 0, at, heard_at=at, unbegun={"t": at - 61 * SECOND}, unanswered={"t": 9})
    await system.store.records_put([incidents.here(said)], at)
    await judged(system, at)
    assert await names(system.store) == ([], [])
    features = msgspec.structs.replace(system.transport.features, lag=False)
    monkeypatch.setattr(system.transport, "_features", features)
    await judged(system, at)
    assert await names(system.store) == (["lag t workers"], [])


async def test_thresholds_that_were_set_hold_from_the_next_look_on(system: System) -> None:
    """What was an alert is over once it is usual."""
    at = now() // SECOND * SECOND
    seen = Figures(lag={"t workers": Lag("t", "workers", 3, 0, 61 * SECOND)})
    await Keeper(system.store, Meter(), "a").flush(at - SECOND, seen)
    await judged(system, at)
    assert await names(system.store) == (["lag t workers"], [])
    async with edow.Client(store=system.store) as client:
        await client.kpis().set_thresholds(Thresholds(oldest_seconds=600.0))
    await judged(system, at)
    assert await names(system.store) == ([], ["lag t workers"])


async def test_what_nobody_takes_is_stuck(system: System) -> None:
    """A start that no orchestrator has taken for a minute is a page, until one does."""
    async with edow.Client(store=system.store) as client:
        handle = await client.start(order, 1)
        await judged(system, now())
        assert await names(system.store) == ([], [])
        await judged(system, now() + 120 * SECOND)
        assert [name.split()[0] for name in (await names(system.store))[0]] == ["stuck"]
        orchestrator, worker = system.orchestrator(**QUICK), system.worker(grace_seconds=0.1)
        await orchestrator.start()
        await worker.start()
        await handle.result()
        await worker.stop()
        await orchestrator.stop()
        await judged(system, now() + 180 * SECOND)
        assert (await names(system.store))[0] == []


async def test_what_has_expired_leaves(system: System) -> None:
    """An orchestrator's housekeeping deletes records of any kind whose time has come, and no others."""
    at = now()
    puts = [Put("view", f"old-{each}", b"{}", None, at - 1) for each in range(3)]
    await system.store.records_put([*puts, Put("view", "new", b"{}", None, at + HOUR * SECOND)], at)
    await system.orchestrator(**QUICK)._housekeeper.purge_once()
    assert [each.key for each in await system.store.records_list(RecordFilter("view"))] == ["new"]


async def test_letters_of_no_execution_leave_after_a_while(system: System) -> None:
    """Nobody's execution takes them along: an orchestrator's housekeeping does, once they are old."""
    month = 30 * 24 * HOUR * SECOND
    for body, at in (b"old", now() - month - HOUR * SECOND), (b"new", now() - month + HOUR * SECOND):
        await bury(system.store, Buried("trigger/t", "trigger t", body), "no JSON", at)
    await system.orchestrator(**QUICK)._housekeeper.purge_once()
    [left] = await system.store.dead_letters_list(DeadLetterFilter())
    assert left.at > now() - month


async def test_a_store_that_was_away_is_an_incident(system: System) -> None:
    """Its fault is the first refusal, its progress the first commit after it."""
    orchestrator = system.orchestrator(**QUICK)
    monitor = system.monitor(orchestrator)
    put, refused = system.store.records_put, asyncio.Event()

    async def away(*_: object, **__: object) -> list[object]:
        refused.set()
        raise StoreUnavailable("away")

    async with edow.Client(store=system.store) as client:
        worker = system.worker(grace_seconds=0.1)
        system.store.records_put = away  # type: ignore[method-assign,assignment]
        before = now()
        await monitor.start()
        await refused.wait()
        system.store.records_put = put  # type: ignore[method-assign]
        await orchestrator.start()
        await worker.start()
        assert await (await client.start(order, 1)).result() == 2

        async def over() -> bool:
            return any(each.over for each in await incidents.incidents(system.store))

        await until(over)
        [incident] = await incidents.incidents(system.store)
        assert "could not reach" in incident.cause
        assert incident.progress_at is not None
        assert before <= incident.fault_at < incident.progress_at
        for part in (worker, orchestrator, monitor):
            await part.stop()
