"""What a step is called, and what is remembered of it: once in a run, and alike in every replay."""

import asyncio

import pytest

import edow
from edow.model import inbox
from edow.model.execution import Status
from tests.unit.engine.driving import Drive, failed, outcome, raw, steps


@edow.task
async def charge(amount: int) -> int:
    return amount


@edow.task(retry=1, exhausted="park")
async def ship(order: str) -> str:
    return order


def test_a_name_that_somebody_has_given_is_not_given_by_itself():
    """Two charges under one idempotency key are one charge to whoever looks at the key."""

    @edow.workflow
    async def flow() -> list[int]:
        first = await charge.with_options(step="charge")(1)
        return [first, await charge(2)]

    drive = Drive(flow)
    drive.start()
    failure = outcome(drive.complete("charge", 1)).failure
    assert failure.type == "edow.errors.InvalidInput"
    assert "step 'charge' was used before in this run, by an explicit step=" in failure.message

    @edow.workflow
    async def timers() -> None:
        await edow.sleep(1, step="timer")
        await asyncio.sleep(1)

    drive = Drive(timers)
    drive.start()
    assert "step 'timer' was used before" in outcome(drive.wait(1)).failure.message


def test_a_timeout_of_nothing_leaves_its_name_to_nobody():
    @edow.workflow
    async def flow() -> None:
        try:
            await edow.wait_signal("go", bool, timeout=0, step="poll")
        except TimeoutError:
            await asyncio.sleep(1)

    assert [event.step for event in Drive(flow).start().events] == ["timer"]


def test_signals_whose_names_hold_the_sign_that_counts_steps():
    """The second `a` is `signal:a#2`."""

    @edow.workflow
    async def flow() -> None:
        for name in ("a", "a", "a#2", "a#", "a#"):
            edow.signal("other", name)
        await charge(1)

    drive = Drive(flow)
    assert len({event.step for event in drive.start().signals}) == 5
    drive.restart()
    assert drive.machine.disagreement is None


class Told(Exception):
    def __init__(self, what: str) -> None:
        super().__init__(what)


@pytest.mark.parametrize("error", [KeyError("flag"), Told("flag"), TypeError()])
def test_what_a_side_effect_raises_is_remembered(error):
    """A replay does not try again, and gets the same."""
    tries = []

    def flag() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise error
        return "set"

    @edow.workflow
    async def flow() -> list[object]:
        try:
            found: object = await edow.side_effect(flag)
        except type(error) as problem:
            found = str(problem)
        return [found, await charge(1)]

    drive = Drive(flow)
    drive.start()
    drive.restart()
    assert outcome(drive.complete("charge", 1)) == [str(error), 1]
    assert len(tries) == 1


def test_a_side_effect_without_json_form_fails_the_same_in_a_replay():
    @edow.workflow
    async def flow() -> int:
        try:
            await edow.side_effect(object)
        except edow.NotEncodable:
            return await charge(1)
        return 0

    drive = Drive(flow)
    assert steps(drive.start()) == ["charge"]
    drive.restart()
    assert outcome(drive.complete("charge", 1)) == 1


def test_a_pause_behind_a_continue_as_new_is_the_next_runs():
    """It names no run, and was accepted."""

    @edow.workflow
    async def flow() -> None:
        await edow.wait_signal("next", bool)
        edow.continue_as_new()

    drive = Drive(flow)
    drive.start()
    drive.apply(inbox.Signal(name="next", payload=raw(True)), inbox.Pause(reason="look"))
    assert drive.machine.late == [inbox.Pause(reason="look")]


def test_what_was_redriven_in_an_earlier_pause_is_published_once():
    """Nor by a later resume, after a restart in between."""

    @edow.workflow
    async def flow() -> None:
        await ship("a")

    drive = Drive(flow)
    drive.start()
    drive.apply(failed(drive.out["ship"]))
    drive.apply(inbox.Pause())
    drive.apply(inbox.Redrive(run=1, step="ship"))
    assert steps(drive.apply(inbox.Resume())) == ["ship"]
    drive.restart()
    drive.apply(inbox.Pause())
    decision = drive.apply(inbox.Resume())
    assert (steps(decision), decision.status) == ([], Status.RUNNING)
