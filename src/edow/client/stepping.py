"""The loop of whatever is done in many small steps and survives any crash: its state is a record, and a step writes it.

A step belongs to whoever writes the record first; the others have done nothing. So any number of these may run at once.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from typing import ClassVar

from edow.background import LONG_SECONDS, SHORT_SECONDS, Background
from edow.errors import Unavailable
from edow.store.contract import Record, RecordFilter, Store
from edow.trigger.watching import on_records

log = logging.getLogger("edow.client")


class Stepping:
    """Start and stop are idempotent; `run_once` takes everything a step further, for those who drive it themselves."""

    kind: ClassVar[str]  # of the records
    what: ClassVar[str]  # for people
    busy_seconds: ClassVar[float]  # between two steps, while there is something to do

    def __init__(self, store: Store, clock: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock
        self._troubled = False  # one was not gone on with
        self._background = Background((f"edow-{self.kind}", self._run))

    async def start(self) -> None:
        self._background.start()

    async def stop(self) -> None:
        await self._background.stop()

    async def run_once(self) -> int:
        """How many were gone on with. Raises Unavailable; what else is wrong with one holds up none of the others."""
        count = 0
        self._troubled = False
        async for record in self._records():
            try:
                if self._is_over(record):
                    continue
                await self._advance(record)
            except Unavailable:
                raise
            except Exception:
                self._troubled = True
                log.exception("%s %s was not gone on with; trying again", self.kind, record.key)
            else:
                count += 1
        return count

    async def _records(self) -> AsyncIterator[Record]:
        """Page by page: those that are over are kept for a while, and the newest come last."""
        where = RecordFilter(self.kind)
        while records := await self._store.records_list(where):
            for record in records:
                yield record
            if len(records) < where.limit:
                break
            where = RecordFilter(self.kind, after=records[-1].key)

    def _is_over(self, record: Record) -> bool:
        raise NotImplementedError

    async def _advance(self, record: Record) -> None:
        raise NotImplementedError

    async def _run(self) -> None:
        trouble = f"{self.what} were not gone on with"
        await on_records(self._store, self.run_once, trouble, self._rest)

    def _rest(self, count: int) -> float:
        if count:
            return self.busy_seconds
        return SHORT_SECONDS if self._troubled else LONG_SECONDS
