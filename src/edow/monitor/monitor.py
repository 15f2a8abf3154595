"""The loop: every two seconds figures are stored; one process at a time also merges them and looks at the topics."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence

from edow.errors import EdowError, InvalidInput, Unavailable
from edow.kpi.figures import Figures
from edow.monitor import topics
from edow.monitor.compactor import Compactor
from edow.monitor.keeper import Keeper, Meter
from edow.monitor.lead import Lead
from edow.store.contract import Store
from edow.transport.contract import Transport

log = logging.getLogger("edow.monitor")

SECOND = 1_000_000
EVERY_SECONDS = 2.0
LOOK_SECONDS = 5.0  # between two looks at the topics
MERGE_SECONDS = 30.0
LEAVE_SECONDS = 5.0


class Monitor:
    """Start and stop are idempotent. Stop it after whatever is measured, so that the last of it is stored."""

    def __init__(
        self,
        store: Store,
        transport: Transport,
        meter: Meter,
        now: Callable[[], int],
        name: str,
        topic_names: Sequence[str],
    ) -> None:
        process = f"{name}:{secrets.token_hex(4)}"  # who starts again under the name is another
        self._transport = transport
        self._now = now
        self._topic_names = topic_names
        self._keeper = Keeper(store, meter, process)
        self._compactor = Compactor(store)
        self._lead = Lead(store, process)
        self._looked_at = 0
        self._merged_at = 0
        self._running: asyncio.Task[None] | None = None

    @property
    def total(self) -> Figures:
        """What this process has counted since it began."""
        return self._keeper.total

    async def start(self) -> None:
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name="edow-monitor")

    async def stop(self) -> None:
        running, self._running = self._running, None
        if running is None:
            return
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                await self._keeper.flush(self._now())
                await self._lead.let_go(self._now())
        except (Unavailable, TimeoutError) as problem:
            log.warning("the last figures are not stored: %r", problem)

    async def run_once(self) -> None:
        """Everything that is due."""
        now = self._now()
        if not await self._lead.held(now):
            await self._keeper.flush(now)
            return
        await self._keeper.flush(now, await self._look(now))
        if now >= self._merged_at + int(MERGE_SECONDS * SECOND):
            self._merged_at = now
            await self._compactor.run_once(now)

    async def _look(self, now: int) -> Figures | None:
        if now < self._looked_at + int(LOOK_SECONDS * SECOND):
            return None
        self._looked_at = now
        try:
            return await topics.look(self._transport, self._topic_names, now)
        except (Unavailable, InvalidInput) as problem:  # the latter: somebody has deleted a topic
            log.warning("the topics were not looked at: %s", problem)
            return None

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            try:
                await self.run_once()
            except EdowError as problem:
                log.warning("figures: %s; tried again", problem)
