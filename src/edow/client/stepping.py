"""The loop of whatever is done in many small steps and survives any crash: its state is a record, and a step writes it.

A step belongs to whoever writes the record first; the others have done nothing. So any number of these may run at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import ClassVar

from edow.errors import InvalidInput, Unavailable
from edow.store.contract import Record, RecordFilter, Store

log = logging.getLogger("edow.client")

IDLE_SECONDS = 1.0


class Stepping:
    """Start and stop are idempotent; `run_once` takes everything a step further, for those who drive it themselves."""

    kind: ClassVar[str]  # of the records
    what: ClassVar[str]  # for people
    busy_seconds: ClassVar[float]  # between two steps, while there is something to do

    def __init__(self, store: Store, clock: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name=f"edow-{self.kind}")

    async def stop(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def run_once(self) -> int:
        """How many are not over. Raises Unavailable."""
        records = await self._store.records_list(RecordFilter(self.kind))
        unfinished = [each for each in records if not self._is_over(each)]
        for record in unfinished:
            await self._advance(record)
        return len(unfinished)

    def _is_over(self, record: Record) -> bool:
        raise NotImplementedError

    async def _advance(self, record: Record) -> None:
        raise NotImplementedError

    async def _run(self) -> None:
        while True:
            try:
                busy = await self.run_once()
            except (Unavailable, InvalidInput) as problem:
                log.warning("%s were not gone on with: %s; they will be", self.what, problem)
                busy = 0
            await asyncio.sleep(self.busy_seconds if busy else IDLE_SECONDS)
