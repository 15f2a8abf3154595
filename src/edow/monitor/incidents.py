"""Who is here, who was lost, and how long it took until work went on and was done.

Orchestrators say every two seconds that they are here, and take it back when they stop; one that did neither was lost.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from edow.errors import RecordChanged
from edow.kpi.incident import Attempt, Incident, Lost, Presence, Sight, follow, of_lost, of_outage, of_worker, went_on
from edow.model import history
from edow.monitor import reading
from edow.monitor.keeper import KIND as FIGURES
from edow.store.contract import Put, RecordFilter, Store

KIND = "incident"
PRESENT = "up/"
LIMIT = 1000
LATEST = 50  # incidents among which open ones are looked for
SECOND = 1_000_000
PATIENCE = 10 * SECOND  # until somebody who says nothing counts as lost
CALM = 60 * SECOND  # before a fault: how much waits then is usual
FOLLOWED = 86_400 * SECOND  # what has not recovered after a day never did
KEEP_US = 90 * 86_400 * SECOND

ANSWERS = history.TaskStarted | history.TaskCompleted | history.AttemptFailed | history.TaskFailed | history.TaskParked

_presence = msgspec.json.Decoder(Presence).decode
_incident = msgspec.json.Decoder(Incident).decode


def here(presence: Presence) -> Put:
    """To be stored with something else."""
    body = msgspec.json.encode(presence)
    return Put(FIGURES, PRESENT + presence.process, body, None, presence.at + 86_400 * SECOND, quiet=True)


def gone(process: str) -> Put:
    return Put(FIGURES, PRESENT + process, None, quiet=True)


async def orchestrators(store: Store) -> list[Presence]:
    """All that are here, or were until a moment ago."""
    return [_presence(record.body) for record in await store.records_list(RecordFilter(FIGURES, PRESENT, limit=LIMIT))]


async def incidents(store: Store, limit: int = 100) -> list[Incident]:
    """The latest first."""
    found = await store.records_list(RecordFilter(KIND, descending=True, limit=limit))
    return [_incident(record.body) for record in found]


async def open_new(store: Store, present: Sequence[Presence], now: int) -> None:
    """An incident for whoever was lost, and for each outage that somebody tells of."""
    for each in present:
        if now - each.at > PATIENCE:
            await _open(store, of_lost(each, now, await _usual(store, each.at)), now, [gone(each.process)])
    told = [each for each in present if each.outage_at and now - each.at <= PATIENCE]
    if told:
        first = min(told, key=lambda each: each.outage_at)
        await _open(store, of_outage(first, now, await _usual(store, first.outage_at)), now)


async def open_lost(store: Store, lost: Sequence[Lost], now: int) -> None:
    """An incident for each worker."""
    for each in lost:
        await _open(store, of_worker(each, now, await _usual(store, each.heard_at)), now)


async def open_ones(store: Store, now: int) -> bool:
    """Whether any incident of the last day is not over."""
    return any(not each.over and now - each.fault_at < FOLLOWED for each in await incidents(store, LATEST))


async def follow_all(store: Store, sight: Sight) -> None:
    """What is seen now, for all that are not over."""
    for record in await store.records_list(RecordFilter(KIND, descending=True, limit=LATEST)):
        incident = _incident(record.body)
        if incident.over:
            continue
        gone_on = {each: at for each in incident.held if (at := await _went_on(store, incident, each)) != 0}
        if went_on(incident, gone_on) | follow(incident, sight):
            await _put(
                store, Put(KIND, record.key, msgspec.json.encode(incident), record.version, _end(incident)), sight.at
            )


async def _went_on(store: Store, incident: Incident, held: Attempt) -> int | None:
    """When somebody else began or answered it, or its execution ended; 0: not yet; None: the lost one had answered."""
    events = [
        event
        for segment in await store.history_get(held.execution, held.run)
        for event in history.decoder.decode(segment)
        if event.at > incident.fault_at
    ]
    for event in events:
        if isinstance(event, ANSWERS) and event.step == held.step:
            if event.worker != incident.worker:
                return event.at
            if not isinstance(event, history.TaskStarted):
                return None
        if isinstance(event, history.End) or (isinstance(event, history.StepCancelled) and event.step == held.step):
            return event.at
    return 0


async def _open(store: Store, incident: Incident, now: int, more: Sequence[Put] = ()) -> None:
    """Once, whoever finds it."""
    put = Put(KIND, incident.id, msgspec.json.encode(incident), 0, _end(incident))
    try:
        await store.records_put([put, *more], now)
    except RecordChanged:
        pass


async def _put(store: Store, put: Put, now: int) -> None:
    try:
        await store.records_put([put], now)
    except RecordChanged:
        pass  # another monitor has seen as much


async def _usual(store: Store, at: int) -> int:
    """How many messages waited before that moment."""
    figures = await reading.figures(store, at - CALM, at)
    return sum(lag.waiting for lag in figures.lag.values())


def _end(incident: Incident) -> int:
    return incident.fault_at + KEEP_US
