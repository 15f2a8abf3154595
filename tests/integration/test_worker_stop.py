"""Start and stop: finish or hand back, nothing lost, nothing acknowledged that was not done."""

from __future__ import annotations

import asyncio
import threading

import msgspec
import pytest

import edow
from edow.errors import Closed
from tests.unit.worker import process_tasks
from tests.unit.worker.harness import FAST, bench, task_event, value


@edow.task
async def sleep_async() -> None:
    await asyncio.sleep(60)


async def test_finishes_within_the_grace() -> None:
    """Tasks that end within the grace are answered and acknowledged; those not begun go back at once."""
    release = threading.Event()

    @edow.task
    def work(number: int) -> int:
        release.wait()
        return number

    async with bench(work, config=msgspec.structs.replace(FAST, threads=1)) as b:
        await b.send(*(task_event("work", {"number": i}, step=f"s{i}") for i in range(3)))
        await b.until_received(3)
        stopping = asyncio.create_task(b.worker.stop(30))
        await b.transport.until(lambda: len(b.transport.nacked) == 2)
        assert not stopping.done()
        release.set()
        await stopping
        assert [value(result) for result in b.results()] == [0]
        assert len(b.transport.acked) == 1


@pytest.mark.parametrize("kind", ["async", "thread", "process"])
async def test_hands_back_after_the_grace(kind: str) -> None:
    """What still runs is told to end and handed back, never acknowledged, never answered."""
    release = threading.Event()
    began = threading.Event()

    @edow.task
    def stuck() -> None:
        began.set()
        release.wait()

    task = {"async": sleep_async, "thread": stuck, "process": process_tasks.compute_for_ever}[kind]
    async with bench(task) as b:
        await b.send(task_event(task.name))
        await b.until_received(1)
        await b.worker.stop(0.01)
        release.set()
        assert len(b.transport.nacked) == 1
        assert not b.transport.acked
        assert not b.results()


async def test_second_stop_is_immediate() -> None:
    """A stop without grace, during a stop with a long one, ends the wait."""
    async with bench(sleep_async) as b:
        await b.send(task_event("sleep_async"))
        await b.until_received(1)
        first = asyncio.create_task(b.worker.stop(3_600))
        await asyncio.sleep(0)
        await b.worker.stop(0)
        await first
        assert len(b.transport.nacked) == 1


async def test_result_after_the_grace_counts() -> None:
    """A task that ends properly although it was told to stop has done its work: it is answered, not run again."""

    began = threading.Event()

    @edow.task
    async def careful() -> str:
        began.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "done"
        return "slept"

    async with bench(careful) as b:
        await b.send(task_event("careful"))
        await asyncio.to_thread(began.wait)
        await b.worker.stop(0.01)
        assert [value(result) for result in b.results()] == ["done"]
        assert not b.transport.nacked


async def test_start_and_stop_are_idempotent() -> None:
    """Twice is as good as once, and a stopped worker can be started again."""

    @edow.task
    async def one() -> int:
        return 1

    async with bench(one) as b:
        await b.worker.start()
        await b.worker.stop()
        await b.worker.stop()
        assert b.worker.stats().running == 0
        await b.worker.start()
        await b.send(task_event("one"))
        await b.until_acked()


async def test_no_threads_are_left() -> None:
    """After a stop there are no threads of the worker."""

    @edow.task
    def one() -> int:
        return 1

    async with bench(one, sleep_async) as b:
        await b.send(task_event("one"))
        await b.until_acked()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("edow")]


async def test_start_fails_cleanly(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the transport cannot be used the error comes out of start, and the worker can be started later."""
    async with bench(sleep_async) as b:
        await b.worker.stop()

        async def closed(_: object) -> None:
            raise Closed("transport is closed")

        with monkeypatch.context() as patch:
            patch.setattr(b.transport, "subscribe", closed)
            with pytest.raises(Closed):
                await b.worker.start()
        await b.worker.start()
        assert b.worker.stats().running == 0
