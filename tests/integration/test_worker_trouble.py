"""What a worker survives: tasks that do what they should not, a system without threads, errors of a driver."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from typing import Any

import msgspec
import pytest
import uvloop

import edow
from edow import background
from edow.model.message import Message
from edow.testing.polling import until
from edow.transport.contract import Delivery
from edow.worker import lane, processes, publisher, threads
from edow.worker.attempt import Attempt
from edow.worker.mailbox import Mailbox
from edow.worker.threads import ThreadRunner
from tests.unit.worker import process_tasks
from tests.unit.worker.harness import FAST, RESULTS, bench, failure, task_event, value
from tests.unit.worker.memory_transport import FEATURES, Memory, MemorySubscriber

ONE_THREAD = msgspec.structs.replace(FAST, threads=1, zombies=0)


@edow.task
async def quick() -> str:
    return "quick"


async def leave() -> None:
    raise SystemExit(3)


@edow.task
async def leaves() -> None:
    await asyncio.gather(leave())


@edow.task
async def stops_the_loop() -> str:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0)
    return "went on"


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_no_task_ends_the_loop_of_all(run: Callable[[Coroutine[Any, Any, None]], None]) -> None:
    """sys.exit() in a task's own task fails that task, and stopping the loop does nothing: the others go on."""
    began, done = threading.Event(), Future[str]()

    @edow.task
    async def waits() -> str:
        began.set()
        return await asyncio.wrap_future(done)

    async def scenario() -> None:
        async with bench(waits, leaves, stops_the_loop, quick) as b:
            await b.send(task_event("waits"))
            await asyncio.to_thread(began.wait)
            await b.send(task_event("leaves"))
            (left,) = await b.until_results(1, "failed")
            assert failure(left)["type"] == "SystemExit"
            await b.send(task_event("stops_the_loop"))
            await b.until_results(1, "completed")
            await b.send(task_event("quick"))
            await b.until_results(2, "completed")
            done.set_result("waited")
            results = await b.until_results(3, "completed")
            assert [value(result) for result in results] == ["went on", "quick", "waited"]

    run(scenario())


async def test_what_waits_behind_stuck_threads_is_handed_back() -> None:
    """A worker that takes no more sync tasks keeps none: another worker may run them, or itself when it can again."""
    release = threading.Event()
    ran: list[int] = []

    @edow.task
    def stuck(number: int) -> None:
        ran.append(number)
        release.wait()

    async with bench(stuck, config=ONE_THREAD) as b:
        first = task_event("stuck", {"number": 0}, step="s0", timeoutms=30)
        await b.send(first, *(task_event("stuck", {"number": i}, step=f"s{i}") for i in (1, 2)))
        await b.transport.until(lambda: len(b.transport.nacked) == 2)
        assert ran == [0]
        release.set()
        await b.until_results(2, "completed")
    assert sorted(ran) == [0, 1, 2]


@pytest.mark.parametrize("task", ["thread", "process"])
async def test_no_thread_can_be_made(monkeypatch: pytest.MonkeyPatch, task: str) -> None:
    """Where the system gives none, an attempt fails, to be tried again; the next one is run when there is one."""

    @edow.task
    def square(x: int) -> int:
        return x * x

    chosen, kind = (square, threads.Thread) if task == "thread" else (process_tasks.square, processes.Slot)

    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    async with bench(chosen) as b:
        with monkeypatch.context() as patch:
            patch.setattr(kind, "start", refuse)
            await b.send(task_event("square", {"x": 2}))
            (failed,) = await b.until_results()
            await b.until_acked()
        await b.send(task_event("square", {"x": 3}, step="again"))
        results = await b.until_results(2)
    assert (failed.outcome, failed.final) == ("failed", False)
    assert "can't start new thread" in failure(failed)["message"]
    assert value(results[1]) == 9


