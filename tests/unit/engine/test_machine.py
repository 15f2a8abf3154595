"""What a run does with inputs: steps, attempts, timers, signals, children, ends."""

import asyncio
import gc
import weakref

import msgspec
import pytest

import edow
from edow.engine.decision import Tick
from edow.engine.limits import Limits
from edow.engine.machine import Machine
from edow.model import history as h
from edow.model import inbox
from edow.model.execution import Status
from edow.model.failure import Failure
from edow.workflow.failures import failure_of
from tests.unit.engine.driving import SECOND, START, Drive, failed, outcome, raw, result, steps


class Refused(Exception):
    pass


class Broke(Refused):
    pass


@edow.task(retry=edow.Retry(attempts=3, initial="1s", jitter=False, give_up_on=Refused))
async def charge(amount: int) -> int:
    return amount


@edow.task(retry=1, exhausted="park")
async def ship(order: str) -> str:
    return order


@edow.task(retry=2, schedule_to_start="10s", schedule_to_close="60s")
async def slow() -> None: ...


@edow.task
async def refund(amount: int) -> None: ...


@edow.workflow
async def one(amount: int) -> int:
    return await charge(amount)


@edow.workflow
async def parked(order: str) -> str:
    try:
        return await ship(order)
    except edow.TaskDiscarded as error:
        return f"discarded: {error}"


@edow.workflow
async def slowly() -> str:
    try:
        await slow()
    except TimeoutError as error:
        return str(error)
    return "done"


def types(drive):
    return [type(event).__name__ for event in drive.events]


def test_a_step_is_scheduled_answered_and_the_run_completes():
    """Start, one task, result: the history tells it in true order."""
    drive = Drive(one, 5)

    decision = drive.start()
    assert [(d.step, d.task, d.attempt, bytes(d.args)) for d in decision.dispatches] == [
        ("charge", "charge", 1, b'{"amount":5}')
    ]
    decision = drive.complete("charge", 7)

    assert outcome(decision) == 7
    assert decision.status is Status.COMPLETED
    assert types(drive) == ["Started", "TaskScheduled", "TaskCompleted", "Completed"]


def test_a_failed_attempt_is_retried_when_its_time_has_come():
    """The retry is a durable timer; attempt numbers go up; the wait doubles."""
    drive = Drive(one, 5)
    drive.start()

    decision = drive.fail("charge")
    assert not decision.dispatches
    assert decision.wake_at == drive.now + 1 * SECOND
    assert not drive.wait(0.9).dispatches
    decision = drive.wait(0.2)
    assert [d.attempt for d in decision.dispatches] == [2]
    decision = drive.fail("charge")
    assert decision.wake_at == drive.now + 2 * SECOND


def test_jitter_depends_on_the_step_and_attempt_alone():
    """Two machines choose the same moment, within half of the delay and the whole of it."""

    @edow.task(retry=edow.Retry(initial="10s"))
    async def jittery() -> None: ...

    @edow.workflow
    async def flow() -> None:
        await jittery()

    moments = set()
    for _ in range(2):
        drive = Drive(flow)
        drive.start()
        decision = drive.fail("jittery")
        moments.add(decision.wake_at - drive.now)
    assert len(moments) == 1
    assert 5 * SECOND <= moments.pop() <= 10 * SECOND


def test_exhausted_attempts_raise_in_the_workflow_and_leave_a_letter():
    """The last failure is delivered, with everything needed to act on it."""
    drive = Drive(one, 5)
    drive.start()
    for _ in range(2):
        drive.fail("charge")
        drive.wait(10)
    decision = drive.fail("charge", Failure(type="shop.Down", message="no answer", stack="trace"))

    assert [(x.step, x.attempts, x.parked, x.failure.type) for x in decision.letters] == [
        ("charge", 3, False, "shop.Down")
    ]
    failure = outcome(decision).failure
    assert failure.type == "edow.errors.TaskFailed"
    assert "task charge: shop.Down: no answer" in failure.message
    assert decision.status is Status.FAILED


@pytest.mark.parametrize("error", [Refused("no"), Broke("poor")])
def test_an_answer_of_the_task_comes_back_as_itself(error):
    """What give_up_on names (or a subclass) is raised as that class, at once and without a dead letter."""
    seen = []

    @edow.workflow
    async def flow() -> None:
        try:
            await charge(1)
        except Refused as caught:
            seen.append(caught)

    drive = Drive(flow)
    drive.start()
    decision = drive.fail("charge", failure_of(error, give_up_on=charge.give_up_on))

    assert decision.status is Status.COMPLETED
    assert not decision.letters
    assert type(seen[0]) is type(error)
    assert seen[0].args == error.args
    assert isinstance(seen[0].__cause__, edow.TaskFailed)


