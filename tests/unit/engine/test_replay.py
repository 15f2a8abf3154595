"""Recovery: history and today's code, where they agree and where they do not."""

import asyncio
import logging

import pytest

import edow
from edow.cli.logs import about, is_new
from edow.engine.limits import Limits
from edow.model import history as h
from edow.model import inbox
from edow.model.execution import Status
from tests.unit.engine.driving import Drive, failed, outcome, raw, result, steps


@edow.task
async def charge(x: int) -> int:
    return x


@edow.task
async def charge2(x: int) -> int:
    return x


@edow.task
async def pack(x: int) -> int:
    return x


@edow.task(exhausted="park", retry=1)
async def ship(x: int) -> int:
    return x


async def recorded(x: int) -> int:
    return await charge(x) + await pack(x)


flow = edow.workflow(name="flow")(recorded)


def other(fn):
    """Another version of the workflow's code."""
    return edow.workflow(name="flow")(fn)


def in_the_middle(workflow=flow):
    """`charge` is done, `pack` is out."""
    drive = Drive(workflow, 1)
    drive.start()
    drive.complete("charge", 10)
    return drive


def test_a_rebuilt_machine_goes_on_where_it_was():
    """Nothing is done twice; open attempts are known."""
    drive = in_the_middle()
    drive.restart()
    decision = drive.complete("pack", 1)
    assert [type(e).__name__ for e in decision.events] == ["TaskCompleted", "Completed"]
    assert outcome(decision) == 11


def test_a_start_command_that_comes_again_changes_nothing():
    """The execution has begun."""
    drive = in_the_middle()
    assert drive.start().events == []


def test_code_that_adds_a_branch_still_fits():
    """What history lacks becomes live; what it has is not repeated."""

    @other
    async def flow_with_branch(x: int) -> int:
        async with asyncio.TaskGroup() as group:
            extra = group.create_task(charge2(x))
            first = await charge(x)
        return first + await pack(x) + extra.result()

    drive = Drive(flow, 1)
    drive.start()
    drive.restart(flow_with_branch)
    decision = drive.complete("charge", 5)
    assert steps(decision) == ["charge2"]
    drive.restart(flow_with_branch)
    assert steps(drive.complete("charge2", 7)) == ["pack"]
    assert outcome(drive.complete("pack", 1)) == 13


def renamed(step, task):
    return f"history recorded step '{step}' (task {step}) here; the code asked for step '{task}' (task {task}) instead"


def test_a_renamed_task_is_caught_and_parks_the_execution():
    """The error names the step, what was recorded and what the code asked for; nothing is lost."""

    @other
    async def flow_renamed(x: int) -> int:
        return await charge2(x) + await pack(x)

    drive = in_the_middle()
    drive.restart(flow_renamed)
    decision = drive.complete("pack", 1)

    assert decision.status is Status.PARKED
    assert decision.wake_at is None
    parked, completed = decision.events
    assert renamed("charge", "charge2") in parked.failure.message
    assert isinstance(completed, h.TaskCompleted)
    assert not decision.dispatches


def test_a_parked_execution_takes_everything_in_and_goes_on_when_resumed():
    """Signals, results and a cancel that came meanwhile are delivered in their order."""

    @other
    async def flow_renamed(x: int) -> int:
        return await charge2(x)

    drive = in_the_middle()
    drive.restart(flow_renamed)
    drive.apply(inbox.Signal(name="s", payload=raw(1)))
    drive.restart(flow_renamed)
    again = drive.apply(inbox.Resume())
    assert [type(e).__name__ for e in again.events] == ["Parked"]
    assert drive.complete("pack", 1).status is Status.PARKED
    assert drive.apply(result(drive.machine.replay(flow, drive.execution, []) and _pack())).duplicates == 1

    drive.restart(flow)
    decision = drive.apply(inbox.Resume())
    assert [type(e).__name__ for e in decision.events] == ["Resumed", "Completed"]
    assert outcome(decision) == 11


def _pack():
    drive = in_the_middle()
    return drive.out["pack"]


def test_a_failure_that_reaches_a_parked_execution_costs_one_attempt_more():
    """Its policy is in the code that does not fit, so it is tried again after the resume."""

    @other
    async def flow_renamed(x: int) -> int:
        return await charge2(x)

    drive = in_the_middle()
    drive.restart(flow_renamed)
    pending = drive.out["pack"]
    decision = drive.apply(failed(pending), failed(pending))
    assert [type(e).__name__ for e in decision.events] == ["Parked", "AttemptFailed"]
    assert decision.duplicates == 1
    drive.restart(flow)
    decision = drive.apply(inbox.Resume())
    assert [(d.step, d.attempt) for d in decision.dispatches] == [("pack", 2)]


