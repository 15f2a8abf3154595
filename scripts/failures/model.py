"""What a failure run is asked to do, and what it found."""

from __future__ import annotations

import msgspec


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """One run. The executions are asked to go on over `seconds`; then all have `patience_seconds` to end."""

    store: str  # sqlite | postgres
    transport: str  # sqlite | redis | nats | rabbitmq | kafka | postgres
    fault: str
    executions: int = 10_000
    fan_outs: int = 30
    width: int = 100  # tasks of one fan-out
    seconds: float = 60.0
    patience_seconds: float = 180.0
    seed: int = 1
    keep: bool = False


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The object that `--json` prints. Of the effects, `lost` were never applied and `twice` were applied more than
    once. `recovery_seconds` is the longest pause between two completions from the fault on, `longest_wait_seconds`
    the longest that one execution took from its signals to its end. `shards` are those that each orchestrator holds
    at the end.
    """

    store: str
    transport: str
    fault: str
    executions: int
    ended: int
    wrong_ends: int
    signals: int
    effects: int
    lost: int
    twice: int
    faults: int
    under_way: int  # executions that had not ended when the fault struck first
    recovery_seconds: float
    longest_wait_seconds: float
    shards: list[int]
    findings: list[str]

    @property
    def good(self) -> bool:
        complete = self.ended == self.executions
        return complete and not (self.wrong_ends or self.lost or self.twice or self.findings)