def test_a_parked_step_waits_for_a_person_and_goes_on_when_redriven():
    """Edited arguments go out with a fresh allowance; attempt numbers continue."""
    drive = Drive(parked, "a")
    drive.start()

    decision = drive.fail("ship")
    assert decision.status is Status.PARKED
    assert [x.parked for x in decision.letters] == [True]
    assert decision.wake_at is None
    decision = drive.apply(inbox.Redrive(run=1, step="ship", args=raw({"order": "b"})))
    assert [(d.attempt, bytes(d.args)) for d in decision.dispatches] == [(2, b'{"order":"b"}')]
    assert [(x.step, x.discarded) for x in decision.letters_closed] == [("ship", False)]
    assert decision.status is Status.RUNNING
    assert outcome(drive.complete("ship", "sent")) == "sent"


def test_a_discarded_step_raises_task_discarded():
    """The workflow gets the operator's answer."""
    drive = Drive(parked, "a")
    drive.start()
    drive.fail("ship")

    decision = drive.apply(inbox.Discard(run=1, step="ship", reason="spam"))

    assert "discarded: task ship" in outcome(decision)
    assert "spam" in outcome(decision)
    assert [(x.step, x.discarded, x.reason) for x in decision.letters_closed] == [("ship", True, "spam")]


def test_redriving_what_is_not_parked_does_nothing():
    """A second redrive of the same dead letter is dropped and counted."""
    drive = Drive(parked, "a")
    drive.start()

    decision = drive.apply(inbox.Redrive(run=1, step="ship"), inbox.Discard(run=2, step="ship"))

    assert (decision.duplicates, decision.events) == (2, [])


def test_a_second_answer_is_dropped_and_counted():
    """By run, step and attempt; a late failure of an earlier attempt is not taken either."""
    drive = Drive(one, 1)
    drive.start()
    first = drive.out["charge"]
    drive.fail("charge")
    drive.wait(2)

    decision = drive.apply(failed(first), result(first, 3, run=7))
    assert (decision.duplicates, decision.events) == (2, [])
    drive.complete("charge", 3)
    assert drive.apply(result(first, 4)).duplicates == 1


@pytest.mark.parametrize("retry_published", [False, True])
def test_a_late_success_of_an_earlier_attempt_is_taken(retry_published):
    """Work that was done counts, whether its retry is still waiting or already out."""
    drive = Drive(one, 1)
    drive.start()
    first = drive.out["charge"]
    drive.fail("charge")
    if retry_published:
        drive.wait(2)

    assert outcome(drive.apply(result(first, 9))) == 9


def test_schedule_to_start_is_retried_and_then_raised():
    """Nobody began it in time: a timeout that the policy may retry; begun in time, it does not fire."""
    drive = Drive(slowly)
    drive.start()

    decision = drive.wait(10.1)
    assert types(drive)[-1] == "AttemptFailed"
    decision = drive.wait(1)
    assert [d.attempt for d in decision.dispatches] == [2]
    started = result(drive.out["slow"]).__class__
    event = msgspec.structs.replace(result(drive.out["slow"]), outcome="started")
    assert isinstance(event, started)
    drive.apply(event)
    assert types(drive)[-1] == "TaskStarted"
    assert drive.wait(30).status is Status.RUNNING


def test_schedule_to_close_ends_the_step_and_stops_the_worker():
    """All attempts together have that long."""
    drive = Drive(slowly)
    drive.start()
    drive.apply(msgspec.structs.replace(result(drive.out["slow"]), outcome="started"))

    decision = drive.wait(61)

    assert "schedule-to-close timeout of 60 s" in outcome(decision)
    assert decision.cancels == ["slow"]
    assert [x.failure.kind for x in decision.letters] == ["schedule_to_close"]


def test_a_redriven_step_starts_its_allowance_anew():
    """The moment that a dispatch names is the one from which the engine counts schedule-to-close."""
    patient = ship.with_options(schedule_to_close="60s")

    @edow.workflow
    async def waits() -> str:
        return await patient("a")

    drive = Drive(waits)
    drive.start()
    drive.fail("ship")
    [again] = drive.apply(inbox.Redrive(run=1, step="ship"), after=50).dispatches
    assert again.scheduled_at == drive.now
    assert drive.wait(59).status is Status.RUNNING
    assert drive.wait(2).cancels == ["ship"]


