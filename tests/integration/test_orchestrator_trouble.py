"""What an orchestrator does when something is wrong with code, messages or timers. Nothing is lost."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

import edow
from edow.app import System
from edow.engine import steps
from edow.errors import StoreUnavailable
from edow.kpi.incident import Out
from edow.model import history, inbox, topics, wire
from edow.model.message import Message
from edow.orchestrator.config import OrchestratorConfig
from edow.orchestrator.edges import Edges
from edow.orchestrator.housekeeping import Housekeeper
from edow.orchestrator.stats import Stats
from edow.store.contract import CommandRequest, DeadLetterFilter
from edow.transport.contract import GroupStats, Subscription, TopicSpec, TopicStats
from edow.workflow.registry import Registry
from tests.integration.system import MODES, SECONDS, Running, Setup, happened, has_status, registry_of, running, until

EVENTS: defaultdict[str, threading.Event] = defaultdict(threading.Event)
CALLS: Counter[str] = Counter()


@edow.task
async def add(a: int, b: int) -> int:
    return a + b


@edow.task
async def swallow(data: str) -> int:
    return len(data)


@edow.task(timeout=None)
async def gated(name: str) -> str:
    EVENTS[f"{name} runs"].set()
    await asyncio.to_thread(EVENTS[f"{name} may end"].wait, SECONDS)
    return name


@edow.task(retry=1, exhausted="park")
async def picky(value: int) -> int:
    if value < 0:
        raise ValueError(f"{value} is negative")
    return value


@edow.task(topic="elsewhere")
async def elsewhere() -> int:
    return 1


@edow.workflow
async def signals(receiver: str) -> None:
    edow.signal(receiver, "go", 1)


@edow.workflow
async def sends_elsewhere() -> int:
    return await elsewhere()


@edow.workflow
async def sums(a: int) -> int:
    return await add(await add(a, 1), 1)


@edow.workflow
async def approval(a: int) -> bool:
    await add(a, 1)
    return await edow.wait_signal("go", bool)


@edow.workflow
async def swallows(size: int) -> int:
    return await swallow("x" * size)


@edow.workflow
async def waits(data: str = "") -> int:
    return await edow.wait_signal("go", int)


@edow.workflow
async def naps(seconds: float, data: str = "") -> int:
    await edow.sleep(seconds)
    return 1


@edow.workflow
async def opens() -> str:
    with open("/etc/hosts") as file:
        return file.read()


@edow.workflow
async def blocks() -> None:
    time.sleep(0.001)


@edow.workflow
async def unprintable() -> None:
    raise ValueError("\ud800")


@edow.workflow
async def unencodable() -> Any:
    return object()


@edow.workflow
async def computes(seconds: float) -> int:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return 1


@edow.workflow
async def uses_picky(value: int) -> int:
    return await picky(value)


@edow.workflow
async def works(name: str) -> str:
    return await gated(name)


@edow.workflow
async def strays() -> int:
    return await elsewhere.with_options(topic="undeclared", schedule_to_close="300ms")()


@edow.workflow
async def wanders() -> int:
    return await elsewhere.with_options(topic="refused")()


REGISTRY = registry_of(globals())

modes = pytest.mark.parametrize("mode", MODES)


POISON = (
    b"",
    b"\xff\xfe",
    b'{"type":1}',
    b"[" * 100_000,
    b'{"id":"\xff","type":"io.edow.task.v1"}',
    b"{}",
    wire.encode(
        wire.ResultEvent(
            id="x",
            source="/edow/worker/x",
            type=wire.RESULT_TYPE,
            specversion=wire.SPEC_VERSION,
            subject="add",
            time="2026-01-01T00:00:00Z",
            executionid="a\0b",
            run=1,
            step="add",
            attempt=1,
            outcome="completed",
        )
    ),
    b'{"topic":"a\\u0000b","reason":"","body":"eA=="}',
)


@modes
@pytest.mark.parametrize("topic", [topics.task_topic("default"), topics.result_topic(0), topics.DEAD])
async def test_poison(tmp_path: Any, mode: str, topic: str):
    """Bytes that nobody can read become one dead letter each, and nothing stops."""
    async with running(Setup(tmp_path, mode), REGISTRY) as here:
        await here.system.transport.publish([Message(topic, body) for body in POISON])

        async def buried() -> bool:
            letters = await here.client.dead_letters(DeadLetterFilter())
            return len([each for each in letters if not each.execution]) == len(POISON)

        await until(buried)
        assert await (await here.client.start(sums, 1)).result(SECONDS) == 3


@modes
async def test_a_command_that_nobody_can_read(tmp_path: Any, mode: str):
    """An inbox command of an unknown kind becomes a dead letter; those around it are taken."""
    async with running(Setup(tmp_path, mode), REGISTRY) as here:
        handle = await here.client.start(waits)
        await here.system.store.accept([CommandRequest(handle.id, b'{"type":"future"}')], 1)
        await handle.signal("go", 7)
        assert await handle.result(SECONDS) == 7
        assert len(await here.client.dead_letters()) == 1


@modes
async def test_dead_letters_are_redriven_or_discarded(tmp_path: Any, mode: str):
    """A parked step goes on with edited arguments, or gets TaskDiscarded."""
    async with running(Setup(tmp_path, mode), REGISTRY) as here:
        fixed, dropped = [await here.client.start(uses_picky, -1) for _ in range(2)]
        await has_status(fixed, "parked")
        await has_status(dropped, "parked")
        await here.client.redrive(f"{fixed.id}/1/picky", {"value": 5}, registry=REGISTRY)
        assert await fixed.result(SECONDS) == 5
        await here.client.discard(f"{dropped.id}/1/picky", "no use")
        with pytest.raises(edow.WorkflowFailed, match="no use"):
            await dropped.result(SECONDS)


@modes
async def test_what_workflow_code_must_not_do(tmp_path: Any, mode: str):
    """It fails with the remedy, and others go on."""
    async with running(Setup(tmp_path, mode), REGISTRY) as here:
        for workflow, told in ((opens, "make it a task"), (blocks, "asyncio.sleep"), (unencodable, "object")):
            with pytest.raises(edow.WorkflowFailed, match=told):
                await (await here.client.start(workflow)).result(SECONDS)
        assert await (await here.client.start(sums, 1)).result(SECONDS) == 3


@modes
async def test_a_failure_that_has_no_utf8_form(tmp_path: Any, mode: str):
    """One execution's text without UTF-8 form is that execution's trouble alone."""
    async with running(Setup(tmp_path, mode), REGISTRY) as here:
        handle = await here.client.start(unprintable)

        async def told() -> bool:
            return (await handle.describe()).status in ("failed", "parked")

        await until(told)
        assert await (await here.client.start(sums, 1)).result(SECONDS) == 3


async def test_a_workflow_that_computes_for_long(tmp_path: Any):
    """It is counted, and others go on afterwards."""
    async with running(Setup(tmp_path, config={"compute_limit": 0.05}), REGISTRY) as here:
        slow = await here.client.start(computes, 0.3)
        assert await slow.result(SECONDS) == 1
        assert here.orchestrator.slow_computations > 0
        assert await (await here.client.start(sums, 1)).result(SECONDS) == 3


def no_topic_refused(system: System) -> None:
    """The transport cannot have a topic of that name."""
    ensure = system.transport.ensure

    async def choosy(specs: Sequence[TopicSpec]) -> None:
        if any(spec.name == topics.task_topic("refused") for spec in specs):
            raise edow.InvalidInput("too long for a test")
        await ensure(specs)

    system.transport.ensure = choosy  # type: ignore[method-assign]


@pytest.mark.parametrize("mode", ["separate", "separate-cold"])
async def test_a_task_topic_that_the_transport_refuses(tmp_path: Any, mode: str):
    """Its step fails with the reason; the orchestrator and others go on."""
    async with running(Setup(tmp_path, mode), REGISTRY, change=no_topic_refused) as here:
        stray, other = await here.client.start(wanders), await here.client.start(sums, 1)
        with pytest.raises(edow.WorkflowFailed, match="cannot be published: too long"):
            await stray.result(SECONDS)
        assert await other.result(SECONDS) == 3


@modes
async def test_a_task_topic_that_nobody_declared(tmp_path: Any, mode: str):
    """Its topic is made; the step waits for a worker that serves it, and the orchestrator goes on."""
    async with running(Setup(tmp_path, mode), REGISTRY) as here:
        stray = await here.client.start(strays)
        assert await (await here.client.start(sums, 1)).result(SECONDS) == 3
        with pytest.raises(edow.WorkflowFailed, match="schedule-to-close"):
            await stray.result(SECONDS)


@pytest.mark.parametrize("mode", ["joined", "joined-cold"])
async def test_a_task_topic_that_is_lost(tmp_path: Any, mode: str):
    """As by a failover of the database: it is made again, and the orchestrator goes on."""
    name = topics.task_topic("undeclared")
    async with running(Setup(tmp_path, mode), REGISTRY) as here:
        with pytest.raises(edow.WorkflowFailed, match="schedule-to-close"):
            await (await here.client.start(strays)).result(SECONDS)
        transport: Any = here.system.transport
        with sqlite3.connect(transport.file.path, timeout=SECONDS) as connection:
            connection.execute(
                "DELETE FROM messages WHERE seq >> 43 IN (SELECT id FROM queues WHERE topic = ?)", (name,)
            )
            connection.execute("DELETE FROM queues WHERE topic = ?", (name,))
            connection.execute("DELETE FROM topics WHERE name = ?", (name,))
            connection.execute("UPDATE generation SET number = number + 1")
        with pytest.raises(edow.WorkflowFailed, match="schedule-to-close"):
            await (await here.client.start(strays)).result(SECONDS)
        assert await (await here.client.start(sums, 1)).result(SECONDS) == 3


def small_messages(system: System) -> None:
    """The transport takes no message over 1000 bytes."""
    publish = system.transport.publish

    async def limited(messages: Sequence[Message], **options: Any) -> None:
        if any(len(message.body) > 1000 for message in messages):
            raise edow.InvalidInput("too large for a test")
        await publish(messages, **options)

    system.transport.publish = limited  # type: ignore[method-assign]


@pytest.mark.parametrize("mode", ["separate", "separate-cold"])
async def test_a_task_event_that_the_transport_refuses(tmp_path: Any, mode: str):
    """Its step fails with the reason; those published with it, and others, go on."""
    async with running(Setup(tmp_path, mode), REGISTRY, change=small_messages) as here:
        large, *others = await here.client.start_many(swallows, [(2000,), (1,), (2,)])
        assert [await each.result(SECONDS) for each in others] == [1, 2]
        with pytest.raises(edow.WorkflowFailed, match="cannot be published: too large"):
            await large.result(SECONDS)


@pytest.mark.parametrize("mode", ["joined", "separate-cold"])
async def test_more_to_load_than_fits_one_read(tmp_path: Any, mode: str, monkeypatch: pytest.MonkeyPatch):
    """Executions that wake up together are loaded however large they are together."""
    monkeypatch.setattr("edow.sqlite.file.LARGEST_VALUE", 1_000_000)
    setup = Setup(tmp_path, mode)
    async with setup.system(REGISTRY) as system, edow.Client(store=system.store) as client:
        handles = await client.start_many(naps, [(0.01, "x" * 50_000)] * 40)
    async with running(setup, REGISTRY, worker=False) as here:
        assert [await here.client.get(each.id).result(SECONDS) for each in handles] == [1] * 40


@modes
async def test_a_timer_due_while_nobody_served(tmp_path: Any, mode: str):
    """It fires when an orchestrator is back."""
    setup = Setup(tmp_path, mode)
    async with running(setup, REGISTRY, worker=False) as here:
        handle = await here.client.start(naps, 0.3)

        async def asleep() -> bool:
            return len(await here.client.history(handle.id)) > 1

        await until(asleep)
    async with running(setup, REGISTRY, worker=False) as here:
        assert await here.client.get(handle.id).result(SECONDS) == 1


@modes
async def test_a_signal_from_a_workflow_to_nobody_is_told(
    tmp_path: Any, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The sender goes on; the log names the signal, whom it was for and whom it is from."""
    async with running(Setup(tmp_path, mode), REGISTRY, worker=False) as here:
        handle = await here.client.start(signals, "nobody")
        await handle.result(SECONDS)
        told = (
            f"execution nobody: signal 'go' from execution '{handle.id}' is dropped: there is no execution of that id"
        )

        async def is_told() -> bool:
            return told in caplog.text

        await until(is_told)


