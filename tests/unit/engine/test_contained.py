"""What one execution's code does stays its own: it neither stops nor holds up the thread that all of them share."""

import asyncio
import sys

import pytest

import edow
from edow.engine.limits import Limits
from edow.engine.loop import REFUSALS
from edow.model import history as h
from edow.model import inbox
from edow.model.execution import Status
from edow.workflow.duration import LONGEST
from tests.unit.engine.driving import Drive, outcome


@edow.task
async def poll() -> int:
    return 1


def test_a_callback_that_asks_a_cancelled_task_for_its_result_is_told_and_goes_no_further():
    """CancelledError out of a callback would end whoever runs the loop, as if he had been cancelled himself."""

    @edow.workflow
    async def flow() -> str:
        task = asyncio.create_task(poll())
        task.add_done_callback(lambda done: done.result())
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.sleep(1)
        return "went on"

    drive = Drive(flow)
    drive.start()
    assert drive.wait(1).notices == ["a callback failed: CancelledError: "]
    drive.restart()
    assert outcome(drive.wait(1)) == "went on"


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_whatever_a_workflow_raises_ends_it_alone(kind):
    """Also what asyncio hands on to whoever runs the loop."""

    @edow.workflow
    async def flow() -> None:
        raise kind

    assert Drive(flow).start().status in (Status.FAILED, Status.CANCELLED)


async def by_task() -> None:
    await poll()


async def by_durable_sleep() -> None:
    await edow.sleep(5)


async def by_sleep() -> None:
    await asyncio.sleep(5)


async def by_signal() -> None:
    await edow.wait_signal("go", bool)


async def by_side_effect() -> None:
    await edow.side_effect(int)
    await poll()


async def by_sub_task() -> None:
    await asyncio.create_task(poll())


async def by_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(poll())


WAYS = [by_task, by_durable_sleep, by_sleep, by_signal, by_side_effect, by_sub_task, by_group]


@pytest.mark.parametrize("way", WAYS)
def test_code_that_catches_everything_and_tries_again_can_be_terminated(way, monkeypatch):
    """`except BaseException: continue` catches also what tells code that it is to go: it would go round for ever."""
    monkeypatch.setattr(sys, "unraisablehook", lambda args: pytest.fail(f"{args.exc_value!r}"))
    tries = []

    @edow.workflow
    async def flow() -> None:
        while True:
            try:
                await way()
            except BaseException:
                tries.append(1)

    drive = Drive(flow)
    drive.start()
    assert drive.apply(inbox.Terminate()).status is Status.TERMINATED
    assert len(tries) > REFUSALS
    del drive


def test_a_timer_takes_at_least_a_microsecond():
    """Or a loop over shorter ones would never let time go on."""

    @edow.workflow
    async def flow() -> None:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(1e-7)

    decision = Drive(flow).start()
    assert decision.status is Status.RUNNING
    assert len(decision.events) < 10


def test_what_falls_due_at_once_again_and_again_stops_at_the_limit():
    """Nobody begins a step within no time at all, and it is tried again at once."""

    @edow.task(retry=edow.Retry(attempts=10**9, initial=0), schedule_to_start=0)
    async def never() -> None: ...

    @edow.workflow
    async def flow() -> None:
        await never()

    drive = Drive(flow, limits=Limits(history_events=50))
    decision = drive.start()
    assert decision.status is Status.PARKED
    assert isinstance(decision.events[-1], h.Parked)
    assert decision.events[-1].failure.type == "edow.HistoryLimit"


@pytest.mark.parametrize("seconds", [LONGEST + 1, 1e13, 1e300])
def test_a_timer_that_no_store_could_hold_is_refused(seconds):
    """It says what to do instead, where it is written."""

    @edow.workflow
    async def by_asyncio() -> None:
        await asyncio.sleep(seconds)

    @edow.workflow
    async def by_edow() -> None:
        await edow.sleep(seconds)

    for flow in (by_asyncio, by_edow):
        failure = outcome(Drive(flow).start()).failure
        assert failure.type == "edow.errors.InvalidInput"
        assert "year" in failure.message


def test_for_ever_is_no_duration():
    """`asyncio.sleep(inf)` waits for ever elsewhere."""

    @edow.workflow
    async def flow() -> None:
        await asyncio.sleep(float("inf"))

    assert "wait for a signal instead" in outcome(Drive(flow).start()).failure.message


@pytest.mark.parametrize(
    ("execution", "name", "said"),
    [
        (12, "go", "execution id must be a string, not int (12)"),
        ("a\0b", "go", "contains control characters"),
        ("a\ud800", "go", "contains control characters"),
        ("other", 7, "the name of a signal is a text, not 7"),
    ],
)
def test_a_signal_to_what_can_be_no_execution_is_refused(execution, name, said):
    """Not by the store, which would refuse whatever is decided together with it."""

    @edow.workflow
    async def flow() -> None:
        edow.signal(execution, name)

    assert said in outcome(Drive(flow).start()).failure.message


def test_a_partition_key_is_a_text():
    """A number would be stored, and could be read neither by a worker nor by the next orchestrator."""

    @edow.task(key=lambda account: account)
    async def post(account: int | str | None) -> None: ...

    @edow.workflow
    async def flow(account: int | str | None) -> None:
        await post(account)

    failure = outcome(Drive(flow, 7).start()).failure
    assert failure.message == "task post: its key is 7, of type int: give a text, or None"
    with pytest.raises(edow.InvalidInput, match="lone surrogates"):
        post.partition_key("\ud800")
    assert [dispatch.key for dispatch in Drive(flow, "ä").start().dispatches] == ["ä"]
    assert [dispatch.key for dispatch in Drive(flow, None).start().dispatches] == [None]
