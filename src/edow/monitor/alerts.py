"""Keeps alerts: those that hold, under `open/`; those that held, for 90 days, under `past/`.

Each transition is one transaction against the version that was read, so that among several monitors exactly one makes
it, and whoever is told of it is told once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from edow.errors import RecordChanged
from edow.kpi.alert import Alert, Condition
from edow.model.times import rfc3339
from edow.store.contract import Put, Record, RecordFilter, Store

log = logging.getLogger("edow.monitor")

KIND = "alert"
OPEN = "open/"
PAST = "past/"
LIMIT = 1000
KEEP_US = 90 * 86_400 * 1_000_000

Announce = Callable[[str, Mapping[str, object], str], Sequence[Put]]
"""From the type of what is told, its data and its id to what tells it: a part of the transition's transaction."""

_decode = msgspec.json.Decoder(Alert).decode


def nobody(type: str, data: Mapping[str, object], id: str) -> Sequence[Put]:
    """Is told."""
    return ()


async def update(store: Store, conditions: Iterable[Condition], now: int, announce: Announce = nobody) -> list[Alert]:
    """Open an alert for each condition that is new, close those whose conditions hold no more; all that changed."""
    holding = {each.name: each for each in conditions}
    stored = await store.records_list(RecordFilter(KIND, OPEN, limit=LIMIT))
    known = {record.key.removeprefix(OPEN) for record in stored}
    changed = [await _open(store, each, now, announce) for name, each in holding.items() if name not in known]
    gone = [record for record in stored if record.key.removeprefix(OPEN) not in holding]
    changed += [await _close(store, record, now, announce) for record in gone]
    return [alert for alert in changed if alert is not None]


async def alerts(store: Store, limit: int = 100) -> tuple[list[Alert], list[Alert]]:
    """Those that hold, and those that held, the latest first."""
    holding = await store.records_list(RecordFilter(KIND, OPEN, limit=LIMIT))
    held = await store.records_list(RecordFilter(KIND, PAST, descending=True, limit=limit))
    return [_decode(each.body) for each in holding], [_decode(each.body) for each in held]


async def _open(store: Store, condition: Condition, now: int, announce: Announce) -> Alert | None:
    alert = Alert(
        id=f"{now:020d}/{condition.name}",
        kind=condition.kind,
        subject=condition.subject,
        severity=condition.severity,
        message=condition.message,
        since=now,
    )
    opened = Put(KIND, OPEN + condition.name, msgspec.json.encode(alert), 0)
    return await _put(store, [opened, *announce("alert.opened", _told(alert), f"{alert.id}/opened")], alert, now)


async def _close(store: Store, record: Record, now: int, announce: Announce) -> Alert | None:
    alert = _decode(record.body)
    alert.until = now
    puts = [
        Put(KIND, record.key, None, record.version),
        Put(KIND, PAST + alert.id, msgspec.json.encode(alert), None, now + KEEP_US),
        *announce("alert.over", _told(alert), f"{alert.id}/over"),
    ]
    return await _put(store, puts, alert, now)


async def _put(store: Store, puts: Sequence[Put], alert: Alert, now: int) -> Alert | None:
    try:
        await store.records_put(puts, now)
    except RecordChanged:
        return None  # another monitor was quicker
    if alert.until is None:
        log.warning("alert: %s %s: %s", alert.kind, alert.subject, alert.message)
    else:
        log.info("alert over: %s %s", alert.kind, alert.subject)
    return alert


def _told(alert: Alert) -> dict[str, object]:
    until = None if alert.until is None else rfc3339(alert.until)
    return msgspec.structs.asdict(alert) | {"since": rfc3339(alert.since), "until": until}