@modes
async def test_a_lost_timer_is_healed(tmp_path: Any, mode: str, monkeypatch: pytest.MonkeyPatch):
    """An overdue execution whose wake-up was lost from memory is found, woken and counted."""
    monkeypatch.setattr("edow.store.sqlite.store.OVERDUE_US", 100_000)
    setup = Setup(tmp_path, mode, {"horizon": 3600.0})
    async with running(setup, REGISTRY, worker=False) as here:
        handle = await here.client.start(naps, 0.2)

        async def asleep() -> bool:
            return len(await here.client.history(handle.id)) > 1

        await until(asleep)
        await until(lambda: _knows(here, handle.id))
        here.orchestrator._inputs.forget([handle.id])
        assert await handle.result(SECONDS) == 1
        assert here.orchestrator.stats.healed == 1
        assert (await here.system.store.counts(0)).healed == 1


async def _empty_inbox(here: Running) -> bool:
    return (await here.system.store.counts(0)).inbox == 0


async def _knows(here: Running, execution: str) -> bool:
    return here.orchestrator._inputs.knows(execution)


@modes
async def test_a_lost_task_message_is_published_again(tmp_path: Any, mode: str, monkeypatch: pytest.MonkeyPatch):
    """An attempt whose message the transport has lost is published again, and counted; one still queued is not."""
    monkeypatch.setattr(steps, "FIRST_LOOK", 300_000)
    setup = Setup(tmp_path, mode)
    file = tmp_path / ("store.db" if mode.startswith("joined") else "transport.db")
    async with running(setup, REGISTRY, worker=False) as here:
        handle = await here.client.start(sums, 1)

        async def queued() -> bool:
            [stats] = await here.system.transport.describe([topics.task_topic("default")])
            return stats.groups[0].waiting > 0

        await until(queued)
        with sqlite3.connect(file) as connection:
            connection.execute("DELETE FROM messages")
        connection.close()

        async def republished() -> bool:
            return here.orchestrator.stats.republished == 1

        await until(republished)
        worker = here.system.worker(grace_seconds=0.1)
        await worker.start()
        assert await handle.result(SECONDS) == 3
        await worker.stop()


