"""The loops of whatever acts on records: they rest until there is something to do, or until any record is written."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from edow.background import SHORT_SECONDS, forever
from edow.store.contract import Store

T = TypeVar("T")


async def on_records(store: Store, once: Callable[[], Awaitable[T]], trouble: str, rest: Callable[[T], float]) -> None:
    """`once` again and again, as far apart as `rest` makes of its answer, in seconds; news end what is long of that."""
    await forever(once, trouble, SHORT_SECONDS, rest, lambda: store.watch("records"))
