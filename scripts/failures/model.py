"""What a failure run is asked to do, and what it found."""

from __future__ import annotations

import msgspec


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """One run. The executions are asked to go on over `seconds`; then all have `patience_seconds` to end."""

    transport: str  # redis | nats | rabbitmq | kafka, or postgres: the database that keeps the executions, too
    fault: str
    executions: int = 10_000
    fan_outs: int = 30
    width: int = 100  # tasks of one fan-out
    seconds: float = 60.0
    patience_seconds: float = 180.0
    seed: int = 1
    keep: bool = False


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The object that `--json` prints.

    Of the effects, `lost` were never applied and `twice` were applied more than once. `pause_seconds` is the longest
    that a shard stood still from the fault on, `recovery_seconds` how much of that came after everything was whole
    again (after a kill: all of it), `wait_seconds` the longest that one execution took from its signals to its last
    effect. `spread_seconds` is how long the shards took to be spread evenly over the orchestrators that could be
    reached; `shards` are those that each holds at the end. Memory is that of the largest orchestrator:
    at most, and by how much more that is than when the fault struck.
    """

    transport: str
    fault: str
    executions: int
    under_way: int  # executions that had not ended when the fault struck first
    ended: int
    wrong_ends: int
    signals: int
    effects: int
    lost: int
    twice: int
    strikes: int
    pause_seconds: float
    recovery_seconds: float
    wait_seconds: float
    spread_seconds: float
    shards: list[int]
    peak_mb: int
    grown_mb: int
    findings: list[str]

    @property
    def good(self) -> bool:
        complete = self.ended == self.executions
        return complete and not (self.wrong_ends or self.lost or self.twice or self.findings)