async def test_backlog_is_not_published_again(tmp_path: Any, monkeypatch: pytest.MonkeyPatch):
    """An attempt that is still waiting in the transport is left there, however long."""
    monkeypatch.setattr(steps, "FIRST_LOOK", 100_000)
    looked = asyncio.Event()
    async with running(Setup(tmp_path), REGISTRY, worker=False) as here:
        find = here.orchestrator._cycle._outgoing.find_lost

        async def finding(suspects: Any, now: int) -> None:
            await find(suspects, now)
            looked.set()

        monkeypatch.setattr(here.orchestrator._cycle._outgoing, "find_lost", finding)
        await here.client.start(sums, 1)
        await asyncio.wait_for(looked.wait(), SECONDS)
        assert here.orchestrator.stats.republished == 0


async def test_commits_do_not_wait_for_a_broker_that_is_slow_to_tell_what_it_has(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
):
    """While it is asked whether it has lost an attempt, other executions begin, go on and end."""
    monkeypatch.setattr(steps, "FIRST_LOOK", 100_000)
    asked, answer = asyncio.Event(), asyncio.Event()

    def slow(system: System) -> None:
        describe = system.transport.describe

        async def describing(names: Sequence[str]) -> Any:
            asked.set()
            await answer.wait()
            return await describe(names)

        monkeypatch.setattr(system.transport, "describe", describing)

    async with running(Setup(tmp_path, "separate"), REGISTRY, change=slow) as here:
        await here.client.start(sends_elsewhere)
        await asyncio.wait_for(asked.wait(), SECONDS)
        assert await (await here.client.start(sums, 1)).result(SECONDS) == 3
        assert here.orchestrator.stats.republished == 0
        assert not answer.is_set()


