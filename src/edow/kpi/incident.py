"""An incident: something broke, work went on, and what had piled up was done. How long that took is the time to
recover.

What is told apart: the *fault* (as early as is known), the *first progress* after it, and the moment when the backlog
was *drained*: no more waited than had waited before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

LEASES_OVER = 60_000_000  # microseconds after a worker's death, at the latest
SLACK = 10  # messages above what waited before that are not a backlog yet


class Attempt(msgspec.Struct, frozen=True):
    """That a worker had in hand."""

    execution: str
    run: int
    step: str


class Incident(msgspec.Struct, kw_only=True):
    """Times in microseconds; None: not yet. `worker` was lost with `held` in hand; those that went on are left out."""

    id: str
    cause: str
    fault_at: int
    found_at: int
    shards: list[int] = []  # that nobody served
    backlog_before: int = 0
    backlog_most: int = 0
    progress_at: int | None = None
    drained_at: int | None = None
    worker: str = ""
    held: list[Attempt] = []

    @property
    def over(self) -> bool:
        return self.drained_at is not None

    @property
    def seconds(self) -> float | None:
        """To recover."""
        return None if self.drained_at is None else (self.drained_at - self.fault_at) / 1_000_000


class Out(NamedTuple):
    """Attempts that are published and not answered, by task topic: how many, and since when the oldest is out that no
    worker is known to be at.
    """

    unanswered: Mapping[str, int] = {}
    unbegun: Mapping[str, int] = {}


class Presence(msgspec.Struct, frozen=True):
    """What an orchestrator says of itself every two seconds."""

    process: str
    at: int
    started_at: int
    shards: list[int]
    served_since: int  # when it got the last of them
    first_progress_at: int  # its first commit since then, and since the end of an outage; 0: none yet
    progress_at: int  # its last commit
    outage_at: int = 0  # when the store or the broker began to refuse what it tried, if they did lately
    heard_at: int = 0  # a worker's last word; 0: none yet
    unbegun: dict[str, int] = {}  # by task topic: since when the oldest attempt is out that no worker is known to be at
    unanswered: dict[str, int] = {}  # by task topic: attempts that are out, of the executions in its memory
    served: list[str] | None = None  # task topics of all workers that answer the roll call, of whoever calls it


class Sight(NamedTuple):
    """What is seen at one moment. `backlog` None: nobody tells what waits."""

    at: int
    present: Sequence[Presence]
    backlog: int | None
    oldest_at: int | None = None  # when the oldest message was published that some worker has not answered


class Lost(NamedTuple):
    """A worker that was heard of and said nothing any more. `held`: of what it had in hand, as far as it has told."""

    name: str
    heard_at: int
    tasks: int
    held: Sequence[Attempt]


def of_lost(presence: Presence, now: int, backlog_before: int) -> Incident:
    """It was last heard of a little before it was lost: the fault is told at most that much too early."""
    cause = f"orchestrator {presence.process} was lost"
    return _incident(presence, presence.at, cause, now, backlog_before)


def of_worker(lost: Lost, now: int, backlog_before: int) -> Incident:
    """It was called two seconds later at most: the fault is told at most that much too early."""
    return Incident(
        id=f"{lost.heard_at:020d}/{lost.name}",
        cause=f"worker {lost.name} was lost with {lost.tasks} task{'s' if lost.tasks != 1 else ''} in hand",
        fault_at=lost.heard_at,
        found_at=now,
        backlog_before=backlog_before,
        worker=lost.name,
        held=list(lost.held),
    )


def of_outage(presence: Presence, now: int, backlog_before: int) -> Incident:
    cause = f"orchestrator {presence.process} could not reach the store or the broker"
    return _incident(presence, presence.outage_at, cause, now, backlog_before)


def went_on(incident: Incident, attempts: Mapping[Attempt, int | None]) -> bool:
    """These, of what a lost worker held, have been begun again or answered, at that moment by somebody else; None: it
    had answered them itself. Whether that is news.
    """
    moments = [at for at in attempts.values() if at is not None]
    incident.held = [each for each in incident.held if each not in attempts]
    if moments:
        incident.progress_at = min([*moments, *([] if incident.progress_at is None else [incident.progress_at])])
    return bool(attempts)


def follow(incident: Incident, sight: Sight) -> bool:
    """Take in what is seen now; whether anything has changed."""
    before = msgspec.structs.astuple(incident)
    backlog = sight.backlog
    if backlog is not None:
        incident.backlog_most = max(incident.backlog_most, backlog)
    if incident.progress_at is None and not incident.held:
        incident.progress_at = _answered(incident, sight) if incident.worker else _progress(incident, sight)
    progress = incident.progress_at
    if progress is not None and not incident.over and not incident.held:
        if backlog is None:
            incident.drained_at = progress
        elif backlog <= incident.backlog_before + SLACK:
            incident.drained_at = max(sight.at, progress)
    return msgspec.structs.astuple(incident) != before


def _incident(presence: Presence, fault_at: int, cause: str, now: int, backlog_before: int) -> Incident:
    return Incident(
        id=f"{fault_at:020d}/{presence.process}",
        cause=cause,
        fault_at=fault_at,
        found_at=now,
        shards=list(presence.shards),
        backlog_before=backlog_before,
    )


def _answered(incident: Incident, sight: Sight) -> int | None:
    """Nobody knows what it had in hand at the end: when nothing of that time is left, or every lease is over."""
    none_left = sight.oldest_at is None or sight.oldest_at > incident.fault_at
    known = sight.backlog is not None and none_left
    return sight.at if known or sight.at - incident.fault_at > LEASES_OVER else None


def _progress(incident: Incident, sight: Sight) -> int | None:
    """When somebody served its shards again and had committed something; with nothing to do, when they were served."""
    fault = incident.fault_at
    if not set(incident.shards) <= {shard for each in sight.present for shard in each.shards}:
        return None
    took = [each for each in sight.present if each.served_since > fault] or sight.present
    progress = [each.first_progress_at for each in took if each.first_progress_at > fault]
    if progress:
        return min(progress)
    idle = sight.backlog == 0 and bool(took)
    return max(fault, *(each.served_since for each in took)) if idle else None
