"""What a verification is asked to do and what it found."""

from __future__ import annotations

import msgspec


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Executions are started and processes killed for `seconds`; then all have `patience_seconds` to end."""

    seed: int = 1
    seconds: float = 30.0
    in_flight: int = 40
    orchestrators: int = 2
    workers: int = 2
    patience_seconds: float = 60.0
    store: str | None = None
    transport: str | None = None
    keep: bool = False


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The object that `--json` prints. `difference` is the sum of |expected − actual| over all counters, `left_running`
    the tasks that still run though nobody waits for them: a crash came between their cancellation and its arrival.
    """

    seed: int
    executions: int
    children: int
    counters: int
    additions: int
    cancelled: int
    workers_killed: int
    orchestrators_killed: int
    healed: int
    difference: int
    wrong_ends: int
    stuck: int
    left_running: int

    @property
    def good(self) -> bool:
        return not (self.difference or self.wrong_ends or self.stuck or self.left_running)


class Outcome(msgspec.Struct, frozen=True):
    """The result and, for people, what is wrong."""

    result: Result
    findings: list[str]
    kept: str | None
