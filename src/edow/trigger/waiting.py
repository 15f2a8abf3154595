"""Signals that came before their execution: delivered once it has started, and given up when their time is over."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from edow.errors import NotAccepted, RecordChanged
from edow.model.execution import ENDED, Execution
from edow.store.contract import Put, Record, RecordFilter, Store
from edow.trigger.action import EVENTS, KEPT, Family, Kept
from edow.trigger.tally import Tally

PAGE = 500


class Waiting:
    """Of one process; what it knows is in the store."""

    def __init__(self, store: Store, clock: Callable[[], int], tallies: dict[Family, Tally]) -> None:
        self._store = store
        self._clock = clock
        self._tallies = tallies
        self.any = False  # whether there was one at the last look

    async def deliver_once(self) -> int:
        """Look at all of them; how many were delivered. Each with the deletion of its record, in one transaction."""
        delivered = 0
        self.any = False
        after: str | None = None
        while page := await self._store.records_list(RecordFilter(EVENTS, KEPT, after, limit=PAGE)):
            self.any = True
            delivered += await self._deliver(page)
            if len(page) < PAGE:
                break
            after = page[-1].key
        return delivered

    async def _deliver(self, page: list[Record]) -> int:
        kept = [msgspec.json.decode(record.body, type=Kept) for record in page]
        rows = await self._store.executions_get([each.execution for each in kept])
        delivered = 0
        for record, each, row in zip(page, kept, rows, strict=True):
            if row is not None or each.until <= self._clock():
                delivered += await self._settle(record, each, row)
        return delivered

    async def _settle(self, record: Record, kept: Kept, row: Execution | None) -> bool:
        runs = row is not None and row.status not in ENDED
        gone = Put(EVENTS, record.key, None, record.version)
        try:
            requests = [kept.request()] if runs else []
            await self._store.records_put([gone], self._clock(), requests, all_or_nothing=True)
        except (RecordChanged, NotAccepted):
            return False  # another process was quicker; or it has ended just now, and the next look will find that
        self._tallies[kept.family].add(kept.name, "delivered" if runs else "unmatched", kept.execution)
        return runs
