"""The quiet work: far timers come near, stuck executions are found, healed and counted, old ones leave.

Nothing here is needed for an ordinary execution to finish; it is the net below. Each duty has a `..._once` that tests
call.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import msgspec

from edow.errors import InvalidInput, StoreUnavailable, Unavailable
from edow.model import topics
from edow.orchestrator.config import OrchestratorConfig
from edow.orchestrator.cycle import UNREADABLE, Cycle, poison_letter
from edow.orchestrator.edges import Edges
from edow.orchestrator.inputs import Inputs
from edow.orchestrator.persist import UNASKED, unasked
from edow.store.contract import Commit, DeadLetter
from edow.transport.contract import Delivery, Subscription, TopicSpec

log = logging.getLogger("edow.orchestrator")

PAGE = 1000  # rows looked at in one go
SMALLER = 10  # a page that did not get through is divided by this
POISON_LEASE_SECONDS = 15.0  # nobody waits for what is wrong with a message
SOON_SECONDS = 1.0  # until a duty that was interrupted goes on


class PoisonReport(msgspec.Struct):
    """What a worker says about bytes that it could not read."""

    topic: str
    reason: str
    body: bytes


class Housekeeper:
    """Runs its duties at their intervals; an unavailable store or broker is tried again at the next."""

    def __init__(self, edges: Edges, cycle: Cycle, inputs: Inputs, config: OrchestratorConfig) -> None:
        self._store, self._transport, self._now, _ = edges
        self._cycle = cycle
        self._inputs = inputs
        self._config = config
        self._page = PAGE  # executions deleted at once

    async def run(self) -> None:
        """For ever."""
        config = self._config
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look_ahead_forever())
            group.create_task(self._every(config.reconcile_every, self.reconcile_once))
            group.create_task(self._every(config.purge_every, self.purge_once))
            group.create_task(self._collect_poison_forever())

    async def look_ahead(self) -> bool:
        """Take the wake-ups within the horizon into memory, the earliest first; True if there may be more of them."""
        shards = tuple(self._cycle.leases)
        if not shards:
            return False
        until = self._now() + int(self._config.horizon * 1_000_000)
        rows = await self._store.due_read(shards, until, 10 * PAGE)
        self._inputs.wake((at, execution) for execution, at in rows)
        return len(rows) == 10 * PAGE

    async def reconcile_once(self) -> int:
        """Wake executions that should have been woken long ago; how many there were."""
        shards = tuple(self._cycle.leases)
        if not shards:
            return 0
        stalled = await self._store.stalled(shards, self._now(), PAGE)
        stalled = [execution for execution in stalled if not self._inputs.knows(execution)]
        if stalled:
            log.warning("healing %d executions that made no progress, first %s", len(stalled), stalled[0])
            self._cycle.stats.healed += len(stalled)
            self._inputs.wake((0, execution) for execution in stalled)
            await self._store.count_healed(len(stalled))
        return len(stalled)

    async def purge_once(self) -> int:
        """Delete executions that ended before the retention, letters of none that are old, and records that have
        expired; how many executions.
        """
        before = self._now() - int(self._config.retention * 1_000_000)
        total = 0
        while (purged := await self._purge(self._store.purge, before)) > 0:
            total += purged
            self._cycle.stats.purged += purged
        failed_before = self._now() - int(self._config.letter_retention * 1_000_000)
        while await self._purge(self._store.dead_letters_purge, failed_before) > 0:
            pass
        while await self._store.records_purge(self._now(), PAGE) == PAGE:
            pass
        return total

    async def _purge(self, verb: Callable[[int, int], Awaitable[int]], before: int) -> int:
        """One page. What takes longer than the store waits comes to nothing, so the next try is for less: as large a
        page would never get through, and nothing would ever leave.
        """
        while True:
            try:
                purged = await verb(before, self._page)
            except StoreUnavailable as problem:
                if self._page == 1:
                    raise
                self._page = max(1, self._page // SMALLER)
                log.warning("retention: %s; trying %d executions at once", problem, self._page)
            else:
                self._page = min(PAGE, 2 * self._page)
                return purged

    async def _look_ahead_forever(self) -> None:
        more = True  # the first look, when shards were taken, may not have seen all
        while True:
            await asyncio.sleep(min(SOON_SECONDS if more else self._config.horizon, self._config.horizon / 2))
            try:
                more = await self.look_ahead()
            except Unavailable as problem:
                log.warning("timers were not looked at: %s", problem)

    async def _every(self, seconds: float, duty: Callable[[], Awaitable[object]]) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await duty()
            except Unavailable as problem:
                log.warning("housekeeping: %s", problem)

    async def _collect_poison_forever(self) -> None:
        while True:
            try:
                await self._collect_poison()
            except asyncio.CancelledError:
                if not unasked():
                    raise
                log.warning("dead letters of no execution were not collected: %s", UNASKED)
            except (Unavailable, InvalidInput) as problem:
                log.warning("dead letters of no execution were not collected: %s", problem)
            await asyncio.sleep(SOON_SECONDS)

    async def _collect_poison(self) -> None:
        """Store what workers could not read as dead letters of no execution."""
        await self._transport.ensure([TopicSpec(topics.DEAD, topics.groups_of(topics.DEAD))])
        subscriber = await self._transport.subscribe(
            Subscription(
                topics=(topics.DEAD,),
                group=topics.ORCHESTRATORS,
                member=self._config.name,
                lease_seconds=POISON_LEASE_SECONDS,
            )
        )
        try:
            while True:
                deliveries = await subscriber.receive(100, 5.0)
                if deliveries:
                    await self._bury(deliveries)
                    await subscriber.ack(deliveries)
        finally:
            await subscriber.close()

    async def _bury(self, deliveries: list[Delivery]) -> None:
        once = {delivery.body: delivery for delivery in deliveries}  # a report that came twice tells of one message
        letters = [_letter(delivery, self._now()) for delivery in once.values()]
        self._cycle.stats.poison += len(letters)
        self._cycle.meter.figures.poison += len(letters)
        await self._store.commit(Commit(leases={}, dead_letters=letters))


def _letter(delivery: Delivery, now: int) -> DeadLetter:
    """A worker reports poison as JSON {topic, reason, base64}; anything else on that topic is poison itself."""
    try:
        report = msgspec.json.decode(delivery.body, type=PoisonReport)
    except UNREADABLE as problem:
        return poison_letter(delivery.body, delivery.topic, str(problem), now)
    return poison_letter(report.body, report.topic, report.reason, now)
