"""What workflows can count on: signals, timers, retries, children, cancellation; hot and evicted, one file and two."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from typing import Any

import pytest

import edow
from edow.model import history as h
from edow.store.contract import DeadLetterFilter, ExecutionFilter
from tests.integration.system import MODES, SECONDS, Running, Setup, happened, has_status, registry_of, running, until

EVENTS: defaultdict[str, threading.Event] = defaultdict(threading.Event)
CALLS: Counter[str] = Counter()
SEEN: dict[str, Any] = {}
QUICKLY = edow.Retry(attempts=3, initial="10ms", jitter=False)


class Oops(Exception):
    """Made on purpose."""


@edow.task
async def add(a: int, b: int) -> int:
    return a + b


@edow.task(timeout=None, retry=1)
async def hang(name: str) -> None:
    EVENTS[f"{name} runs"].set()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        EVENTS[f"{name} cancelled"].set()
        raise


@edow.task(timeout=None, retry=1)
def hang_in_thread(name: str) -> None:
    EVENTS[f"{name} runs"].set()
    try:
        while not edow.context().cancelled.is_set():
            time.sleep(0.005)
    finally:  # it sees the flag, or is interrupted first
        EVENTS[f"{name} cancelled"].set()


@edow.task(retry=QUICKLY)
async def third_time_lucky(name: str) -> int:
    CALLS[name] += 1
    if CALLS[name] < 3:
        raise Oops(name)
    return CALLS[name]


@edow.task(retry=1)
async def fail(name: str) -> None:
    CALLS[name] += 1
    raise Oops(name)


@edow.task
async def note(name: str) -> None:
    CALLS[name] += 1


@edow.task(timeout="100ms", retry=1)
async def too_slow() -> None:
    await asyncio.Event().wait()


@edow.task(schedule_to_start="100ms", retry=1, topic="nobody")
async def never_started() -> None: ...


@edow.task(schedule_to_close="200ms", timeout=None, retry=edow.Retry(attempts=100, initial="10ms"))
async def never_done(name: str) -> None:
    raise Oops(name)


@edow.task(heartbeat="100ms", timeout=None, retry=edow.Retry(attempts=2, initial="10ms"))
async def beats_once(name: str) -> str | None:
    found = edow.context().heartbeat_details(str)
    if found is None:
        edow.context().heartbeat("half way")
        await asyncio.Event().wait()
    return found


@edow.workflow
async def one(a: int) -> int:
    return await add(a, 1)


@edow.workflow
async def waits_for(name: str, timeout: float | None = None) -> list[int]:
    first = await edow.wait_signal(name, int, timeout=timeout)
    return [first, await edow.wait_signal(name, int)]


@edow.workflow
async def collects(count: int) -> list[int]:
    return [await edow.wait_signal("n", int) for _ in range(count)]


@edow.workflow
async def counts(left: int, done: int = 0) -> int:
    """A new run after every signal."""
    if left == 0:
        return done
    await edow.wait_signal("n", int)
    return edow.continue_as_new(left - 1, done + 1)


@edow.workflow
async def sleeps(seconds: float) -> str:
    await edow.sleep(seconds)
    return "awake"


@edow.workflow
async def tries(name: str) -> int:
    return await third_time_lucky(name)


@edow.workflow
async def timeouts() -> list[str]:
    kinds: list[str] = []
    for call in (too_slow(), never_started(), never_done("x")):
        try:
            await call
        except edow.TaskFailed as problem:
            kinds.append(f"{type(problem).__name__}: {problem}")
    return kinds


@edow.workflow
async def beats(name: str) -> str | None:
    return await beats_once(name)


@edow.workflow
async def hangs(name: str, thread: bool = False) -> None:
    try:
        await (hang_in_thread(name) if thread else hang(name))
    finally:
        await note(f"{name} cleaned up")


@edow.workflow
async def parent(name: str, on_close: Any) -> int:
    child = asyncio.ensure_future(hangs.with_options(id=f"{name}-child", on_close=on_close)(f"{name}-child"))
    await edow.wait_signal("end", int)
    if child.done():
        await child
    return 1


@edow.workflow
async def waits_for_its_child(name: str) -> int:
    return await hangs.with_options(id=name)(name)


@edow.workflow
async def many_children(count: int) -> int:
    return sum(await asyncio.gather(*(one(n) for n in range(count))))


@edow.workflow
async def failing() -> None:
    raise Oops("on purpose")


@edow.workflow
async def with_failing_child() -> str:
    try:
        await failing()
    except edow.WorkflowFailed as problem:
        return str(problem)
    return ""


@edow.workflow
async def with_taken_child(taken: str) -> int:
    return await one.with_options(id=taken)(1)


@edow.workflow
async def fans_out(count: int) -> int:
    return sum(await asyncio.gather(*(add(n, 1) for n in range(count))))


@edow.workflow
async def structured(name: str) -> list[object]:
    async with asyncio.TaskGroup() as group:
        sums = [group.create_task(add(n, n)) for n in range(3)]
    found: list[object] = [task.result() for task in sums]
    try:
        async with asyncio.timeout(0.1):
            await hang(f"{name} a")
    except TimeoutError:
        found.append("timeout")
    try:
        await asyncio.wait_for(hang(f"{name} b"), 0.1)
    except TimeoutError:
        found.append("wait_for")
    return found


@edow.workflow
async def stable() -> list[str]:
    def values() -> list[str]:
        return [str(edow.uuid()), str(edow.random().random()), edow.now().isoformat()]

    def produced() -> str:
        CALLS["produced"] += 1
        return str(CALLS["produced"])

    before = [*values(), await edow.side_effect(produced)]
    SEEN["stable"] = before
    await edow.wait_signal("go", int)
    await add(1, 1)
    return before


@edow.workflow
async def shows() -> int:
    edow.attributes(customer="c1", tier=2)
    edow.progress({"done": 1})
    edow.attributes(tier=3)
    return await edow.wait_signal("go", int)


@edow.workflow
async def saga(name: str) -> None:
    async with edow.saga() as saga:
        saga.compensate(note, f"{name} first undone")
        saga.compensate(fail, f"{name} undoing fails")
        saga.compensate(note, f"{name} third undone")
        raise Oops("undo")


REGISTRY = registry_of(globals())


@pytest.fixture(params=MODES)
async def here(request: pytest.FixtureRequest, tmp_path: Any) -> AsyncIterator[Running]:
    """In each mode."""
    async with running(Setup(tmp_path, request.param), REGISTRY) as found:
        yield found


async def test_signals_are_kept_and_ordered(here: Running):
    """Signals sent before anybody waits, and while somebody waits, arrive once each, in order."""
    handle = await here.client.start(waits_for, "n")
    await handle.signal("n", 1)
    await handle.signal("n", 2)
    assert await handle.result(SECONDS) == [1, 2]


async def test_a_thousand_signals(here: Running):
    """A thousand signals to one execution are taken in the order in which they were sent."""
    handle = await here.client.start(collects, 1000)
    await asyncio.gather(*(handle.signal("n", n) for n in range(1000)))
    assert await handle.result(SECONDS) == list(range(1000))


async def test_continue_as_new_loses_no_signal(here: Running):
    """An execution that continues as new after every signal counts all that were sent meanwhile."""
    count = 100
    handle = await here.client.start(counts, count)
    for _ in range(count // 10):
        await asyncio.gather(*(handle.signal("n", n) for n in range(10)))
    assert await handle.result(SECONDS) == count


async def test_waiting_for_a_signal_times_out(here: Running):
    """wait_signal raises TimeoutError when its durable timer ends first."""
    handle = await here.client.start(waits_for, "n", 0.05)
    with pytest.raises(edow.WorkflowFailed, match="no signal 'n' came"):
        await handle.result(SECONDS)


async def test_sleeping_beyond_the_horizon(here: Running):
    """A timer further away than wake-ups are kept in memory comes near in time."""
    handle = await here.client.start(sleeps, 1.2)
    assert await handle.result(SECONDS) == "awake"


async def test_retries(here: Running):
    """A task that fails twice is tried a third time and its result is the step's."""
    handle = await here.client.start(tries, name := f"tries {here.number}")
    assert await handle.result(SECONDS) == 3
    kinds = [type(each) for each in await here.client.history(handle.id)]
    assert kinds.count(h.AttemptFailed) == 2
    assert CALLS[name] == 3