async def _answered(here: Running, handle: edow.Handle[int], monkeypatch: pytest.MonkeyPatch) -> None:
    worker = here.system.worker(grace_seconds=0.1)
    await worker.start()
    assert await handle.result(SECONDS) == 3
    await worker.stop()


async def _called_off(here: Running, handle: edow.Handle[int], monkeypatch: pytest.MonkeyPatch) -> None:
    await handle.terminate()
    await has_status(handle, "terminated")


async def _shards_lost(here: Running, handle: edow.Handle[int], monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten, outgoing, store = asyncio.Event(), here.orchestrator._cycle._outgoing, here.system.store
    forget, future = outgoing.forget_suspects, 2 * time.time_ns() // 1000

    def forgetting() -> None:
        forget()
        forgotten.set()

    monkeypatch.setattr(outgoing, "forget_suspects", forgetting)
    await store.leases_hold("thief", store.shards, future, future)
    await handle.signal("anything")  # whose commit finds out
    await asyncio.wait_for(forgotten.wait(), SECONDS)


@modes
@pytest.mark.parametrize("meanwhile", [_answered, _called_off, _shards_lost])
async def test_what_need_not_be_published_again_once_the_broker_tells_what_it_has(
    tmp_path: Any, mode: str, meanwhile: Any, monkeypatch: pytest.MonkeyPatch
):
    """While it was asked, the attempt was answered or called off, or is now somebody else's."""
    monkeypatch.setattr(steps, "FIRST_LOOK", 100_000)
    asked, answer, looked = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow(names: Sequence[str]) -> list[TopicStats]:
        asked.set()
        await answer.wait()
        return [TopicStats(name, [GroupStats(topics.WORKERS, 0, 0, None)]) for name in names]

    setup = Setup(tmp_path, mode, {"lease_ttl": 3600.0})  # it does not look after its leases meanwhile
    async with running(setup, REGISTRY, worker=False) as here:
        find = here.orchestrator._cycle._outgoing.find_lost

        async def finding(suspects: Any, now: int) -> None:
            await find(suspects, now)
            looked.set()

        monkeypatch.setattr(here.system.transport, "describe", slow)
        monkeypatch.setattr(here.orchestrator._cycle._outgoing, "find_lost", finding)
        handle = await here.client.start(sums, 1)
        await asyncio.wait_for(asked.wait(), SECONDS)
        await meanwhile(here, handle, monkeypatch)
        answer.set()
        await asyncio.wait_for(looked.wait(), SECONDS)
        assert here.orchestrator.stats.republished == 0


async def test_what_no_worker_has_begun_is_known_also_after_a_restart(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By topic; no more once somebody has answered."""
    monkeypatch.setattr(steps, "FIRST_LOOK", 100_000)

    topic = topics.task_topic("default")

    async def waits() -> bool:
        out = await here.orchestrator.out()
        return list(out.unbegun) == [topic] and out.unanswered == {topic: 1}

    async def over() -> bool:
        return await here.orchestrator.out() == Out()

    async with running(Setup(tmp_path), REGISTRY, worker=False) as here:
        handle = await here.client.start(sums, 1)
        await until(waits)
    assert await here.orchestrator.out() == Out()
    async with running(Setup(tmp_path), REGISTRY, worker=False) as here:
        await until(waits)
        worker = here.system.worker(grace_seconds=0.1)
        await worker.start()
        assert await here.client.get(handle.id).result(SECONDS) == 3
        await until(over)
        await worker.stop()


async def test_without_lag_an_attempt_is_published_again_after_longer(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the transport does not tell what waits, an attempt is held to be lost when nothing was heard for long."""
    monkeypatch.setattr(steps, "FIRST_LOOK", 50_000)
    monkeypatch.setattr(steps, "LAST_LOOK", 200_000)
    async with running(Setup(tmp_path), REGISTRY, worker=False) as here:
        transport: Any = here.system.transport
        transport._features = msgspec.structs.replace(transport.features, lag=False)
        await here.client.start(sums, 1)

        async def republished() -> bool:
            return here.orchestrator.stats.republished > 0

        await until(republished)


@pytest.mark.parametrize("ended", [True, False], ids=["execution over", "step over"])
async def test_a_worker_at_work_for_nobody_is_told_to_stop(tmp_path: Any, ended: bool) -> None:
    """A task event delivered again after its step was over: the worker that begins with it hears so."""
    async with running(Setup(tmp_path), REGISTRY) as here:
        if ended:
            handle = await here.client.start(sums, 1)
            await handle.result(SECONDS)
        else:
            handle = await here.client.start(approval, 1)  # type: ignore[assignment]
            await until(lambda: _step_done(here, handle.id))
        control = await here.system.transport.subscribe(
            Subscription(topics=(topics.CONTROL,), group="", mode="broadcast")
        )
        [step] = [
            each.step for each in await here.client.history(handle.id) if isinstance(each, history.TaskCompleted)
        ][:1]
        shard = (await handle.describe()).shard
        event = wire.ResultEvent(
            id="again",
            source="/test",
            type=wire.RESULT_TYPE,
            specversion=wire.SPEC_VERSION,
            subject=step,
            time="2026-01-01T00:00:00Z",
            executionid=handle.id,
            run=1,
            step=step,
            attempt=1,
            outcome="started",
            data=msgspec.Raw(b"null"),
        )
        await here.system.transport.publish([Message(topics.result_topic(shard), wire.encode(event))])
        [said] = await control.receive(1, SECONDS)
        assert f"{handle.id}/1/{step}".encode() in said.body
        await control.close()


async def _step_done(here: Running, id: str) -> bool:
    return any(isinstance(each, history.TaskCompleted) for each in await here.client.history(id))


@modes
async def test_an_unknown_workflow_waits_for_its_code(tmp_path: Any, mode: str):
    """It parks, and goes on when an orchestrator that has the module is there."""
    setup = Setup(tmp_path, mode)
    async with running(setup, Registry(), worker=False) as here:
        handle = await here.client.start(sums, 1)
        await has_status(handle, "parked")
        assert b"load the module" in bytes((await handle.describe()).failure or b"")
    async with running(setup, REGISTRY) as here:
        handle = here.client.get(handle.id)  # type: ignore[assignment]
        await handle.resume()
        assert await handle.result(SECONDS) == 3


def changed_code() -> Registry:
    """`waits` as somebody has rewritten it."""

    @edow.workflow
    async def sums(a: int) -> int:
        await edow.sleep(1)
        return await add(a, 1)

    return registry_of({"sums": sums, "add": add})


@modes
async def test_code_that_does_not_fit_its_history(tmp_path: Any, mode: str):
    """It parks with a message that names step, recorded and asked; with the right code it completes."""
    setup = Setup(tmp_path, mode)
    async with running(setup, REGISTRY, worker=False) as here:
        handle: Any = await here.client.start(sums, 1)

        async def scheduled() -> bool:
            return len(await here.client.history(handle.id)) > 1

        await until(scheduled)
    async with running(setup, changed_code()) as here:
        handle = here.client.get(handle.id)
        await has_status(handle, "parked")
        failure = bytes((await handle.describe()).failure or b"").decode()
        assert "recorded step 'add'" in failure
        assert "a timer" in failure
    async with running(setup, REGISTRY) as here:
        handle = here.client.get(handle.id)
        await handle.resume()
        assert await handle.result(SECONDS) == 3


@modes
async def test_resuming_leaves_running_tasks_alone(tmp_path: Any, mode: str):
    """A Resume that comes while a task runs does not cancel it."""
    name = f"resumed {mode}"
    async with running(Setup(tmp_path, mode), REGISTRY) as here:
        handle = await here.client.start(works, name)
        await happened(EVENTS[f"{name} runs"])
        command = CommandRequest(handle.id, inbox.encode(inbox.Resume()))
        other = CommandRequest(handle.id, inbox.encode(inbox.Signal(name="x", payload=b"1")))  # type: ignore[arg-type]
        await here.system.store.accept([command, other], 1)

        await until(lambda: _empty_inbox(here))
        EVENTS[f"{name} may end"].set()
        assert await handle.result(SECONDS) == name
        kinds = [type(event).__name__ for event in await here.client.history(handle.id)]
        assert "AttemptFailed" not in kinds


@modes
async def test_retention(tmp_path: Any, mode: str):
    """Executions that ended before the retention are deleted."""
    async with running(Setup(tmp_path, mode, {"retention": 0.0, "purge_every": 0.1}), REGISTRY) as here:
        handle = await here.client.start(sums, 1)

        async def gone() -> bool:
            return here.orchestrator.stats.purged == 1

        await until(gone)
        assert await here.system.store.executions_get([handle.id]) == [None]


class Slow:
    """A store that in its time can delete so many executions, and no more."""

    def __init__(self, left: int, able: int) -> None:
        self.left = left
        self.able = able
        self.tried: list[int] = []

    async def purge(self, ended_before: int, limit: int) -> int:
        self.tried.append(limit)
        purged = min(limit, self.left)
        if purged > self.able:
            raise StoreUnavailable("it takes too long")
        self.left -= purged
        return purged

    async def dead_letters_purge(self, failed_before: int, limit: int) -> int:
        return 0

    async def records_purge(self, now: int, limit: int) -> int:
        return 0


def housekeeper_of(store: Slow) -> Housekeeper:
    edges = Edges(store, None, lambda: 0, False)  # type: ignore[arg-type]
    return Housekeeper(edges, SimpleNamespace(stats=Stats()), None, OrchestratorConfig())  # type: ignore[arg-type]


async def test_retention_whose_page_takes_too_long_is_tried_smaller():
    """All leaves in the end, and larger pages are tried again as soon as smaller ones get through."""
    store = Slow(100, 20)
    assert (await housekeeper_of(store).purge_once(), store.left) == (100, 0)
    assert store.tried[:6] == [1000, 100, 10, 20, 40, 4]


async def test_retention_that_cannot_delete_one_execution_ends_until_the_next_time():
    """The store is away; when it is back, so is the retention."""
    store = Slow(30, 0)
    housekeeper = housekeeper_of(store)
    with pytest.raises(StoreUnavailable):
        await housekeeper.purge_once()
    store.able = 30
    assert (await housekeeper.purge_once(), store.left) == (30, 0)


@modes
async def test_inputs_stay_bounded(tmp_path: Any, mode: str):
    """With 20,000 commands pending no more than a few batches are in memory."""
    setup = Setup(tmp_path, mode, {"batch": 200})
    async with setup.system(REGISTRY) as system, edow.Client(store=system.store) as client:
        await client.start_many(waits, [() for _ in range(100)], [f"w{n}" for n in range(100)])
        commands = [
            CommandRequest(f"w{n % 100}", inbox.encode(inbox.Signal(name="x", payload=b"1")))  # type: ignore[arg-type]
            for n in range(20_000)
        ]
        await system.store.accept(commands, 1)
    most = 0
    async with running(setup, REGISTRY, worker=False) as here:
        inputs = here.orchestrator._inputs

        async def taken() -> bool:
            nonlocal most
            most = max(most, len(inputs._taken))
            return (await here.system.store.counts(0)).inbox == 0

        await until(taken)
    assert 0 < most <= 5 * 200


@modes
async def test_the_history_limit(tmp_path: Any, mode: str, caplog: pytest.LogCaptureFixture):
    """At half and at 80 % of the limit it is told, at the limit the execution is parked."""
    async with running(Setup(tmp_path, mode, {"history_limit": 20}), REGISTRY, worker=False) as here:
        handle = await here.client.start(waits)
        for number in range(30):
            await handle.signal("x", number)
        await has_status(handle, "parked")
        assert b"over the limit" in bytes((await handle.describe()).failure or b"")
    assert "50 % of the limit" in caplog.text
    assert "80 % of the limit" in caplog.text
