"""Counters of one orchestrator since it started; for `edow doctor`, tests and, later, metrics."""

from __future__ import annotations

import msgspec


class Stats(msgspec.Struct):
    commits: int = 0
    inputs: int = 0
    messages: int = 0
    ended: int = 0
    duplicates: int = 0  # results that had been answered before
    poison: int = 0
    healed: int = 0  # executions that made no progress though they should have, and were put back to work
    republished: int = 0  # attempts whose message the transport no longer had
    retries: int = 0  # commits and publishes that had to be tried again
    purged: int = 0
    takeovers: int = 0  # shards taken