async def test_timeouts(here: Running):
    """Start-to-close, schedule-to-start and schedule-to-close each end a step with its own error."""
    slow, unstarted, undone = await (await here.client.start(timeouts)).result(SECONDS)
    assert slow.startswith("TaskTimedOut")
    assert "schedule-to-start" in unstarted
    assert "Oops" in undone or undone.startswith("TaskTimedOut")  # between two attempts, or in the middle of one


async def test_heartbeat_details_reach_the_next_attempt(here: Running):
    """What an attempt last reported before its heartbeat stopped is given to the next."""
    handle = await here.client.start(beats, "b")
    assert await handle.result(SECONDS) == "half way"


@pytest.mark.parametrize("thread", [False, True])
async def test_cancellation_reaches_the_task(here: Running, thread: bool):
    """A cancelled execution stops its running task, runs its finally steps durably, and ends as cancelled."""
    name = f"hang {here.number} {thread}"
    handle = await here.client.start(hangs, name, thread)
    await happened(EVENTS[f"{name} runs"])
    await handle.cancel("enough")
    with pytest.raises(edow.WorkflowCancelled, match="enough"):
        await handle.result(SECONDS)
    await happened(EVENTS[f"{name} cancelled"])
    assert CALLS[f"{name} cleaned up"] == 1


