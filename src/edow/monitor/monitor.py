"""Two loops: every two seconds this process's figures are stored, and one process at a time does what one can do for
all, however long that takes.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Protocol

from edow.background import Background
from edow.errors import EdowError, Unavailable
from edow.kpi.figures import Figures
from edow.kpi.incident import Out, Presence
from edow.kpi.meter import Meter
from edow.monitor import incidents
from edow.monitor.alerts import Announce, nobody
from edow.monitor.duties import SECOND, Duties
from edow.monitor.keeper import Keeper
from edow.monitor.lead import Lead
from edow.store.contract import Store
from edow.transport.contract import Transport

log = logging.getLogger("edow.monitor")

EVERY_SECONDS = 2.0
LEAVE_SECONDS = 5.0
OUT_SECONDS = 0.5  # a workflow that computes keeps nobody waiting who has to say that this process is here
SAME = 5 * SECOND  # both loops notice an outage
TOLD = 60 * SECOND  # an outage is told of for so long after its end


class Measured(Protocol):
    """Whoever is watched."""

    @property
    def meter(self) -> Meter: ...
    @property
    def shards(self) -> Mapping[int, int]: ...
    @property
    def topic_names(self) -> Sequence[str]: ...
    async def out(self) -> Out: ...


class Monitor:
    """Start and stop are idempotent. Stop it after whatever is measured, so that the last of it is stored."""

    def __init__(
        self,
        store: Store,
        transport: Transport,
        measured: Measured,
        now: Callable[[], int],
        name: str,
        announce: Announce = nobody,
    ) -> None:
        self.process = f"{name}:{secrets.token_hex(4)}"  # who starts again under the name is another
        self._store = store
        self._now = now
        self._measured = measured
        self._started_at = now()
        self._keeper = Keeper(store, measured.meter, self.process)
        self._lead = Lead(store, self.process)
        self._duties = Duties(store, transport, self._topics, announce)
        self._seen: Figures | None = None  # of the topics, not stored yet
        self._out = Out()  # as last known
        self._outage_at = 0
        self._outage_until = 0
        self.more_topics: Callable[[], Iterable[str]] = tuple  # to look at, besides those that the measured knows
        self._background = Background(
            ("edow-report", lambda: self._forever(self.report_once)),
            ("edow-oversee", lambda: self._forever(self.oversee_once)),
        )

    @property
    def total(self) -> Figures:
        """What this process has counted since it began."""
        return self._keeper.total

    async def start(self) -> None:
        self._background.start()

    async def stop(self) -> None:
        if not await self._background.stop():
            return
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                await self._keeper.flush(self._now(), also=[incidents.gone(self.process)])
                await self._lead.let_go(self._now())
        except (Unavailable, TimeoutError) as problem:
            log.warning("the last figures are not stored: %r", problem)

    async def run_once(self) -> None:
        """Everything that is due. Raises Unavailable."""
        await self.report_once()
        await self.oversee_once()

    async def report_once(self) -> None:
        """Store what this process has counted, and that it is here."""
        now = self._now()
        await self._look_what_waits()
        seen, self._seen = self._seen, None
        await self._keeper.flush(now, seen, also=[incidents.here(self._presence(now))])

    async def oversee_once(self) -> None:
        """What one process is enough for, if it is this one."""
        if await self._lead.held(self._now()):
            self._seen = await self._duties.run_once(self._now())

    async def _look_what_waits(self) -> None:
        try:
            async with asyncio.timeout(OUT_SECONDS):
                self._out = await self._measured.out()
        except TimeoutError:
            pass

    def _topics(self) -> list[str]:
        return [*self._measured.topic_names, *self.more_topics()]

    def _presence(self, now: int) -> Presence:
        meter = self._measured.meter
        return Presence(
            process=self.process,
            at=now,
            started_at=self._started_at,
            shards=sorted(self._measured.shards),
            served_since=meter.served_since,
            first_progress_at=meter.first_progress_at,
            progress_at=meter.progress_at,
            outage_at=self._outage_at if now < self._outage_until + TOLD else 0,
            heard_at=meter.heard_at,
            unbegun=dict(self._out.unbegun),
            unanswered=dict(self._out.unanswered),
            served=self._duties.served(now),
        )

    async def _forever(self, once: Callable[[], Awaitable[None]]) -> None:
        away = False
        while True:
            try:
                await once()
                away = False
            except Unavailable as problem:
                self._note_outage(begins=not away)
                away = True
                log.warning("figures are late: %s", problem)
            except EdowError as problem:
                log.warning("figures: %s", problem)
            except Exception:
                log.exception("figures")
            await asyncio.sleep(EVERY_SECONDS)

    def _note_outage(self, *, begins: bool) -> None:
        """The store, or the broker, does not answer; the first commit after this is progress."""
        now = self._now()
        if begins and now >= self._outage_until + SAME:
            self._outage_at = now
            self._measured.meter.watch()
        self._outage_until = now
