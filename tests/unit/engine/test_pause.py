"""A paused execution: everything that comes is kept, nothing goes out, and it goes on from there."""

import asyncio

import msgspec
import pytest

import edow
from edow.model import history as h
from edow.model import inbox
from edow.model.execution import Status
from edow.model.failure import PAUSED
from tests.unit.engine.driving import Drive, failed, outcome, raw, result, steps


@edow.task(retry=edow.Retry(attempts=2, initial="1s", jitter=False))
async def charge(x: int) -> int:
    return x


@edow.task(retry=1, exhausted="park")
async def ship(x: int) -> int:
    return x


@edow.task(retry=2, schedule_to_start="10s")
async def prompt(x: int) -> int:
    return x


@edow.workflow
async def child(x: int) -> int:
    return x


@edow.workflow
async def flow(x: int) -> int:
    paid = await charge(x)
    await asyncio.sleep(5)
    said = await edow.wait_signal("s", int)
    return paid + said + await charge(paid)


def kinds(decision):
    return [type(event).__name__ for event in decision.events]


def paused(workflow, *args):
    """Started, then paused."""
    drive = Drive(workflow, *args)
    drive.start()
    decision = drive.apply(inbox.Pause(reason="looking into it"))
    assert (decision.status, decision.wake_at, kinds(decision)) == (Status.PARKED, None, ["Parked"])
    return drive


def crashed(drive):
    drive.restart()


def alive(drive):
    """It stays in memory."""


@pytest.fixture(params=[crashed, alive])
def between(request):
    """What happens between two inputs: what a machine in memory does, one rebuilt from history does too."""
    return request.param


def test_a_pause_says_why():
    """The row's failure is the marker: its type, and the reason given."""
    drive = paused(flow, 1)
    [event] = [each for each in drive.events if isinstance(each, h.Parked)]
    assert (event.failure.type, event.failure.message, event.failure.kind) == (PAUSED, "looking into it", "paused")


def test_nothing_goes_out_and_nothing_is_lost(between):
    """A result and signals that come meanwhile are recorded; what follows from them happens on resume."""
    drive = paused(flow, 1)
    between(drive)
    decision = drive.complete("charge", 10)
    assert (kinds(decision), steps(decision), decision.wake_at) == (["TaskCompleted"], [], None)
    between(drive)
    assert kinds(drive.apply(inbox.Signal(name="s", payload=raw(5)))) == ["SignalReceived"]
    between(drive)
    decision = drive.apply(inbox.Resume())
    assert (kinds(decision), decision.status) == (["Resumed", "TimerStarted"], Status.RUNNING)
    between(drive)
    decision = drive.wait(5)
    assert steps(decision) == ["charge#2"]
    assert outcome(drive.complete("charge#2", 100)) == 115


def test_timers_do_not_fire_while_paused(between):
    """One that was due meanwhile fires on resume."""
    drive = Drive(flow, 1)
    drive.start()
    drive.complete("charge", 10)
    drive.apply(inbox.Pause())
    between(drive)
    assert drive.wait(60).events == []
    between(drive)
    assert kinds(drive.apply(inbox.Resume())) == ["Resumed", "TimerFired"]


def test_a_cancel_takes_effect_on_resume(between):
    """It is kept like everything else."""
    drive = paused(flow, 1)
    assert drive.apply(inbox.Cancel(reason="enough")).status is Status.PARKED
    between(drive)
    decision = drive.apply(inbox.Resume())
    assert (decision.status, decision.cancels) == (Status.CANCELLED, ["charge"])


def test_a_pause_and_a_resume_in_one_batch_change_nothing(between):
    """With what came between them."""
    drive = Drive(flow, 1)
    drive.start()
    done = result(drive.out["charge"], 10)
    decision = drive.apply(inbox.Pause(), done, inbox.Pause(), inbox.Resume(), inbox.Resume())
    assert kinds(decision) == ["Parked", "TaskCompleted", "Resumed", "TimerStarted"]
    assert (decision.status, decision.duplicates) == (Status.RUNNING, 2)
    between(drive)
    assert drive.apply(inbox.Signal(name="s", payload=raw(5))).status is Status.RUNNING
    assert steps(drive.wait(5)) == ["charge#2"]


