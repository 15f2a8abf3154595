"""Timeouts, heartbeats, cancellation: what ends an attempt from outside, wherever it runs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

import edow
from edow.errors import TransportUnavailable
from edow.model.times import rfc3339
from edow.model.topics import ROLL
from edow.model.wire import CANCEL_TYPE, ROLL_CALL_TYPE
from edow.transport.contract import TopicSpec
from edow.worker import pulse
from edow.workflow.context import current_context
from tests.unit.worker.harness import FAST, bench, failure, task_event, told_to_all, value
from tests.unit.worker.memory_transport import Memory


@edow.task
async def quick() -> str:
    return "quick"


@edow.task
async def sleep_async() -> None:
    await asyncio.sleep(60)


@edow.task
def spin() -> None:
    while True:
        time.sleep(0.001)


@pytest.mark.parametrize("task", [sleep_async, spin])
async def test_start_to_close(task: edow.Task[[], None]) -> None:
    """An attempt that runs for too long is stopped and told as timed out; the worker goes on."""
    async with bench(task, quick) as b:
        await b.send(task_event(task.name, timeoutms=50))
        (result,) = await b.until_results()
        await b.until_acked(1)
        await b.send(task_event("quick"))
        results = await b.until_results(2)
    told = failure(result)
    assert (result.outcome, told["kind"], result.final) == ("failed", "start_to_close", False)
    assert "0.05 s" in told["message"]
    assert results[1].outcome == "completed"


async def test_schedule_to_close() -> None:
    """When the time for all attempts is over, the running one is stopped for good."""
    limit = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time())) + ".999999Z"
    async with bench(sleep_async) as b:
        await b.send(task_event("sleep_async", deadline=limit))
        (result,) = await b.until_results()
    assert (failure(result)["kind"], result.final) == ("schedule_to_close", True)


async def test_cleanup_within_the_grace() -> None:
    """An async task may clean up when it is stopped; what it then returns is not its result."""
    cleaned: list[bool] = []

    @edow.task
    async def tidy() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cleaned.append(edow.context().cancelled.is_set())
        return "as if nothing had happened"

    async with bench(tidy) as b:
        await b.send(task_event("tidy", timeoutms=30))
        (result,) = await b.until_results()
    assert failure(result)["kind"] == "start_to_close"
    assert cleaned == [True]


async def test_task_that_ignores_its_cancellation() -> None:
    """An async task that does not end is given up; what it returns later is discarded."""
    release = asyncio.Event()
    here = asyncio.get_running_loop()
    over = asyncio.Event()

    @edow.task
    async def stubborn() -> str:
        waiting = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(release.wait(), here))
        while not waiting.done():
            try:
                await asyncio.shield(waiting)
            except asyncio.CancelledError:
                continue
        here.call_soon_threadsafe(over.set)
        return "late"

    async with bench(stubborn, quick) as b:
        await b.send(task_event("stubborn", timeoutms=30))
        (result,) = await b.until_results()
        assert failure(result)["kind"] == "start_to_close"
        release.set()
        await over.wait()
        await b.send(task_event("quick"))
        results = await b.until_results(2)
    assert [result.outcome for result in results] == ["failed", "completed"]


async def test_stuck_thread_is_replaced() -> None:
    """A thread that cannot be interrupted is left behind, counted, and its place is taken by a fresh one."""
    release = threading.Event()
    context: list[Any] = []

    @edow.task
    def stuck() -> None:
        context.append(current_context.get())
        release.wait()

    @edow.task
    def healthy() -> str:
        return "healthy"

    async with bench(stuck, healthy, config=msgspec.structs.replace(FAST, threads=1)) as b:
        await b.send(task_event("stuck", timeoutms=30))
        await b.until_results(1)
        assert b.worker.stats().zombies == 1
        assert context[0].cancelled.is_set()
        await b.send(task_event("healthy"))
        results = await b.until_results(2)
        assert value(results[1]) == "healthy"
        release.set()


async def test_too_many_stuck_threads(caplog: pytest.LogCaptureFixture) -> None:
    """A worker with more stuck threads than its limit takes no more sync tasks, and says so."""
    release = threading.Event()

    @edow.task
    def stuck() -> None:
        release.wait()

    async with bench(stuck, config=msgspec.structs.replace(FAST, threads=1, zombies=0)) as b:
        await b.send(task_event("stuck", timeoutms=30))
        await b.until_results(1)
        await b.send(task_event("stuck", step="again"))
        assert b.worker._floor.room(("thread",)) <= 0
        release.set()
        await b.until_results(2)  # the thread has ended after all, and the worker takes work again
    assert "restart it" in caplog.text


async def test_blocked_task_loop(caplog: pytest.LogCaptureFixture) -> None:
    """An async task that blocks is reported with its stack, fails at its timeout, and new work runs on a fresh loop."""
    release = threading.Event()

    @edow.task
    async def blocks() -> None:
        release.wait()

    async with bench(blocks, quick) as b:
        await b.send(task_event("blocks", timeoutms=100))
        (result,) = await b.until_results()
        await b.send(task_event("quick"))
        results = await b.until_results(2)
        assert b.worker.stats().zombies == 1
        release.set()
    assert failure(result)["kind"] == "start_to_close"
    assert value(results[1]) == "quick"
    assert "task blocks of execution e has blocked the task loop" in caplog.text
    assert "release.wait()" in caplog.text


async def test_work_behind_a_blocked_loop() -> None:
    """What a blocked loop has not begun is run by its replacement."""
    release = threading.Event()
    began = threading.Event()

    @edow.task
    async def blocks() -> None:
        began.set()
        release.wait()

    async with bench(blocks, quick) as b:
        await b.send(task_event("blocks", timeoutms=100))
        await asyncio.to_thread(began.wait)
        await b.send(task_event("quick", timeoutms=10))
        results = await b.until_results(2)
        release.set()
    assert {result.outcome for result in results} == {"failed", "completed"}


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_heartbeats(kind: str) -> None:
    """Heartbeats keep an attempt alive and carry details; without them it is stopped."""
    quiet = threading.Event()

    def report(count: int) -> None:
        edow.context().heartbeat({"done": count})

    @edow.task
    async def beats_async() -> None:
        for count in range(1_000_000):
            if not quiet.is_set():
                report(count)
            await asyncio.sleep(0.001)

    @edow.task
    def beats_thread() -> None:
        for count in range(1_000_000):
            if not quiet.is_set():
                report(count)
            time.sleep(0.001)

    task = {"async": beats_async, "thread": beats_thread}[kind]
    async with bench(task) as b:
        await b.send(task_event(task.name, heartbeatms=120))
        beats = await b.until_results(4, "heartbeat")
        assert not b.results("failed")
        quiet.set()
        (failed,) = await b.until_results(1, "failed")
    assert b.results()[0].outcome == "started"
    assert value(beats[3])["done"] > value(beats[0])["done"]
    assert len({beat.id for beat in beats}) == 4
    assert failure(failed)["kind"] == "heartbeat"


async def test_a_long_attempt_is_heard_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt that runs for long is reported again and again, so that nobody takes its message for lost."""
    monkeypatch.setattr(pulse, "LONG_SECONDS", 0.01)
    monkeypatch.setattr(pulse, "AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(pulse, "LOOK_SECONDS", 0.0)
    done = asyncio.Event()

    @edow.task
    async def takes_long() -> None:
        await done.wait()

    async with bench(takes_long) as b:
        await b.send(task_event("takes_long"))
        assert {result.outcome for result in await b.until_results(3)} == {"started"}
        done.set()
        await b.until_results(1, "completed")


@pytest.mark.parametrize(("age", "told"), [(60, True), (-60, False)])
async def test_called_off_before_anybody_heard(monkeypatch: pytest.MonkeyPatch, age: int, told: bool) -> None:
    """A task that was published before this worker listened for cancellations is soon reported, should it last: its
    own may have come when no worker was there.
    """
    monkeypatch.setattr(pulse, "DOUBT_SECONDS", 0.01)
    monkeypatch.setattr(pulse, "LOOK_SECONDS", 0.0)
    done = asyncio.Event()

    @edow.task
    async def takes_long() -> None:
        await done.wait()

    @edow.task
    async def looks_on() -> None:
        await asyncio.sleep(0.1)

    async with bench(takes_long, looks_on) as b:
        published = rfc3339(time.time_ns() // 1_000 - age * 1_000_000)
        await b.send(msgspec.structs.replace(task_event("takes_long"), time=published))
        if told:
            await b.until_results(1, "started")
            await b.cancel("e/1/takes_long")
            await b.until_results(1, "cancelled")
        else:
            await b.send(msgspec.structs.replace(task_event("looks_on"), time=published))
            await b.until_results(1, "completed")
            done.set()
            await b.until_results(2, "completed")
            assert not b.results("started")


async def test_last_words() -> None:
    """What an attempt reported last is told before its failure, for the next attempt to go on from."""

    @edow.task
    async def gets_far() -> None:
        for done in range(100):
            edow.context().heartbeat(done)
        raise ValueError("so near")

    async with bench(gets_far) as b:
        await b.send(task_event("gets_far"))
        last, failed = await b.until_results(2)
    assert (last.outcome, value(last), failed.outcome) == ("heartbeat", 99, "failed")


@pytest.mark.parametrize("task", [sleep_async, spin])
async def test_cancelled_while_running(task: edow.Task[[], None]) -> None:
    """A cancellation reaches a task that runs, without its asking for it."""
    async with bench(task) as b:
        await b.send(task_event(task.name))
        await b.until_received(1)
        await b.cancel("e/1/other", f"e/1/{task.name}")
        (result,) = await b.until_results()
        await b.until_acked()
    assert result.outcome == "cancelled"


async def test_cancelled_while_waiting_and_before_it_came() -> None:
    """What is cancelled before its turn is not run, whether it is here already or still on its way."""
    release = threading.Event()
    ran: list[int] = []

    @edow.task
    def work(number: int) -> None:
        ran.append(number)
        release.wait()

    async with bench(work, config=msgspec.structs.replace(FAST, threads=1)) as b:
        await b.send(task_event("work", {"number": 1}, step="s1"), task_event("work", {"number": 2}, step="s2"))
        await b.until_received(2)
        await b.cancel("e/1/s2", "e/1/s3")
        await b.until_results(1, "cancelled")
        await b.send(task_event("work", {"number": 3}, step="s3"))
        await b.until_results(2, "cancelled")
        release.set()
        await b.until_results(1, "completed")
    assert ran == [1]


async def test_garbage_on_the_control_topic(caplog: pytest.LogCaptureFixture) -> None:
    """Bytes on the control topic that are no cancellation are told and ignored."""
    async with bench(sleep_async) as b:
        await b.send(task_event("sleep_async"))
        await b.until_received(1)
        await b.transport.publish([edow_message(b"?")])
        await b.cancel("e/1/sleep_async")
        await b.until_results(1, "cancelled")
    assert "no cancellation" in caplog.text


class Unmakable(Memory):
    """The topic for answers to a roll call cannot be made, at first."""

    away = True

    async def ensure(self, topics: Sequence[TopicSpec]) -> None:
        if self.away and ROLL in {spec.name for spec in topics}:
            raise TransportUnavailable("away")
        await super().ensure(topics)


async def test_a_roll_call_that_cannot_be_answered_costs_no_cancellation() -> None:
    """What came with it is heard; the next call is answered, on a topic that the worker has ensured itself."""
    transport = Unmakable()
    async with bench(sleep_async, transport=transport) as b:
        await b.send(task_event("sleep_async"))
        await b.until_received(1)
        await transport.publish([told_to_all(ROLL_CALL_TYPE), told_to_all(CANCEL_TYPE, "e/1/sleep_async")])
        await b.until_results(1, "cancelled")
        assert not transport.published[ROLL]
        transport.away = False
        await transport.publish([told_to_all(ROLL_CALL_TYPE)])
        await transport.until(lambda: transport.published[ROLL])


def edow_message(body: bytes) -> Any:
    from edow.model import topics
    from edow.model.message import Message

    return Message(topics.CONTROL, body)


async def test_interruption_stays_with_its_task() -> None:
    """An interrupted thread never takes another task's work with it: everything else completes."""

    @edow.task
    def short(number: int) -> int:
        time.sleep(0.004)
        return number

    async with bench(short, config=msgspec.structs.replace(FAST, threads=4)) as b:
        await b.send(*(task_event("short", {"number": i}, step=f"s{i}", timeoutms=5) for i in range(200)))
        await b.until_acked(200)
        results = b.results()
    assert len({result.step for result in results}) == len(results) == 200
    assert {result.outcome if result.outcome == "completed" else failure(result)["kind"] for result in results} <= {
        "completed",
        "start_to_close",
    }