def test_heartbeat_details_reach_the_next_attempt_and_are_forgotten_at_the_end():
    """They are kept beside history, not in it."""
    drive = Drive(one, 1)
    drive.start()
    beat = msgspec.structs.replace(result(drive.out["charge"], {"row": 5}), outcome="heartbeat")

    assert drive.apply(beat).events == []
    drive.restart()
    drive.fail("charge")
    assert drive.wait(2).dispatches[0].heartbeat == b'{"row":5}'
    assert drive.complete("charge", 1).heartbeats == {"charge": None}


def test_an_unanswered_attempt_is_looked_at_again_ever_more_rarely():
    """After one minute, then at twice the age, at most ten minutes apart."""
    drive = Drive(one, 1)
    assert drive.start().wake_at == drive.now + 60 * SECOND
    gaps = []
    for _ in range(7):
        wake = drive.decision.wake_at
        gaps.append((wake - drive.now) // SECOND)
        drive.wait((wake - drive.now) / SECOND)
        assert [d.step for d in drive.machine.pending(drive.now)] == ["charge"]
        assert drive.machine.pending(drive.now) == []
    assert gaps == [60, 60, 120, 240, 480, 600, 600]


def test_timers_are_durable_and_logical():
    """edow.sleep and asyncio.sleep record when they are due, and time is that of the last input."""
    seen = []

    @edow.workflow
    async def flow() -> None:
        seen.append(edow.now())
        await edow.sleep("90d", step="quarter")
        await asyncio.sleep(1)
        seen.append(edow.now())

    drive = Drive(flow)
    decision = drive.start()
    assert decision.events == [h.TimerStarted(at=drive.now, step="quarter", due=START + 90 * 86400 * SECOND)]
    assert decision.wake_at == START + 90 * 86400 * SECOND
    drive.restart()
    drive.wait(91 * 86400)
    drive.wait(2)
    assert (seen[-1] - seen[0]).total_seconds() == pytest.approx(91 * 86400 + 2, abs=0.1)
    assert drive.decision.status is Status.COMPLETED


def test_signals_are_kept_in_order_before_anybody_waits():
    """By name; a wait takes the oldest."""

    @edow.workflow
    async def flow() -> list[int]:
        await charge(1)
        return [await edow.wait_signal("n", int) for _ in range(3)]

    drive = Drive(flow)
    drive.start()
    drive.apply(inbox.Signal(name="n", payload=raw(1)), inbox.Signal(name="other", payload=raw(9)))
    drive.apply(inbox.Signal(name="n", payload=raw(2)))
    drive.complete("charge", 1)

    assert outcome(drive.apply(inbox.Signal(name="n", payload=raw(3)))) == [1, 2, 3]


def test_waiting_for_a_signal_may_time_out():
    """TimeoutError; a signal that comes later is kept for the next wait."""

    @edow.workflow
    async def flow() -> str:
        try:
            await edow.wait_signal("go", str, timeout="1h", step="patience")
        except TimeoutError:
            return await edow.wait_signal("go", str)
        return "at once"

    drive = Drive(flow)
    drive.start()
    assert drive.wait(3601).status is Status.RUNNING
    assert outcome(drive.apply(inbox.Signal(name="go", payload=raw("late")))) == "late"


def test_a_signal_in_the_moment_of_cancellation_is_not_lost():
    """It was handed to a waiter that is being cancelled: the next one gets it."""

    @edow.workflow
    async def flow() -> str:
        first = asyncio.create_task(edow.wait_signal("go", str))
        await edow.wait_signal("stop", bool)
        first.cancel()
        return await edow.wait_signal("go", str)

    drive = Drive(flow)
    drive.start()
    drive.apply(inbox.Signal(name="stop", payload=raw(True)))
    assert outcome(drive.apply(inbox.Signal(name="go", payload=raw("x")))) == "x"


def test_a_child_is_awaited_like_a_task():
    """Its id follows from parent, run and step; failure and cancellation come as errors."""

    @edow.workflow
    async def flow() -> list[object]:
        found: list[object] = [await one(3)]
        for _ in range(2):
            try:
                await one.with_options(id="mine" if len(found) == 1 else "yours")(4)
            except edow.WorkflowFailed as error:
                found.append(type(error).__name__)
        return found

    drive = Drive(flow)
    child = drive.start().children[0]
    assert (child.execution, child.workflow, child.step) == ("x:1:one", "one", "one")
    child = drive.apply(inbox.ChildEnded(run=1, step="one", result=raw(8))).children[0]
    assert child.execution == "mine"
    bad = Failure(type="ValueError", message="no")
    drive.apply(inbox.ChildEnded(run=1, step="one#2", failure=bad))
    gone = Failure(type="", message="", kind="cancelled")
    decision = drive.apply(inbox.ChildEnded(run=1, step="one#3", failure=gone))
    assert outcome(decision) == [8, "WorkflowFailed", "WorkflowCancelled"]


def test_what_becomes_of_children_when_nobody_waits_is_their_policy():
    """cancel, terminate, abandon."""

    @edow.workflow
    async def flow() -> None:
        async with asyncio.TaskGroup() as group:
            for policy in ("cancel", "terminate", "abandon"):
                group.create_task(one.with_options(id=policy, on_close=policy)(1))

    drive = Drive(flow)
    assert [child.on_close for child in drive.start().children] == ["cancel", "terminate", "abandon"]
    decision = drive.apply(inbox.Cancel(reason="enough"))
    assert (decision.child_cancels, decision.child_terminates) == (["cancel"], ["terminate"])
    assert outcome(decision) == h.Cancelled(at=drive.now, reason="enough")


def test_cancellation_reaches_the_running_task_and_lets_the_workflow_clean_up():
    """CancelledError at the await; a step in `finally` is an ordinary step; then the run is cancelled."""

    @edow.workflow
    async def flow() -> None:
        try:
            await charge(1)
        finally:
            await refund(1)

    drive = Drive(flow)
    drive.start()
    decision = drive.apply(inbox.Cancel(reason="why not"))
    assert decision.cancels == ["charge"]
    assert steps(decision) == ["refund"]
    assert decision.status is Status.RUNNING
    decision = drive.complete("refund")
    assert decision.status is Status.CANCELLED
    assert types(drive)[-5:] == ["CancelRequested", "StepCancelled", "TaskScheduled", "TaskCompleted", "Cancelled"]


def test_a_workflow_that_returns_in_spite_of_a_cancel_has_completed():
    """What it says counts."""

    @edow.workflow
    async def flow() -> str:
        try:
            await charge(1)
        except asyncio.CancelledError:
            return "saved"
        return "no"

    drive = Drive(flow)
    drive.start()
    assert outcome(drive.apply(inbox.Cancel())) == "saved"


def test_termination_runs_no_code():
    """It ends at once; workers and children are told."""
    ran = []

    @edow.workflow
    async def flow() -> None:
        try:
            await asyncio.gather(charge(1), one.with_options(id="c")(1))
        finally:
            if edow.info():
                ran.append(1)

    drive = Drive(flow)
    drive.start()
    decision = drive.apply(inbox.Terminate(reason="now"))
    assert decision.status is Status.TERMINATED
    assert (decision.cancels, decision.child_cancels) == (["charge"], ["c"])
    assert ran == []


def test_tasks_left_behind_are_cancelled_and_may_clean_up():
    """As asyncio.run does: the run ends when they are done."""

    @edow.workflow
    async def flow() -> str:
        async def background() -> None:
            try:
                await charge(1)
            finally:
                await refund(1)

        task = asyncio.create_task(background())
        await asyncio.sleep(0)
        return "early" if not task.done() else "late"

    drive = Drive(flow)
    decision = drive.start()
    assert [type(e).__name__ for e in decision.events] == ["TaskScheduled", "StepCancelled", "TaskScheduled"]
    assert steps(decision)[-1] == "background~1/refund"
    assert decision.status is Status.RUNNING
    assert outcome(drive.complete("background~1/refund")) == "early"


def test_continue_as_new_ends_the_run_with_the_next_input():
    """Bound and checked like a call."""

    @edow.workflow
    async def flow(n: int) -> None:
        await charge(n)
        edow.continue_as_new(n + 1)

    drive = Drive(flow, 1)
    drive.start()
    event = outcome(drive.complete("charge", 1))
    assert isinstance(event, h.ContinuedAsNew)
    assert bytes(event.input) == b'{"n":2}'


def test_continue_as_new_within_a_group_and_a_saga():
    """The group wraps it, and the saga has nothing to undo."""

    @edow.workflow
    async def flow(n: int) -> None:
        async with edow.saga() as saga, asyncio.TaskGroup():
            saga.compensate(refund, 1)
            edow.continue_as_new(n + 1)

    event = outcome(Drive(flow, 1).start())
    assert isinstance(event, h.ContinuedAsNew)
    assert bytes(event.input) == b'{"n":2}'


def test_a_failure_that_is_no_text_is_a_failure():
    """Whatever a worker in another language sends."""

    @edow.workflow
    async def flow() -> None:
        await charge.with_options(retry=1)(1)

    drive = Drive(flow)
    drive.start()
    garbled = msgspec.Raw(b'{"type":"Declined","message":"no \xff","kind":"error"}')
    drive.apply(msgspec.structs.replace(failed(drive.out["charge"]), data=garbled))
    assert "cannot be read" in drive.events[-1].failure.message


def test_what_comes_for_an_execution_that_cannot_be_decided_about_is_kept():
    """For a machine that can, and it can be ended."""

    @edow.workflow
    async def flow() -> str:
        return await edow.wait_signal("word", str)

    drive = Drive(flow)
    drive.start()
    sighted, drive.machine = drive.machine, Machine.blind(drive.execution, Failure(type="Bug", message=""), 1)
    sighted.close()
    decision = drive.apply(inbox.Signal(name="word", payload=raw("hello")), inbox.ChildEnded(run=1, step="child"))
    assert [type(event).__name__ for event in decision.events] == ["SignalReceived", "ChildFailed"]
    assert decision.status is Status.PARKED
    del drive.segments[-1]
    drive.segments.append(h.encoder.encode(decision.events[:1]))
    drive.restart()
    assert outcome(drive.apply(Tick())) == "hello"

    drive.machine = Machine.blind(drive.execution, Failure(type="Bug", message=""), 1)
    assert drive.apply(inbox.Terminate(reason="enough")).status is Status.TERMINATED


def test_a_result_without_json_form_fails_the_execution():
    """Naming workflow and type."""

    @edow.workflow
    async def flow() -> object:
        return object()

    failure = outcome(Drive(flow).start()).failure
    assert failure.type == "edow.errors.NotEncodable"
    assert "the result of workflow flow is a object" in failure.message


def test_an_exception_fails_the_execution_with_its_stack():
    """And so does sys.exit()."""

    @edow.workflow
    async def flow() -> None:
        raise SystemExit(3)

    decision = Drive(flow).start()
    assert decision.status is Status.FAILED
    assert outcome(decision).failure.type == "SystemExit"
    assert "test_machine.py" in outcome(decision).failure.stack


def test_input_that_does_not_fit_fails_the_execution():
    """Naming the parameter."""
    drive = Drive(one, 1)
    drive.segments = [h.encoder.encode([h.Started(at=START, workflow="one", input=raw({"amount": "x"}))])]
    drive.restart()
    assert "amount" in outcome(drive.start()).failure.message


def test_side_values_attributes_progress_and_signals_are_doings():
    """Each in the journal once; a replay does not run the side effect again."""
    ran = []

    def draw() -> int:
        ran.append(1)
        return 42

    @edow.workflow
    async def flow() -> int:
        edow.attributes(customer="c1", urgent=True)
        edow.progress({"done": 1})
        edow.signal("other", "hello", [1])
        value = await edow.side_effect(draw)
        return value + await charge(1)

    drive = Drive(flow)
    decision = drive.start()
    assert (decision.attributes_changed, decision.progress_changed) == (True, True)
    assert [(s.execution, s.name, s.step) for s in decision.signals] == [("other", "hello", "signal:hello")]
    drive.restart()
    decision = drive.complete("charge", 1)
    assert [type(e).__name__ for e in decision.events] == ["TaskCompleted", "Completed"]
    assert (outcome(decision), ran) == (43, [1])


def test_random_and_uuid_are_the_same_in_a_replay_and_differ_from_call_to_call():
    """Without any journal entry."""
    seen = []

    @edow.workflow
    async def flow() -> None:
        seen.append((edow.random().random(), edow.random().random(), edow.uuid(), edow.uuid()))
        await charge(1)

    drive = Drive(flow)
    drive.start()
    drive.restart()
    assert seen[0] == seen[1]
    assert len(set(seen[0])) == 4


def test_limits_are_told_at_50_and_80_percent_and_park_at_the_end():
    """Each once; the remedy is named."""

    @edow.workflow
    async def flow() -> None:
        while True:
            await charge(1)

    drive = Drive(flow, limits=Limits(history_events=20))
    decision = drive.start()
    told = []
    while decision.status is Status.RUNNING:
        drive.restart()
        decision = drive.complete(decision.dispatches[0].step, 1)
        told += decision.notices
    assert [text.split("%")[0][-3:] for text in told] == ["50 ", "80 "]
    assert decision.status is Status.PARKED
    assert "continue_as_new" in decision.events[-1].failure.message


def test_a_workflow_that_never_waits_is_parked(monkeypatch):
    """Rather than holding up everybody else for ever."""
    monkeypatch.setattr("edow.engine.loop.RUN_LIMIT", 1000)

    @edow.workflow
    async def flow() -> None:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(0)

    decision = Drive(flow).start()
    assert decision.status is Status.PARKED
    assert "round in circles" in decision.events[-1].failure.message


def test_a_call_that_was_never_awaited_is_told():
    """It did not run, and somebody should know."""

    @edow.workflow
    async def flow() -> None:
        call = charge(1)
        del call

    assert "'charge' was called and never awaited" in Drive(flow).start().notices[0]


def test_after_the_end_everything_is_a_duplicate():
    """And changes nothing; a signal is kept apart, for a person to be told."""
    drive = Drive(one, 1)
    drive.start()
    drive.complete("charge", 1)
    decision = drive.apply(inbox.Signal(name="x", payload=raw(1)), inbox.Cancel())
    assert (decision.duplicates, decision.events, decision.status) == (1, [], Status.COMPLETED)
    assert drive.machine.late == [inbox.Signal(name="x", payload=raw(1))]


def test_eviction_lets_code_do_nothing():
    """`finally` blocks meet a runtime that is gone; nothing warns and nothing is decided."""
    ran = []

    @edow.workflow
    async def flow() -> None:
        unused = refund(1)
        try:
            await charge(1)
        finally:
            ran.append("finally")
            await refund(2)
            ran.append("after")
        await unused

    drive = Drive(flow)
    drive.start()
    drive.machine.close()
    assert ran == ["finally"]


@edow.workflow
async def order(amount: int) -> None:
    async with edow.saga() as saga:
        await charge(amount)
        saga.compensate(refund, amount)
        saga.compensate(refund, amount + 1)
        await ship("a")


def test_a_saga_undoes_in_durable_steps_last_first():
    """A compensation that fails becomes a dead letter and the rest still runs; then the original failure goes on."""
    drive = Drive(order, 1)
    drive.start()
    drive.complete("charge", 1)
    drive.fail("ship")
    decision = drive.apply(inbox.Discard(run=1, step="ship", reason="lost"))
    assert [(d.step, bytes(d.args)) for d in decision.dispatches] == [("compensate:refund", b'{"amount":2}')]
    drive.restart()
    decision = drive.fail("compensate:refund", final=True)
    assert [letter.step for letter in decision.letters] == ["compensate:refund"]
    assert steps(decision) == ["compensate:refund#2"]
    failure = outcome(drive.complete("compensate:refund#2")).failure
    assert failure.type == "edow.errors.TaskDiscarded"
    assert "compensation refund failed" in failure.stack


def test_a_cancel_does_not_interrupt_compensations():
    """Neither the one that started them nor one that comes meanwhile."""
    drive = Drive(order, 1)
    drive.start()
    drive.complete("charge", 1)
    assert steps(drive.apply(inbox.Cancel())) == ["compensate:refund"]
    drive.restart()
    assert drive.apply(inbox.Cancel()).cancels == []
    assert steps(drive.complete("compensate:refund")) == ["compensate:refund#2"]
    assert drive.complete("compensate:refund#2").status is Status.CANCELLED


def test_arguments_of_a_compensation_are_checked_where_it_is_registered():
    """Not when something has already gone wrong."""

    @edow.workflow
    async def flow() -> None:
        async with edow.saga() as saga:
            saga.compensate(refund, "much")

    assert outcome(Drive(flow).start()).failure.type == "edow.errors.SignatureMismatch"


def test_termination_before_the_beginning_runs_no_code():
    """A run that was replaced at once never starts."""
    drive = Drive(one, 1)
    assert types(drive) == ["Started"]
    decision = drive.apply(inbox.Terminate())
    assert ([type(e).__name__ for e in decision.events], decision.dispatches) == (["Terminated"], [])


def test_what_has_ended_is_freed_at_once():
    """Nothing in it refers back to it: thousands of ended executions are no work for the garbage collector."""
    drive = Drive(slowly)
    drive.run()
    machine, loop = weakref.ref(drive.machine), weakref.ref(drive.machine._run.loop)
    gc.disable()
    try:
        del drive.machine
        assert (machine(), loop()) == (None, None)
    finally:
        gc.enable()
