"""What the demo is asked to do and what it has to say at the end."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import msgspec

from edow.bench.latency import Latency
from edow.demo.documents import Report


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """`folder` None: the standard library of the Python that runs. `store` and `transport` None: a file of its own."""

    folder: Path | None = None
    orders: int = 300
    keep: bool = False
    store: str | None = None
    transport: str | None = None
    deadline_seconds: float = 300.0

    @property
    def source(self) -> Path:
        return self.folder or Path(sysconfig.get_path("stdlib"))


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The object that `--json` prints."""

    documents: int
    orders: int
    compensated: int
    dead_letters: int
    redriven: int
    workers_killed: int
    orchestrators_killed: int
    recovery_seconds: float
    effects_lost: int
    effects_applied_twice: int
    steps_per_second: float
    latency_ms: Latency

    @property
    def proven(self) -> bool:
        """Nothing was lost and nothing was applied twice."""
        return self.effects_lost == 0 and self.effects_applied_twice == 0


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The result, and what only people want to see."""

    result: Result
    report: Report
    seconds: float
    steps: int
    discrepancies: list[str]
    kept: Path | None
    store: str  # without secrets
