"""One subscription: receives for the floor, acknowledges for the publisher, renews leases.

Tasks that run in the same kinds of places share a lane, so that slow threads do not hold up async tasks of
other topics.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Sequence

from edow.errors import Closed, EdowError, Unavailable
from edow.transport.contract import Delivery, Subscriber
from edow.worker.attempt import Held
from edow.worker.config import WorkerConfig
from edow.worker.floor import Floor
from edow.worker.runner import Kind

PAUSE_SECONDS = 0.5  # after an error of the transport

log = logging.getLogger("edow.worker")


class Lane:
    """Reads with one subscriber. `room` is set by the floor when there may be room for more."""

    def __init__(
        self,
        subscriber: Subscriber,
        kinds: Collection[Kind],
        floor: Floor,
        config: WorkerConfig,
        ensure: Callable[[], Awaitable[None]],
    ) -> None:
        """`ensure` makes the topics again that somebody has deleted."""
        self.subscriber = subscriber
        self._ensure = ensure
        self.room = asyncio.Event()
        self._kinds = kinds
        self._floor = floor
        self._config = config
        self._unacknowledged: list[Delivery] = []  # done, but the broker could not be told yet
        self.received = 0

    async def run(self) -> None:
        """Until the worker is closing or the subscriber is closed."""
        while not self._floor.closing:
            try:
                await self.run_once()
            except Closed:
                return
            except Unavailable as error:
                log.warning("cannot receive tasks, next try in %.1f s: %s", PAUSE_SECONDS, error)
                await self._recover()
            except Exception:
                log.exception("receiving tasks failed in an unexpected way")
                await self._recover()

    async def _recover(self) -> None:
        await asyncio.sleep(PAUSE_SECONDS)
        try:
            await self._ensure()
        except EdowError as error:
            log.debug("topics could not be made sure of: %s", error)
        except Exception:  # out of here it would end the lane
            log.exception("making sure of topics failed in an unexpected way")

    async def run_once(self) -> None:
        """Wait for room, then for messages; begin with them."""
        self.room.clear()  # before looking: whatever there is room for, or is left, from here on ends the wait
        await self.nack(self._floor.take_left(self))
        limit = self._floor.room(self._kinds)
        if limit <= 0:
            await self.room.wait()
            return
        deliveries = await self.subscriber.receive(limit, self._config.wait_seconds)
        self.received += len(deliveries)
        if self._floor.closing:
            await self.nack(deliveries)
        elif postponed := self._floor.take(self, deliveries):
            await self.nack(postponed, self._config.unknown_task_seconds)

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Done with. What the broker cannot be told now it is told with the next ones."""
        pending = [*self._unacknowledged, *deliveries]
        self._unacknowledged = []
        try:
            await self.subscriber.ack(pending)
        except Closed:
            log.warning("%d finished tasks could not be acknowledged: subscriber closed; they run again", len(pending))
        except Unavailable as error:
            self._unacknowledged = pending
            log.warning("%d finished tasks could not be acknowledged yet: %s", len(pending), error)

    async def nack(self, deliveries: Sequence[Delivery], delay_seconds: float = 0.0) -> None:
        """Hand back. If the broker cannot be told, their leases run out instead."""
        if not deliveries:
            return
        try:
            await self.subscriber.nack(deliveries, delay_seconds)
        except Unavailable as error:
            log.warning("%d tasks could not be handed back, their leases will run out: %s", len(deliveries), error)

    async def renew(self, held: Sequence[Held]) -> None:
        """The leases of these start anew. A delivery that is lost is somebody else's now; ours goes on all the same."""
        now = time.monotonic()
        try:
            lost = await self.subscriber.extend([delivery for one in held for delivery in one.deliveries])
        except Unavailable as error:
            log.warning("cannot renew the leases of %d tasks: %s", len(held), error)
            return
        gone = {id(delivery) for delivery in lost}
        for one in held:
            one.renewed_at = now
            if gone and self._floor.holds(one):  # else it was answered meanwhile, and is acknowledged rather than lost
                self._forget_lost(one, gone)

    def _forget_lost(self, held: Held, gone: set[int]) -> None:
        kept = [delivery for delivery in held.deliveries if id(delivery) not in gone]
        if len(kept) < len(held.deliveries):
            held.deliveries[:] = kept
            event = held.event
            about = {"execution": event.executionid, "correlation": event.correlationid, "step": event.step}
            log.warning("the lease of step %s of execution %s was lost", event.step, event.executionid, extra=about)