async def test_termination(here: Running):
    """A terminated execution stops its task and runs no cleanup."""
    handle = await here.client.start(hangs, name := f"terminated {here.number}")
    await happened(EVENTS[f"{name} runs"])
    await handle.terminate("now")
    with pytest.raises(edow.WorkflowTerminated, match="now"):
        await handle.result(SECONDS)
    await happened(EVENTS[f"{name} cancelled"])
    assert CALLS[f"{name} cleaned up"] == 0


@pytest.mark.parametrize(("on_close", "status"), [("cancel", "cancelled"), ("terminate", "terminated")])
@pytest.mark.parametrize("how", ["completes", "terminated", "replaced"])
async def test_children_follow_their_parent(here: Running, on_close: str, status: str, how: str):
    """A child whose parent ends, however it ends, is treated as its on_close says."""
    name = f"parent {here.number} {on_close} {how}"
    handle = await here.client.start(parent.with_options(id=name), name, on_close)
    await happened(EVENTS[f"{name}-child runs"])
    if how == "completes":
        await handle.signal("end", 1)
        assert await handle.result(SECONDS) == 1
    elif how == "terminated":
        await handle.terminate()
    else:
        await here.client.start(one.with_options(id=name, if_exists="replace"), 1)
    await has_status(here.client.get(f"{name}-child"), status)


async def test_an_abandoned_child_goes_on(here: Running):
    """A child with on_close="abandon" outlives its parent."""
    name = f"abandons {here.number}"
    handle = await here.client.start(parent, name, "abandon")
    await happened(EVENTS[f"{name}-child runs"])
    await handle.terminate()
    with pytest.raises(edow.WorkflowTerminated):
        await handle.result(SECONDS)
    child = here.client.get(f"{name}-child")
    assert (await child.describe()).status == "running"
    await child.cancel()
    await has_status(child, "cancelled")


async def test_a_child_that_is_replaced(here: Running):
    """Its parent learns that the child it has waited for is no more."""
    name = f"loses its child {here.number}"
    handle = await here.client.start(waits_for_its_child, f"{name}-child")
    await happened(EVENTS[f"{name}-child runs"])
    await here.client.start(one.with_options(id=f"{name}-child", if_exists="replace"), 1)
    with pytest.raises(edow.WorkflowFailed, match="replaced by a new run"):
        await handle.result(SECONDS)


async def test_two_hundred_children(here: Running):
    """A parent gathers the results of 200 children."""
    handle = await here.client.start(many_children, 200)
    assert await handle.result(SECONDS) == sum(range(1, 201))


async def test_a_child_that_fails(here: Running):
    """A child's failure is raised in its parent with the child's own message."""
    assert "on purpose" in await (await here.client.start(with_failing_child)).result(SECONDS)


async def test_a_child_whose_id_is_taken(here: Running):
    """A child id that belongs to another execution is a clear failure, not a hang."""
    other = await here.client.start(waits_for, "never")
    with pytest.raises(edow.WorkflowFailed, match="the id is taken"):
        await (await here.client.start(with_taken_child, other.id)).result(SECONDS)


async def test_five_hundred_tasks_at_once(here: Running):
    """A gather of 500 tasks joins."""
    assert await (await here.client.start(fans_out, 500)).result(SECONDS) == sum(range(1, 501))


async def test_structured_concurrency(here: Running):
    """TaskGroup, timeout and wait_for work around tasks, and stop those that nobody waits for."""
    handle = await here.client.start(structured, name := f"structured {here.number}")
    assert await handle.result(SECONDS) == [0, 2, 4, "timeout", "wait_for"]
    await happened(EVENTS[f"{name} a cancelled"])
    await happened(EVENTS[f"{name} b cancelled"])


async def test_values_are_stable(here: Running):
    """uuid, random, now and side effects answer the same in every replay."""
    handle = await here.client.start(stable)
    await handle.signal("go", 1)
    assert await handle.result(SECONDS) == SEEN["stable"]


async def test_attributes_and_progress(here: Running):
    """Attributes are merged and found by; progress is shown."""
    handle = await here.client.start(shows)
    page = ExecutionFilter(attributes={"customer": "c1", "tier": 3})

    async def shown() -> bool:
        return bool((await here.client.page(page)).executions)

    await until(shown)
    found = (await here.client.page(page)).executions
    assert [row.id for row in found] == [handle.id]
    assert bytes(found[0].progress or b"") == b'{"done":1}'
    assert (await here.client.page(ExecutionFilter(attributes={"tier": 2}))).executions == []


async def test_a_saga_with_a_failing_compensation(here: Running):
    """A compensation that fails becomes a dead letter, and the others still run."""
    handle = await here.client.start(saga, name := f"saga {here.number}")
    with pytest.raises(edow.WorkflowFailed, match="undo"):
        await handle.result(SECONDS)
    assert (CALLS[f"{name} first undone"], CALLS[f"{name} third undone"]) == (1, 1)
    where = DeadLetterFilter(execution=handle.id, state=None)
    assert [letter.task for letter in await here.client.dead_letters(where)] == ["fail"]
