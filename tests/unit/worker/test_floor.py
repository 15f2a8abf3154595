"""The floor with a runner that the test drives, and its own time."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import msgspec
import pytest

from edow.model import wire
from edow.transport.contract import Delivery
from edow.worker import attempt, floor
from edow.worker.attempt import Attempt, begin
from edow.worker.floor import Floor
from edow.worker.intake import Intake, Patience
from edow.worker.publisher import Publisher
from edow.worker.reports import Reporter
from tests.unit.worker import process_tasks
from tests.unit.worker.harness import FAST, failure, task_event
from tests.unit.worker.memory_transport import Memory


class Importing:
    """A runner that has taken an attempt and is not ready for it yet."""

    size = 1
    zombies = 0

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.stopped: list[Attempt] = []

    def submit(self, attempts: Sequence[Attempt]) -> None:
        self.attempts += attempts

    def stop_attempt(self, attempt: Attempt) -> bool:
        self.stopped.append(attempt)
        return True

    def tick(self) -> None: ...


KINDS = {"timeoutms": "start_to_close", "heartbeatms": "heartbeat"}


@pytest.mark.parametrize("limit", KINDS)
def test_time_counts_from_when_an_attempt_began(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """A process that imports for nearly as long as a task may take leaves the task all of its time."""
    clock = [1_000.0]
    time = SimpleNamespace(monotonic=lambda: clock[0], time_ns=lambda: round(clock[0] * 1e9))
    monkeypatch.setattr(floor, "time", time)
    monkeypatch.setattr(attempt, "time", time)
    runner, publisher = Importing(), Publisher(Memory(), lambda _: None, 10)  # type: ignore[arg-type]
    intake = Intake({"square": process_tasks.square}, 20, Patience(1))
    desk = Floor(FAST, intake, {"process": runner}, Reporter("w", lambda: 0, 10_000), publisher, lambda: 0)  # type: ignore[dict-item]
    body = wire.encode(msgspec.structs.replace(task_event("square"), **{limit: 10_000}))
    desk.take(None, [Delivery("t", body, None, 1, None)])  # type: ignore[arg-type]
    (taken,) = runner.attempts

    def tick(at: float) -> None:
        clock[0] = at
        desk.tick()

    for early in (1_009.0, 1_011.0):  # it is not at fault for what has not begun
        tick(early)
    clock[0] = 1_012.0
    begin(taken)
    for early in (1_019.0, 1_021.0, 1_021.9):
        tick(early)
    assert not runner.stopped
    tick(1_022.1)
    assert runner.stopped == [taken]
    told = wire.decode_result(publisher._queue[-1][0].body)
    assert (told.outcome, failure(told)["kind"]) == ("failed", KINDS[limit])
