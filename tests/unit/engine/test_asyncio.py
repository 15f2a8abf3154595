"""asyncio inside workflows: it works, it is durable, and it is the same in every replay."""

import asyncio
import contextlib
import gc
import random
import sys

import pytest

import edow
from edow.engine import guard
from edow.model.execution import Status
from tests.unit.engine.driving import Drive, outcome, result, steps


@edow.task
async def parse(x: int) -> int:
    return x


@edow.task
async def note(x: int) -> int:
    return x


def answer(dispatch):
    return int(bytes(dispatch.args)[5:-1])


async def by_gather() -> list[int]:
    return await asyncio.gather(*[parse(x) for x in range(5)])


async def by_group() -> list[int]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(parse(x)) for x in range(5)]
    return [task.result() for task in tasks]


async def by_wait() -> list[int]:
    pending = {asyncio.create_task(parse(x)) for x in range(5)}
    found = []
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            found.append(await note(task.result()))
    return sorted(found)


async def by_as_completed() -> list[int]:
    async def twice(x: int) -> int:
        return await note(await parse(x))

    return sorted([await done for done in asyncio.as_completed([twice(x) for x in range(5)])])


async def by_queue() -> list[int]:
    queue: asyncio.Queue[int] = asyncio.Queue(2)
    lock, room, ready = asyncio.Lock(), asyncio.Semaphore(2), asyncio.Event()
    found: list[int] = []

    async def consume() -> None:
        await ready.wait()
        while True:
            x = await queue.get()
            async with room, lock:
                found.append(await parse(x))
            queue.task_done()

    consumers = [asyncio.create_task(consume()) for _ in range(3)]
    ready.set()
    for x in range(5):
        await queue.put(x)
    await queue.join()
    for consumer in consumers:
        consumer.cancel()
    await asyncio.gather(*consumers, return_exceptions=True)
    return sorted(found)


async def by_wait_for() -> list[int]:
    return [await asyncio.wait_for(asyncio.shield(parse(x)), 10) for x in range(5)]


async def by_timeout() -> list[int]:
    found = []
    for x in range(5):
        async with asyncio.timeout(5):
            found.append(await parse(x))
    return found


WAYS = [by_gather, by_group, by_wait, by_as_completed, by_queue, by_wait_for, by_timeout]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_the_usual_ways_to_wait_work_and_replay_with_other_addresses(way):
    """Rebuilt after every input, with memory in disorder, the outcome and the steps are the same."""
    workflow = edow.workflow(way)
    live = Drive(workflow)
    assert outcome(live.run(answer)) == list(range(5))

    drive = Drive(workflow)
    decision = drive.start()
    while decision.status is Status.RUNNING:
        dispatch = next(iter(drive.out.values()))
        with Disorder():
            drive.restart()
        decision = drive.complete(dispatch.step, answer(dispatch))
    assert outcome(decision) == list(range(5))
    assert {e.step for e in drive.events if hasattr(e, "step")} == {e.step for e in live.events if hasattr(e, "step")}


class Disorder:
    """Frees and takes memory at random, so that new objects get addresses in no order."""

    def __enter__(self):
        gc.collect()
        self.held = [[object() for _ in range(5)] for _ in range(2000)] + [by_gather() for _ in range(300)]
        coroutines = self.held[2000:]
        random.shuffle(self.held)
        for coroutine in coroutines:
            coroutine.close()
        del self.held[::2]

    def __exit__(self, *error):
        self.held.clear()


def test_tasks_of_as_completed_begin_in_the_order_of_the_list():
    """asyncio makes them in the order of their addresses; the engine does not."""

    @edow.workflow
    async def flow() -> None:
        async def child(x: int) -> None:
            await parse.with_options(step=f"p{x}")(x)

        for done in asyncio.as_completed([child(x) for x in range(50)]):
            await done

    for _ in range(5):
        with Disorder():
            assert steps(Drive(flow).start()) == [f"p{x}" for x in range(50)]


def test_as_completed_of_a_generator_is_refused_with_the_remedy():
    """Its order is lost before anybody could see it."""

    @edow.workflow
    async def flow() -> None:
        async def child(x: int) -> None:
            await parse(x)

        made = [child(x) for x in range(3)]
        try:
            for done in asyncio.as_completed(iter(made)):
                await done
        finally:
            for coroutine in made:
                coroutine.close()

    assert "give it a list" in outcome(Drive(flow).start()).failure.message