def test_a_dead_letter_can_be_redriven_while_the_execution_is_parked():
    """It goes out when the execution is resumed."""

    @other
    async def shipping(x: int) -> int:
        return await ship(x)

    @other
    async def wrong(x: int) -> int:
        return await charge2(x)

    drive = Drive(shipping, 1)
    drive.start()
    drive.fail("ship")
    drive.restart(wrong)
    decision = drive.apply(inbox.Redrive(run=1, step="ship", args=raw({"x": 2})))
    assert [x.step for x in decision.letters_closed] == ["ship"]
    drive.restart(shipping)
    decision = drive.apply(inbox.Resume())
    assert [(d.step, d.attempt, bytes(d.args)) for d in decision.dispatches] == [("ship", 2, b'{"x":2}')]


def test_a_late_result_closes_the_dead_letter_of_a_parked_execution():
    """An attempt that had been given up succeeds after all: nobody has to act on its letter any more."""

    @other
    async def shipping(x: int) -> int:
        return await ship(x)

    @other
    async def wrong(x: int) -> int:
        return await charge2(x)

    drive = Drive(shipping, 1)
    drive.start()
    drive.fail("ship")
    drive.restart(wrong)
    decision = drive.complete("ship", 5)
    assert [(x.step, x.discarded) for x in decision.letters_closed] == [("ship", False)]
    drive.restart(shipping)
    assert outcome(drive.apply(inbox.Resume())) == 5


def test_a_parked_execution_can_be_terminated():
    """Workers are told though the code cannot be asked."""

    @other
    async def wrong(x: int) -> int:
        return await charge2(x)

    drive = in_the_middle()
    drive.restart(wrong)
    decision = drive.apply(inbox.Terminate(reason="give up"))
    assert decision.status is Status.TERMINATED
    assert decision.cancels == ["pack"]


def test_the_same_key_for_another_kind_of_step_is_a_disagreement():
    """A task where history has a timer."""

    @other
    async def timed(x: int) -> int:
        await edow.sleep("1h", step="pause")
        return x

    @other
    async def tasked(x: int) -> int:
        return await charge.with_options(step="pause")(x)

    drive = Drive(timed, 1)
    drive.start()
    drive.restart(tasked)
    message = drive.start().events[0].failure.message
    assert "history recorded step 'pause' (a timer)" in message
    assert "the code asked for step 'pause' (task charge) instead" in message


def test_a_side_effect_that_is_something_else_now_is_a_disagreement():
    """And its function is not run."""

    @other
    async def before(x: int) -> int:
        return await charge.with_options(step="value")(x)

    @other
    async def after(x: int) -> int:
        return await edow.side_effect(lambda: pytest.fail("it ran"), step="value")

    drive = Drive(before, 1)
    drive.start()
    drive.restart(after)
    assert "(a side effect)" in drive.start().events[0].failure.message


def test_code_that_no_longer_cancels_is_a_disagreement():
    """It would wait for a step that nobody works on any more."""

    @other
    async def impatient(x: int) -> int:
        try:
            async with asyncio.timeout(10):
                await charge(x)
        except TimeoutError:
            await pack(x)
        return x

    @other
    async def patient(x: int) -> int:
        async with asyncio.timeout(10):
            try:
                return await charge(x)
            except asyncio.CancelledError:
                return await asyncio.shield(pack(x))

    @other
    async def deaf(x: int) -> int:
        timer = asyncio.create_task(edow.sleep(10))
        call = asyncio.create_task(charge(x))
        await asyncio.wait([timer])
        return await call + await pack(x)

    drive = Drive(impatient, 1)
    drive.start()
    drive.wait(11)
    assert drive.events[-1].step == "pack"
    machine = drive.rebuilt(deaf)
    assert machine.disagreement is not None
    assert drive.rebuilt(impatient).disagreement is None
    assert drive.rebuilt(patient).disagreement is None


def test_other_arguments_and_other_durations_are_not_a_disagreement():
    """What was recorded holds."""

    @other
    async def before(x: int) -> int:
        await asyncio.sleep(10)
        return await charge(x)

    @other
    async def after(x: int) -> int:
        await asyncio.sleep(10_000)
        return await charge(x + 1)

    drive = Drive(before, 1)
    drive.start()
    drive.restart(after)
    assert bytes(drive.wait(11).dispatches[0].args) == b'{"x":2}'
    drive.restart(before)
    assert drive.complete("charge", 3).status is Status.COMPLETED