def test_a_failure_while_paused_follows_the_policy(between):
    """The code can be asked: what has attempts left is tried again after the resume, what has none fails."""
    drive = paused(flow, 1)
    between(drive)
    assert kinds(drive.fail("charge")) == ["AttemptFailed"]
    between(drive)
    assert kinds(drive.apply(inbox.Resume(), after=10)) == ["Resumed", "TaskRetried"]
    drive.apply(inbox.Pause())
    between(drive)
    decision = drive.fail("charge")
    assert (kinds(decision), [letter.parked for letter in decision.letters]) == (["TaskFailed"], [False])
    assert drive.apply(failed(drive.out["charge"])).duplicates == 1
    between(drive)
    assert drive.apply(inbox.Resume()).status is Status.FAILED


def test_a_dead_letter_while_paused_can_be_redriven(between):
    """Its step goes out on resume."""

    @edow.workflow(name="shipping")
    async def shipping(x: int) -> int:
        return await ship(x)

    drive = paused(shipping, 1)
    between(drive)
    assert [letter.parked for letter in drive.fail("ship").letters] == [True]
    between(drive)
    decision = drive.apply(inbox.Redrive(run=1, step="ship"))
    assert ([each.step for each in decision.letters_closed], steps(decision)) == (["ship"], [])
    between(drive)
    assert [(d.step, d.attempt) for d in drive.apply(inbox.Resume()).dispatches] == [("ship", 2)]


def test_after_a_resume_it_still_waits_for_its_dead_letter(between):
    """What it had been parked for is told again."""

    @edow.workflow(name="shipping")
    async def shipping(x: int) -> int:
        return await ship(x)

    drive = Drive(shipping, 1)
    drive.start()
    drive.fail("ship", "no van")
    drive.apply(inbox.Pause())
    between(drive)
    decision = drive.apply(inbox.Resume())
    waits_for = drive.machine.waits_for()
    assert waits_for is not None
    assert (decision.status, waits_for.message, waits_for.step) == (Status.PARKED, "no van", "ship")


def test_a_worker_that_began_while_paused_is_not_given_up(between):
    """Schedule-to-start is over when the attempt has been started."""

    @edow.workflow(name="promptly")
    async def promptly(x: int) -> int:
        return await prompt(x)

    drive = paused(promptly, 1)
    between(drive)
    event = result(drive.out["prompt"])
    began = msgspec.structs.replace(event, outcome="started")
    assert kinds(drive.apply(began, began)) == ["TaskStarted"]
    between(drive)
    assert kinds(drive.apply(inbox.Resume(), after=60)) == ["Resumed"]


def test_a_child_that_was_never_started_is_not_cancelled(between):
    """Terminated while paused, it leaves alone what it would have begun next: the id may be somebody else's."""

    @edow.workflow(name="parent")
    async def parent(x: int) -> int:
        await charge(x)
        return await child.with_options(id="somebody-else")(x)

    drive = paused(parent, 1)
    drive.complete("charge", 1)
    between(drive)
    decision = drive.apply(inbox.Terminate())
    assert (decision.status, decision.child_cancels, decision.children) == (Status.TERMINATED, [], [])


def test_an_execution_that_ends_on_resume(between):
    """Its last result came while it was paused."""
    drive = paused(child_of_one, 1)
    between(drive)
    assert drive.complete("charge", 7).status is Status.PARKED
    between(drive)
    assert drive.apply(inbox.Signal(name="late", payload=raw(1))).status is Status.PARKED
    between(drive)
    assert outcome(drive.apply(inbox.Resume())) == 7


@edow.workflow
async def child_of_one(x: int) -> int:
    return await charge(x)
