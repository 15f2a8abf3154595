"""Limits and intervals of a worker. Every one is bounded and has a default that suits a single machine."""

from __future__ import annotations

import os
import socket

import msgspec

from edow.errors import InvalidInput
from edow.model import topics


def worker_name() -> str:
    """`host:pid`: who we are, for people."""
    return f"{socket.gethostname()}:{os.getpid()}"


def default_threads() -> int:
    """Sync tasks mostly wait for somebody else, so more threads than cores."""
    return 2 * (os.cpu_count() or 1) + 4


def default_processes() -> int:
    return os.cpu_count() or 1


class WorkerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Durations in seconds. `concurrency`, `threads` and `processes` bound what runs at once, by kind of task."""

    name: str = msgspec.field(default_factory=worker_name)
    group: str = topics.WORKERS
    topics: tuple[str, ...] = ()  # as declared with `topic=`; empty: those of the registry's tasks
    concurrency: int = 256  # async tasks
    threads: int = msgspec.field(default_factory=default_threads)  # sync tasks
    processes: int = msgspec.field(default_factory=default_processes)  # CPU-bound tasks
    prefetch: int = 256  # messages of each kind held beyond those that run; never more than 8 for each slot
    batch: int = 500  # messages received or published in one call
    unpublished: int = 4_000  # results held while the broker does not take them; then receiving pauses
    unpublished_bytes: int = 64 * 1024 * 1024  # of them
    zombies: int = 64  # stuck threads left behind before the worker stops taking sync tasks
    lease_seconds: float = 4.0
    wait_seconds: float = 1.0  # longest blocking receive
    max_deliveries: int = 20  # a message delivered more often crashes its workers; being handed back counts too
    unknown_task_seconds: float = 5.0  # another worker may know the task: wait this long before it is delivered again
    unknown_task_patience_seconds: float = 60.0  # after so long with a worker that does not know it, the step fails
    grace_seconds: float = 10.0  # at stop, for running tasks to finish
    cancel_grace_seconds: float = 2.0  # for an async task to end after it was told to
    blocked_seconds: float = 1.0  # a task loop that does not answer for so long is reported
    tick_seconds: float = 0.05  # how exactly timeouts are kept

    def __post_init__(self) -> None:
        for field in (
            "concurrency",
            "threads",
            "processes",
            "batch",
            "unpublished",
            "unpublished_bytes",
            "max_deliveries",
        ):
            _at_least(field, getattr(self, field), 1)
        _at_least("prefetch", self.prefetch, 0)
        _at_least("zombies", self.zombies, 0)
        for field in ("unknown_task_seconds", "unknown_task_patience_seconds"):
            _at_least(field, getattr(self, field), 0)
        for field in ("lease_seconds", "wait_seconds", "tick_seconds", "blocked_seconds"):
            _at_least(field, getattr(self, field), 0.001)


def _at_least(field: str, value: float, least: float) -> None:
    if value < least:
        raise InvalidInput(f"WorkerConfig.{field} is {value}; it must be at least {least}")
