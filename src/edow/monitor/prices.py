"""The price list of a store."""

from __future__ import annotations

import msgspec

from edow.errors import InvalidInput
from edow.kpi.cost import Prices
from edow.store.contract import Put, Store

KIND = "price"
KEY = "default"


async def prices(store: Store) -> Prices | None:
    """None: nobody has set one."""
    (record,) = await store.records_get(KIND, [KEY])
    return None if record is None else msgspec.json.decode(record.body, type=Prices)


def put(given: Prices) -> Put:
    """What sets it. Raises InvalidInput."""
    for name in ("worker_hour", "million_messages", "gigabyte"):
        value = getattr(given, name)
        if not 0 <= value < float("inf"):
            raise InvalidInput(f"{name}={value!r} is not a price: give a number that is not negative")
    if len(given.currency) > 10:
        raise InvalidInput(f"currency={given.currency!r} is too long: give at most 10 characters, like EUR")
    return Put(KIND, KEY, msgspec.json.encode(given))