def test_wait_for_times_out_durably():
    """The step is cancelled, the worker told, and TimeoutError raised."""

    @edow.workflow
    async def flow() -> str:
        try:
            await asyncio.wait_for(parse(1), 30)
        except TimeoutError:
            return "late"
        return "in time"

    drive = Drive(flow)
    assert drive.start().wake_at == drive.now - 1000 + 30_000_000
    drive.restart()
    decision = drive.wait(31)
    assert (outcome(decision), decision.cancels) == ("late", ["parse"])


def test_a_step_within_wait_for_has_the_same_key_in_every_python():
    """Before 3.12 wait_for makes a task of what it is given, and since then it does not, unless the time is up."""

    async def twice(x: int) -> int:
        other = asyncio.ensure_future(once(x))
        return await parse(x) + await other

    async def once(x: int) -> int:
        return await parse(x)

    @edow.workflow
    async def flow() -> int:
        first = await asyncio.wait_for(twice(1), 30)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(parse(1), 0)
        return first + await asyncio.wait_for(twice(2), None)

    drive = Drive(flow)
    assert sorted(steps(drive.start())) == ["once~1/parse", "parse"]
    drive.restart()
    drive.complete("parse", 1)
    assert sorted(steps(drive.complete("once~1/parse", 2))) == ["once~2/parse", "parse#3"]
    drive.complete("parse#3", 3)
    assert outcome(drive.complete("once~2/parse", 4)) == 10


def test_a_failing_member_cancels_its_group():
    """TaskGroup semantics, with the others' steps cancelled."""

    @edow.workflow
    async def flow() -> str:
        found = "none"
        try:
            async with asyncio.TaskGroup() as group:
                for x in range(3):
                    group.create_task(parse.with_options(retry=1)(x))
        except* edow.TaskFailed as errors:
            found = str(len(errors.exceptions))
        return found

    drive = Drive(flow)
    drive.start()
    decision = drive.fail("parse#2")
    assert outcome(decision) == "1"
    assert sorted(decision.cancels) == ["parse", "parse#3"]


def test_ten_thousand_at_once():
    """Keys are numbered in order; all come together."""

    @edow.workflow
    async def flow(n: int) -> int:
        return sum(await asyncio.gather(*[parse(x) for x in range(n)]))

    drive = Drive(flow, 10_000)
    decision = drive.start()
    assert steps(decision)[::9999] == ["parse", "parse#10000"]
    decision = drive.apply(*(result(d, 1) for d in decision.dispatches))
    assert outcome(decision) == 10_000


@pytest.fixture
def guarded():
    guard.install()


def touch_socket():
    import socket

    socket.socket()


def touch_thread():
    import threading

    threading.Thread(target=print).start()


def touch_process():
    import subprocess

    subprocess.run([sys.executable, "-V"], check=False)


def touch_sleep():
    import time

    time.sleep(0.01)


def touch_file():
    open(__file__).close()


def touch_system():
    import os

    os.system("true")


TOUCHES = [touch_socket, touch_thread, touch_process, touch_sleep, touch_file, touch_system]


@pytest.mark.parametrize("touch", TOUCHES, ids=lambda touch: touch.__name__)
def test_touching_the_outside_raises_with_the_remedy(guarded, touch):
    """At once, in the workflow, and only there."""

    @edow.workflow
    async def flow() -> None:
        touch()

    failure = outcome(Drive(flow).start()).failure
    assert failure.type == "edow.errors.ForbiddenInWorkflow"
    assert "make it a task" in failure.message or "edow.sleep" in failure.message
    touch_file()


def test_threads_and_connections_of_the_loop_are_refused(guarded):
    """asyncio.to_thread and open_connection have no meaning here."""

    @edow.workflow
    async def flow() -> list[str]:
        found = []
        for attempt in (asyncio.to_thread(print), asyncio.open_connection("localhost", 1)):
            try:
                await attempt
            except edow.ForbiddenInWorkflow as error:
                found.append(str(error))
        return found

    told = outcome(Drive(flow).start())
    assert ["run_in_executor" in told[0], "create_connection" in told[1]] == [True, True]


def test_imports_and_tracebacks_are_no_offence(guarded, tmp_path, monkeypatch):
    """Python's own machinery may read files."""
    (tmp_path / "a_late_module.py").write_text("VALUE = 5\n")
    monkeypatch.syspath_prepend(tmp_path)

    @edow.workflow
    async def flow() -> str:
        import traceback

        import a_late_module

        try:
            raise ValueError
        except ValueError:
            return f"{a_late_module.VALUE} {'ValueError' in traceback.format_exc()}"

    assert outcome(Drive(flow).start()) == "5 True"
