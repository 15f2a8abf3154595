"""Compensations run to their end, whatever else happens to the workflow."""

import asyncio

import pytest

import edow
from edow.model import inbox
from edow.model.execution import Status
from edow.model.failure import Failure
from tests.unit.engine.driving import Drive, outcome, steps

FINAL = Failure(type="RuntimeError", message="no", retryable=False)


@edow.task
async def book(what: str) -> str:
    return what


@edow.task
async def undo(what: str) -> None: ...


@edow.workflow
async def undo_all(count: int) -> None: ...


@edow.workflow
async def trip() -> None:
    async def flight() -> None:
        async with edow.saga() as saga:
            saga.compensate(undo, "seat")
            saga.compensate(undo, "meal")
            await book("flight")

    async def hotel() -> None:
        await book("hotel")

    await asyncio.gather(flight(), hotel())


def test_the_end_of_the_workflows_own_task_does_not_cut_compensations_off():
    """The second to fail ends the workflow while the first still undoes what it had done."""
    drive = Drive(trip)
    drive.start()
    assert steps(drive.fail("flight~1/book", FINAL)) == ["flight~1/compensate:undo"]
    decision = drive.fail("hotel~1/book", FINAL)
    assert (decision.status, decision.cancels) == (Status.RUNNING, [])
    drive.restart()
    assert steps(drive.complete("flight~1/compensate:undo")) == ["flight~1/compensate:undo#2"]
    decision = drive.complete("flight~1/compensate:undo#2")
    assert outcome(decision).failure.message.startswith("task book: RuntimeError: no")


def test_a_workflow_that_compensates_after_its_own_task_can_be_terminated():
    drive = Drive(trip)
    drive.start()
    drive.fail("flight~1/book", FINAL)
    drive.fail("hotel~1/book", FINAL)
    decision = drive.apply(inbox.Terminate())
    assert (decision.status, decision.cancels) == (Status.TERMINATED, ["flight~1/compensate:undo"])


def test_one_compensation_that_cannot_be_called_keeps_none_of_the_others_from_running():
    """What began it all is still what the workflow fails with."""

    @edow.workflow
    async def flow() -> None:
        async with edow.saga() as saga:
            saga.compensate(undo, "first")
            saga.compensate(undo.with_options(step="undo-it"), "second")
            saga.compensate(undo.with_options(step="undo-it"), "third")
            raise ValueError("boom")

    drive = Drive(flow)
    assert [bytes(d.args) for d in drive.start().dispatches] == [b'{"what":"third"}']
    drive.restart()
    assert [bytes(d.args) for d in drive.complete("undo-it").dispatches] == [b'{"what":"first"}']
    failure = outcome(drive.complete("compensate:undo")).failure
    assert failure.message == "boom"
    assert "compensation undo failed: step 'undo-it' was used before" in failure.stack


def test_a_compensation_that_ends_as_cancelled_is_one_that_has_failed():
    async def gives_up() -> None:
        raise asyncio.CancelledError

    @edow.workflow
    async def flow() -> None:
        async with edow.saga() as saga:
            saga.compensate(undo, "first")
            saga.compensate(gives_up)
            raise ValueError("boom")

    drive = Drive(flow)
    assert steps(drive.start()) == ["compensate:undo"]
    failure = outcome(drive.complete("compensate:undo")).failure
    assert failure.message == "boom"
    assert "gives_up was cancelled" in failure.stack


async def local(number: int) -> None: ...


@pytest.mark.parametrize(("action", "argument"), [(undo_all, "two"), (local, None)])
def test_arguments_of_any_compensation_are_checked_where_it_is_registered(action, argument):
    """Not when something has already gone wrong: before `book` is done."""

    @edow.workflow
    async def flow() -> None:
        async with edow.saga() as saga:
            saga.compensate(action, *([argument] if argument else []))
            await book("flight")

    drive = Drive(flow)
    assert steps(drive.start()) == []
    assert drive.decision.status is Status.FAILED
