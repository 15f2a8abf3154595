"""A little world for machines: answers tasks as told, keeps history, and can rebuild a machine from any point of it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from edow.engine.decision import Decision, Dispatch, EngineInput, Tick
from edow.engine.limits import DEFAULTS, Limits
from edow.engine.machine import Machine
from edow.model import history as h
from edow.model import inbox
from edow.model.execution import Execution
from edow.model.failure import Failure
from edow.model.wire import RESULT_TYPE, SPEC_VERSION, ResultEvent
from edow.workflow.definition import Workflow

START = 1_700_000_000_000_000
SECOND = 1_000_000


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def result(dispatch: Dispatch, value: object = None, **more: object) -> ResultEvent:
    return _event(dispatch, "completed", raw(value), **more)


def failed(dispatch: Dispatch, failure: Failure | str = "boom", **more: object) -> ResultEvent:
    if isinstance(failure, str):
        failure = Failure(type="RuntimeError", message=failure)
    return _event(dispatch, "failed", raw(failure), **more)


def _event(dispatch: Dispatch, outcome: str, data: msgspec.Raw, **more: object) -> ResultEvent:
    values = {"run": 1, "step": dispatch.step, "attempt": dispatch.attempt} | more
    return ResultEvent(
        id="r", source="/edow/worker/w1", type=RESULT_TYPE, specversion=SPEC_VERSION,
        subject=dispatch.task, time="", executionid="x", outcome=outcome, data=data, **values,
    )  # fmt: skip


class Drive:
    """One execution: the machine, its history in stored form, and what it asked for."""

    def __init__(self, workflow: Workflow | None, *args: object, limits: Limits = DEFAULTS, **kwargs: object) -> None:
        payload = workflow.signature.encode_call(args, kwargs) if workflow else raw({})
        name = workflow.name if workflow else "nobody"
        self.workflow, self.limits, self.now = workflow, limits, START
        self.execution = Execution(id="x", workflow=name, shard=0, input=payload)
        self.segments: list[bytes] = [h.encoder.encode([h.Started(at=START, workflow=name, input=payload)])]
        self.out: dict[str, Dispatch] = {}
        self.decision: Decision | None = None
        self.heartbeats: dict[str, bytes] = {}
        self.machine = self.rebuilt()

    def rebuilt(self, workflow: Workflow | None = None, segments: int | None = None) -> Machine:
        machine = Machine(workflow or self.workflow, self.execution, self.limits)
        machine.rebuild([h.decoder.decode(s) for s in self.segments[:segments]], self.heartbeats)
        return machine

    def restart(self, workflow: Workflow | None = None) -> None:
        """As after a crash, maybe with other code."""
        self.machine.close()
        self.machine = self.rebuilt(workflow)

    def start(self) -> Decision:
        return self.apply(inbox.Start())

    def apply(self, *inputs: EngineInput, after: float = 0.001) -> Decision:
        self.now += round(after * SECOND)
        decision = self.decision = self.machine.apply(inputs, self.now)
        if decision.events:
            self.segments.append(h.encoder.encode(decision.events))
        self.out.update((dispatch.step, dispatch) for dispatch in decision.dispatches)
        for step, details in decision.heartbeats.items():
            self.heartbeats.pop(step, None) if details is None else self.heartbeats.update({step: details})
        return decision

    def wait(self, seconds: float) -> Decision:
        return self.apply(Tick(), after=seconds)

    def complete(self, step: str, value: object = None) -> Decision:
        return self.apply(result(self.out.pop(step), value))

    def fail(self, step: str, failure: Failure | str = "boom", **more: object) -> Decision:
        return self.apply(failed(self.out[step], failure, **more))

    @property
    def events(self) -> list[h.AnyEvent]:
        return [event for segment in self.segments for event in h.decoder.decode(segment)]

    def run(self, answer: Callable[[Dispatch], object] = lambda dispatch: None) -> Decision:
        """Answer every task until nothing is asked any more."""
        decision = self.decision or self.start()
        while self.out and decision.status == "running":
            dispatches = list(self.out.values())
            self.out.clear()
            decision = self.apply(*(result(dispatch, answer(dispatch)) for dispatch in dispatches))
        return decision


def steps(decision: Decision) -> list[str]:
    return [dispatch.step for dispatch in decision.dispatches]


def outcome(decision: Decision) -> object:
    """The result of a completed execution; else its last event."""
    event = decision.events[-1]
    return msgspec.json.decode(event.result) if isinstance(event, h.Completed) else event