def test_more_progress_than_recorded_is_no_disagreement():
    """It only informs."""

    @other
    async def chatty(x: int) -> int:
        edow.progress(1)
        edow.attributes(a=1)
        return await recorded(x)

    drive = in_the_middle()
    drive.restart(chatty)
    decision = drive.complete("pack", 1)
    assert (decision.progress_changed, decision.attributes_changed) == (True, True)
    drive = in_the_middle(chatty)
    assert drive.rebuilt(flow).disagreement is None


def test_a_whole_history_can_be_checked_against_other_code():
    """Also how it ended."""

    @other
    async def longer(x: int) -> int:
        return await recorded(x) + await charge2(x)

    @other
    async def failing(x: int) -> int:
        await recorded(x)
        raise ValueError

    drive = in_the_middle()
    drive.complete("pack", 1)
    assert drive.rebuilt(flow).disagreement is None
    assert drive.rebuilt(flow).ended
    assert "that the workflow ended here (Completed)" in drive.rebuilt(longer).disagreement.message
    assert "(Failed)" in drive.rebuilt(failing).disagreement.message


def test_an_unknown_workflow_parks_and_names_it():
    """Until a program that has it resumes it."""
    drive = Drive(None)
    decision = drive.start()
    assert decision.status is Status.PARKED
    assert "no workflow 'nobody'" in decision.events[0].failure.message


def test_a_higher_limit_lets_a_run_go_on():
    """Resume after raising it."""

    @other
    async def chain(x: int) -> int:
        for _ in range(10):
            x = await charge(x)
        return x

    drive = Drive(chain, 1, limits=Limits(history_events=6))
    decision = drive.start()
    while decision.status is Status.RUNNING:
        decision = drive.complete(decision.dispatches[0].step, 1)
    drive.limits = Limits()
    drive.restart()
    assert drive.apply(inbox.Resume()).status is Status.RUNNING
    assert drive.run(lambda dispatch: 1).status is Status.COMPLETED


def test_explicit_steps_are_unique():
    """Used twice, or taken by a numbered one: a clear error."""

    @other
    async def twice(x: int) -> int:
        named = charge.with_options(step="pay")
        await named(x)
        return await named(x)

    @other
    async def taken(x: int) -> int:
        await charge(x)
        return await pack.with_options(step="charge")(x)

    for workflow, step in ((twice, "pay"), (taken, "charge")):
        drive = Drive(workflow, 1)
        drive.start()
        assert "has to be unique" in outcome(drive.complete(step, 1)).failure.message


def test_step_keys_count_within_their_own_task():
    """Never by global position."""

    @edow.workflow
    async def tree() -> None:
        async def leg(x: int) -> None:
            await asyncio.gather(charge(x), charge(x))
            await asyncio.create_task(leaf(x))

        async def leaf(x: int) -> None:
            await pack(x)

        await charge(0)
        await asyncio.gather(leg(1), leg(2), charge(3))

    drive = Drive(tree)
    assert steps(drive.start()) == ["charge"]
    assert steps(drive.complete("charge", 1)) == [
        "charge#2", "leg~1/charge", "leg~1/charge#2", "leg~2/charge", "leg~2/charge#2",
    ]  # fmt: skip
    decision = drive.apply(*(result(d, 1) for d in drive.out.values()))
    assert steps(decision) == ["leg~1/leaf~1/pack", "leg~2/leaf~1/pack"]


@edow.workflow
async def talkative(x: int) -> int:
    """Says what it does, the last words included."""
    try:
        logging.getLogger("shop").warning("charging %s", x)
        x = await charge(x)
        logging.getLogger("shop").warning("charged %s", x)
        return await pack(x)
    finally:
        logging.getLogger("shop").warning("leaving")


def test_what_a_workflow_says_is_told_once_and_with_its_ids():
    """Not again in a replay, nor what its leaving memory makes it say."""
    lines: list[tuple[str, object]] = []
    handler = logging.Handler()
    handler.addFilter(is_new)
    handler.emit = lambda record: lines.append((record.getMessage(), about(record)["execution_id"]))
    logger = logging.getLogger("shop")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        drive = Drive(talkative, 1)
        drive.start()
        drive.restart()
        drive.complete("charge", 10)
        drive.restart()
        drive.restart()
        drive.complete("pack", 11)
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
    assert lines == [("charging 1", "x"), ("charged 10", "x"), ("leaving", "x")]
