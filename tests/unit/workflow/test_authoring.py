"""Tasks, workflows and what they refuse; outside a workflow everything is a plain call."""

import asyncio
import subprocess
import sys
import threading
import types
from datetime import UTC, datetime, timedelta

import pytest

import edow
from edow.model.policy import RetryPolicy, Timeouts
from edow.workflow.context import TaskContext, current_context
from edow.workflow.duration import seconds
from edow.workflow.failures import exception_of, failure_of
from edow.workflow.registry import collect


@edow.task(raises=(LookupError,))
async def charge(amount: int) -> int:
    """Charge it."""
    return amount + 1


@edow.task
def where() -> str:
    return threading.current_thread().name


@edow.workflow
async def flow(amount: int) -> int:
    first = await charge(amount)
    await edow.sleep(0)
    return first + await charge(first)


async def test_a_workflow_can_be_called_like_any_function():
    """Tasks run where they are called, a `def` in a thread."""
    assert await flow(1) == 5
    assert await where() != threading.current_thread().name
    assert (charge.fn.__name__, charge.__doc__) == ("charge", "Charge it.")


async def test_outside_a_workflow_the_functions_have_their_plain_meaning():
    """Or say what to use instead."""
    assert abs(edow.now() - datetime.now(UTC)) < timedelta(minutes=1)
    assert edow.uuid() != edow.uuid()
    assert await edow.side_effect(lambda: 3) == 3
    edow.progress(1)
    edow.attributes(a="b")
    for refused in (edow.info, lambda: edow.signal("x", "n"), edow.continue_as_new, edow.context):
        with pytest.raises(edow.WrongState, match=r"inside a"):
            refused()
    with pytest.raises(edow.WrongState, match="parameter"):
        await edow.wait_signal("n", int)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("200ms", 0.2), ("1h30m", 5400), ("2d", 172800), (1.5, 1.5), (timedelta(minutes=1), 60), ("1.5s", 1.5), (0, 0)],
)
def test_durations(value, expected):
    """Texts with units, seconds, timedeltas."""
    assert seconds(value, "timeout") == pytest.approx(expected)


@pytest.mark.parametrize("value", ["30", "", "1x", -1, True, None, float("nan"), float("inf"), "1h-3m"])
def test_what_is_no_duration_is_named(value):
    """With the parameter and an example."""
    with pytest.raises(edow.InvalidInput, match=r"timeout=.*30s"):
        seconds(value, "timeout")


def test_options_become_the_policy():
    """And with_options changes a copy, leaving the rest as it was."""

    @edow.task(retry=edow.Retry(attempts=5, initial="1s", factor=3, maximum="1m", jitter=False, give_up_on=KeyError),
               timeout="1m", heartbeat=5, exhausted="park", topic="gpu", key=lambda n: f"k{n}")  # fmt: skip
    async def job(n: int) -> None: ...

    assert job.policy.retry == RetryPolicy(5, 1.0, 3.0, 60.0, False, ("KeyError",))
    assert job.policy.timeouts == Timeouts(start_to_close=60.0, heartbeat=5.0)
    assert (job.policy.exhausted, job.policy.topic, job.kind) == ("park", "gpu", "async")
    assert job.partition_key(3) == "k3"
    other = job.with_options(timeout=None, retry=2, step="s", key="fixed")
    assert other.policy.timeouts == Timeouts(heartbeat=5.0)
    assert (other.policy.retry.attempts, other.policy.topic, other.step) == (2, "gpu", "s")
    assert (other.partition_key(3), job.policy.retry.attempts, job.step) == ("fixed", 5, None)


def test_a_variant_shares_what_is_known_of_the_signature():
    """It is looked into once, not for each execution that has an id or a step of its own."""
    assert flow.with_options(id="a").signature is flow.with_options(id="b").signature is flow.signature
    assert charge.with_options(step="s").signature is charge.signature


def test_defaults():
    """Three attempts, 30 s each; `def` in a thread, with cpu=True in a process."""
    assert (charge.policy.retry.attempts, charge.policy.timeouts.start_to_close) == (3, 30.0)
    assert where.kind == "thread"
    assert edow.task(cpu=True)(lambda_like).kind == "process"


def lambda_like() -> None: ...


async def generator():
    yield 1


MISTAKES = {
    "no name of its own": lambda: edow.task(lambda: None),
    "cannot be a task": lambda: edow.task(int),
    "it yields": lambda: edow.task(generator),
    "rather than `async def`": lambda: edow.task(cpu=True)(charge.fn),
    "async def": lambda: edow.workflow(lambda_like),
    "no option 'timout'": lambda: edow.task(timout=3),
    "attempts=0": lambda: edow.Retry(attempts=0),
    "attempts=True": lambda: edow.Retry(attempts=True),
    "factor=0.5": lambda: edow.Retry(factor=0.5),
    "no exception class": lambda: edow.Retry(give_up_on=("KeyError",)),
    "exhausted='explode'": lambda: edow.task(exhausted="explode")(charge.fn),
    "retry='often'": lambda: edow.task(retry="often")(charge.fn),
    "key=3": lambda: edow.task(key=3)(charge.fn),
    "number steps": lambda: edow.task(name="a#b")(charge.fn),
    "step name 'a~b'": lambda: charge.with_options(step="a~b"),
    "on_close='x'": lambda: flow.with_options(on_close="x"),
    "execution id ''": lambda: flow.with_options(id=""),
    "attribute 'a' is a list": lambda: edow.attributes(a=[1]),
    "neither a task nor": lambda: edow.saga().compensate(lambda: None),
}


