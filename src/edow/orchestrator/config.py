"""Limits and intervals of an orchestrator. Every one is bounded and has a default that suits a single machine."""

from __future__ import annotations

import os
import socket

import msgspec


def process_name() -> str:
    """`host:pid`: who we are, for people and for leases."""
    return f"{socket.gethostname()}:{os.getpid()}"


class OrchestratorConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Durations in seconds."""

    name: str = msgspec.field(default_factory=process_name)
    batch: int = 1000  # inputs decided together, and committed together
    batch_bytes: int = 32 * 1024 * 1024  # of each kind of them, or one that has more; of each that wait; and, about, of
    # the histories that are loaded to decide them
    hot: int = 20_000  # executions kept in memory
    hot_bytes: int = 256 * 1024 * 1024  # of the histories that they were built from
    lease_ttl: float = 3.0  # a dead orchestrator's shards are free after this
    horizon: float = 30.0  # wake-ups nearer than this are kept in memory
    reconcile_every: float = 10.0
    purge_every: float = 60.0
    retention: float = 7 * 86_400.0  # ended executions are deleted after this,
    letter_retention: float = 30 * 86_400.0  # and dead letters of no execution, unless they are set aside
    compute_limit: float = 1.0  # a workflow that computes for longer without yielding is reported
    history_limit: int = 200_000  # events in one run