async def test_fewer_threads_than_there_should_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that there are do the work, one after the other."""
    release, began = threading.Event(), threading.Event()
    start, started = threads.Thread.start, list[object]()

    @edow.task
    def work() -> None:
        began.set()
        release.wait()

    def start_one(thread: threads.Thread) -> None:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threads.Thread, "start", start_one)
    async with bench(work, config=msgspec.structs.replace(FAST, threads=2)) as b:
        await b.send(task_event("work", step="a"), task_event("work", step="b"))
        await asyncio.to_thread(began.wait)
        release.set()
        await b.until_results(2, "completed")
    assert len(started) == 1


def test_an_interruption_at_the_very_end_is_counted_once() -> None:
    """It may come right behind the count, which is then done once more."""
    ended: list[Sequence[Attempt]] = []
    loop = asyncio.new_event_loop()
    runner = ThreadRunner(FAST, Mailbox(loop, ended.append))
    attempt = Attempt(task_event("square"), process_tasks.square, 1)
    thread = threads.Thread(runner)
    attempt.handle = thread
    runner.stop_attempt(attempt)
    for _ in range(2):
        runner.done(attempt, thread)
    assert runner.zombies == 0
    loop.close()


class Odd(Exception):
    @property
    def args(self) -> Any:
        raise LookupError("nobody knows")


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_an_exception_that_cannot_be_told(kind: str) -> None:
    """Is reported as far as it can be, and its attempt does not stay for ever."""

    @edow.task
    async def odd_async() -> None:
        raise Odd

    @edow.task
    def odd_thread() -> None:
        raise Odd

    task = {"async": odd_async, "thread": odd_thread}[kind]
    async with bench(task, quick) as b:
        await b.send(task_event(task.name))
        (failed,) = await b.until_results()
        await b.until_acked()
    assert failure(failed)["type"].endswith("Odd")


class Wrong(Memory):
    """`errors`: what the next receptions raise, whatever a driver promises, and the next publications of answers."""

    def __init__(self, *errors: BaseException) -> None:
        super().__init__()
        self.errors = list(errors)
        self.unpublished = list(errors)
        self.ensured = 0

    async def subscribe(self, subscription: Any) -> MemorySubscriber:
        subscriber = await super().subscribe(subscription)
        receive = subscriber.receive

        async def wrong(limit: int, wait_seconds: float) -> list[Delivery]:
            if self.errors and subscription.mode == "shared":
                raise self.errors.pop()
            return await receive(limit, wait_seconds)

        subscriber.receive = wrong  # type: ignore[method-assign]
        return subscriber

    async def ensure(self, topics: Any) -> None:
        self.ensured += 1
        if self.ensured > 2:  # the bench's, and the worker's when it starts
            raise ZeroDivisionError("a bug of a driver")
        await super().ensure(topics)

    async def publish(self, messages: Sequence[Message], *, durable: bool = True) -> None:
        if self.unpublished and messages[0].topic == RESULTS:
            raise self.unpublished.pop()
        await super().publish(messages, durable=durable)


async def test_no_error_of_a_driver_ends_a_loop(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither one that nobody expects, twice over, nor a cancellation that nobody has asked for."""
    monkeypatch.setattr(background, "AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(lane, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(publisher, "LONGEST_PAUSE_SECONDS", 0.0)
    transport = Wrong(asyncio.CancelledError(), KeyError("unexpected"))
    async with bench(quick, transport=transport) as b:
        await b.send(task_event("quick"))
        (result,) = await b.until_results()
        await b.until_acked()
    assert value(result) == "quick"
    assert "edow-receive was cancelled by something" in caplog.text
    assert "edow-publish was cancelled by something" in caplog.text


async def test_a_subscription_that_cannot_be_closed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Does not keep a worker from ending, nor from beginning again."""
    async with bench(quick) as b:
        (subscriber,) = (each for each in b.transport.subscribers if each.subscription.mode == "shared")

        async def broken() -> None:
            raise KeyError("a bug of a driver")

        with monkeypatch.context() as patch:
            patch.setattr(subscriber, "close", broken)
            await b.worker.stop(0)
        await subscriber.close()
        assert not [each for each in asyncio.all_tasks() if each.get_name().startswith("edow-")]
        await b.worker.start()
        await b.send(task_event("quick"))
        await b.until_results()
    assert "could not be closed" in caplog.text


class Counting(Memory):
    """How many answers came in each call, once it lets them through."""

    def __init__(self) -> None:
        super().__init__(msgspec.structs.replace(FEATURES, max_message_bytes=10_000_000))
        self.gate = asyncio.Event()
        self.calls: list[int] = []

    async def publish(self, messages: Sequence[Message], *, durable: bool = True) -> None:
        if messages[0].topic == RESULTS:
            await self.gate.wait()
            self.calls.append(len(messages))
        await super().publish(messages, durable=durable)


async def test_large_answers_are_bounded_in_bytes() -> None:
    """In what is published at once, and in what is held while the broker takes none: then nothing more is received."""

    @edow.task
    async def large() -> str:
        return "x" * (publisher.BATCH_BYTES // 5)

    config = msgspec.structs.replace(FAST, unpublished_bytes=publisher.BATCH_BYTES)
    async with bench(large, config=config, transport=(transport := Counting())) as b:
        await b.send(*(task_event("large", step=f"s{number}") for number in range(12)))

        async def ended() -> bool:
            return b.worker.stats().ended == 12

        await until(ended)
        assert b.worker._floor.room(("async",)) == 0
        transport.gate.set()
        await b.until_acked(12)
        assert b.worker._floor.room(("async",)) > 0
    assert max(transport.calls) == 4
