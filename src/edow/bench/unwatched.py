"""An orchestrator that measures nothing, to compare a watched one with: `python -m edow.bench.unwatched MODULE ...`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from edow.app import System, load_registry
from edow.cli.serving import Part, serve_until_stopped
from edow.cli.session import run_async
from edow.kpi.meter import Meter
from edow.model.attempted import Attempted
from edow.model.execution import Execution
from edow.model.message import Message


class Uncounted(Meter):
    """Takes what it is told, and forgets it."""

    def attempts(self, ended: Iterable[tuple[str, Sequence[Attempted]]], now: int) -> None: ...
    def executions(self, started: Iterable[str], ended: Iterable[Execution]) -> None: ...
    def sent(self, messages: Iterable[Message]) -> None: ...
    def received(self, topic: str, messages: int, size: int) -> None: ...


def parts(system: System) -> list[Part]:
    """What belongs beside an orchestrator, but for the monitor."""
    orchestrator = system.orchestrator()
    orchestrator.measure_with(Uncounted())
    sender = system.sender(orchestrator)
    return [sender, orchestrator, system.redriver(), system.jobs(), system.schedules(), system.events()]


if __name__ == "__main__":
    run_async(serve_until_stopped(System(registry=load_registry(sys.argv[1:])), parts, "orchestrator"))