@pytest.mark.parametrize("told", MISTAKES)
def test_mistakes_are_told_where_they_are_made(told):
    """Naming the thing and the remedy."""
    with pytest.raises(edow.InvalidInput, match=told.replace("(", r"\(")):
        MISTAKES[told]()


class Declined(Exception):
    def __init__(self, order: str, reason: str) -> None:
        super().__init__(order, reason)
        self.order, self.reason = order, reason


class Odd(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")


def test_a_declared_exception_comes_back_as_itself():
    """With its arguments; one whose constructor refuses them keeps its class at least; others are TaskFailed."""
    again = exception_of(failure_of(Declined("o1", "poor")), what="task t", step="t", declared=(Declined,))
    assert (type(again), again.order, again.reason) == (Declined, "o1", "poor")
    assert isinstance(again.__cause__, edow.TaskFailed)
    odd = exception_of(failure_of(Odd(code=3)), what="task t", step="t", declared=(Odd,))
    assert (type(odd), str(odd)) == (Odd, "code 3")
    other = exception_of(failure_of(Declined("o1", "poor")), what="task t", step="t")
    assert (type(other), other.type, other.step) == (edow.TaskFailed, f"{__name__}.Declined", "t")
    assert "Declined" in other.stack


def test_a_failure_has_a_bounded_stack_and_survives_a_broken_exception():
    """Whatever an author's exception does."""

    class Broken(Exception):
        def __str__(self) -> str:
            raise ValueError

    assert "str() of it raised ValueError" in failure_of(Broken()).message
    assert len(failure_of(ValueError("x" * 100_000)).stack) < 17_000
    assert failure_of(ValueError(object())).args is None


def test_an_answer_is_declined_and_bad_input_is_not_retried():
    """give_up_on covers subclasses."""
    answer = failure_of(IndexError(), give_up_on=(LookupError,))
    assert (answer.kind, answer.retryable) == ("declined", False)
    assert failure_of(ValueError()).retryable
    assert not failure_of(edow.SignatureMismatch("x")).retryable


async def test_a_saga_undoes_last_first_and_goes_on_after_a_failed_compensation():
    """The original exception goes on, with a note of what failed."""
    done = []

    async def undo(what: str) -> None:
        done.append(what)
        if what == "b":
            raise RuntimeError("stuck")

    with pytest.raises(KeyError) as caught:  # noqa: PT012
        async with edow.saga() as saga:
            for what in "abc":
                saga.compensate(undo, what)
            raise KeyError
    assert done == ["c", "b", "a"]
    assert "stuck" in caught.value.__notes__[0]


async def test_a_saga_that_ends_well_undoes_nothing():
    """Compensations are for failures."""
    done = []

    async def undo() -> None:
        done.append(1)

    async with edow.saga() as saga:
        saga.compensate(undo)
    assert done == []


async def test_cancellation_waits_for_compensations():
    """It is raised after they have run."""
    begun, go, done = asyncio.Event(), asyncio.Event(), []

    async def undo() -> None:
        begun.set()
        await go.wait()
        done.append(1)

    async def body() -> None:
        async with edow.saga() as saga:
            saga.compensate(undo)
            raise ValueError

    task = asyncio.create_task(body())
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == [1]


def test_definitions_are_collected_from_modules():
    """By name; the same object twice is no conflict, two of one name are."""
    shop, desk = types.ModuleType("shop"), types.ModuleType("desk")
    shop.charge, shop.flow, desk.charge, desk.other = charge, flow, charge, 5
    registry = collect([shop, desk])
    assert (registry.tasks, registry.workflows) == ({"charge": charge}, {"flow": flow})
    with pytest.raises(edow.NotFound, match="known: charge"):
        registry.task("chrge")
    desk.charge = edow.task(name="charge")(lambda_like)
    with pytest.raises(edow.InvalidInput, match=r"charge .*test_authoring.charge.*lambda_like"):
        collect([shop, desk])


def test_a_task_can_look_around_and_report():
    """edow.context() is the attempt's own."""
    sent = []
    ids = {"execution": "x", "run": 1, "step": "s", "task": "t", "attempt": 2, "idempotency_key": "x/1/s"}
    cancelled = threading.Event()
    context = TaskContext(**ids, cancelled=cancelled, send_heartbeat=sent.append, last_heartbeat=b'{"row":5}')
    token = current_context.set(context)
    try:
        edow.context().heartbeat({"row": 6})
        assert (sent, edow.context().heartbeat_details(dict[str, int])) == ([b'{"row":6}'], {"row": 5})
    finally:
        current_context.reset(token)


def test_public_names():
    """What is listed is there, lazily loaded names included; others are an AttributeError."""
    for name in edow.__all__:
        assert getattr(edow, name) is not None
    with pytest.raises(AttributeError, match="nothing_of_this_name"):
        edow.nothing_of_this_name  # noqa: B018


def test_pydantic_is_not_imported():
    """It is recognised by its methods."""
    code = "import sys, edow; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
