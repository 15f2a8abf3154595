"""From when on a store's alerts tell somebody."""

from __future__ import annotations

import msgspec

from edow.kpi.alert import Thresholds
from edow.store.contract import Put, Store

KIND = "thresholds"
KEY = "default"


async def thresholds(store: Store) -> Thresholds:
    """Those that were set; else the defaults."""
    (record,) = await store.records_get(KIND, [KEY])
    return Thresholds() if record is None else msgspec.json.decode(record.body, type=Thresholds)


def put(given: Thresholds) -> Put:
    """What sets them. Raises InvalidInput."""
    return Put(KIND, KEY, msgspec.json.encode(given.checked()))
