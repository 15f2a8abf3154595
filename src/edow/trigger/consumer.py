"""Reads one trigger's topic: every message is applied once and then acknowledged, or becomes a dead letter.

Acknowledged is only what is on disk. A process that dies in between leaves messages to be delivered again, and their
claims say that they were applied.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from edow.background import Background, is_stopping
from edow.errors import Unavailable
from edow.kpi.meter import Meter
from edow.store.contract import Store
from edow.transport.contract import Delivery, Subscriber, Subscription, TopicSpec, Transport
from edow.trigger.action import Applier
from edow.trigger.events import Compiled, Event, Trigger
from edow.trigger.gathering import Gatherer
from edow.trigger.poison import SOURCE, Buried, bury, said
from edow.trigger.tally import Tally

log = logging.getLogger("edow.trigger")

LIMIT = 200  # messages taken together
AT_ONCE = 32  # executions written to at the same time: they share transactions
WAIT_SECONDS = 1.0
LEASE_SECONDS = 4.0  # as a worker's: for so long the messages of a process that was killed are kept from others
PAUSES = (0.2, 5.0)  # after trouble: first and longest


class Consumer:
    """Of one trigger, in one process. Start and stop are idempotent."""

    def __init__(
        self,
        trigger: Trigger,
        transport: Transport,
        store: Store,
        clock: Callable[[], int],
        tally: Tally,
        meter: Meter,
    ) -> None:
        """Raises InvalidInput for a definition of a release that allowed more."""
        self.trigger = trigger
        self._compiled = Compiled(trigger)
        self._transport = transport
        self._store = store
        self._clock = clock
        self._tally = tally
        self._meter = meter
        self._applier = Applier(store, clock)
        self._gatherer = Gatherer(store, clock, tally)
        self._subscriber: Subscriber | None = None
        self._background = Background((f"edow-trigger-{trigger.name}", self._run))

    async def start(self) -> None:
        """Begin to read."""
        self._background.start()

    async def stop(self) -> None:
        """What was not acknowledged goes to others."""
        await self._background.stop()

    async def open(self) -> None:
        """Make the topic and the group known; what is published from now on is read. Raises Unavailable."""
        trigger = self.trigger
        await self._transport.ensure([TopicSpec(trigger.topic, (trigger.consumer_group,))])
        self._subscriber = await self._transport.subscribe(
            Subscription(topics=(trigger.topic,), group=trigger.consumer_group, lease_seconds=LEASE_SECONDS)
        )

    async def close(self) -> None:
        """Give back what was not acknowledged."""
        subscriber, self._subscriber = self._subscriber, None
        if subscriber is not None:
            await subscriber.close()

    async def run_once(self, wait_seconds: float) -> int:
        """Take what there is, apply it, acknowledge it; how many there were. Raises Unavailable: then nothing was lost,
        and what was applied will be known.
        """
        assert self._subscriber is not None
        deliveries = await self._subscriber.receive(LIMIT, wait_seconds)
        if not deliveries:
            return 0
        renewing = asyncio.create_task(self._renew(self._subscriber, deliveries))
        try:
            await self._apply(deliveries)
        except BaseException:
            await self._give_back(self._subscriber, deliveries)
            raise
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
        await self._subscriber.ack(deliveries)
        self._meter.received(self.trigger.topic, len(deliveries), sum(len(each.body) for each in deliveries))
        return len(deliveries)

    async def _apply(self, deliveries: Sequence[Delivery]) -> None:
        """In order for each execution; different ones at the same time."""
        work: dict[str, list[tuple[Delivery, Event]]] = {}
        for delivery in deliveries:
            try:
                event = self._compiled.event(delivery)
                if event is None:
                    self._tally.add(self.trigger.name, "filtered")
                    continue
                key = self._compiled.key(event)
            except Exception as problem:  # whatever it is, those behind it must not wait for ever
                await self._bury(delivery, problem)
                continue
            work.setdefault(key, []).append((delivery, event))
        gate = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for key, events in work.items():
                group.create_task(self._apply_to(key, events, gate))

    async def _apply_to(self, key: str, events: Sequence[tuple[Delivery, Event]], gate: asyncio.Semaphore) -> None:
        async with gate:
            if self.trigger.gathers:
                await self._gather(key, events)
                return
            for delivery, event in events:
                try:
                    claim = self._compiled.claim(event, self._clock())
                    intent = self._compiled.plan.intent(event.context, key, event.trace)
                    result = await self._applier.apply(intent, claim)
                except Unavailable:
                    raise
                except Exception as problem:
                    await self._bury(delivery, problem)
                else:
                    self._tally.add(self.trigger.name, result.outcome, result.execution)

    async def _gather(self, key: str, events: Sequence[tuple[Delivery, Event]]) -> None:
        try:
            outcomes = await self._gatherer.add(self._compiled, [event for _, event in events], key)
        except Unavailable:
            raise
        except Exception as problem:
            for delivery, _ in events:
                await self._bury(delivery, problem)
        else:
            for outcome in outcomes:
                self._tally.add(self.trigger.name, outcome, key)

    async def _bury(self, delivery: Delivery, problem: Exception) -> None:
        log.warning("trigger %s: a message became a dead letter: %s", self.trigger.name, type(problem).__name__)
        name = self.trigger.name
        what = Buried(
            f"{SOURCE}{name}", f"trigger {name}, topic {delivery.topic}", delivery.body, delivery.topic, delivery.key
        )
        await bury(self._store, what, said(problem), self._clock())
        self._tally.add(self.trigger.name, "poison", detail=type(problem).__name__)

    async def _give_back(self, subscriber: Subscriber, deliveries: Sequence[Delivery]) -> None:
        """What goes wrong with that must not take the place of why: a cancellation would be heard by nobody."""
        try:
            await subscriber.nack(deliveries)
        except Exception as problem:
            name, count = self.trigger.name, len(deliveries)
            log.warning("trigger %s: %d messages not given back, their leases will run out: %s", name, count, problem)

    async def _renew(self, subscriber: Subscriber, deliveries: Sequence[Delivery]) -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            try:
                await subscriber.extend(deliveries)
            except Unavailable as problem:
                log.warning("trigger %s: leases not renewed, trying again: %s", self.trigger.name, problem)

    async def _run(self) -> None:
        pause, longest = PAUSES
        try:
            while not is_stopping():
                try:
                    if self._subscriber is None:
                        await self.open()
                    await self.run_once(WAIT_SECONDS)
                    pause = PAUSES[0]
                except Exception as problem:  # a topic may be gone, a right taken away: some day it is back
                    log.warning("trigger %s: %s; trying again in %.2g s", self.trigger.name, _first(problem), pause)
                    await self._close_quietly()
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, longest)
        finally:
            await self._close_quietly()

    async def _close_quietly(self) -> None:
        try:
            await self.close()
        except Exception as problem:  # out of here it would end the reading
            log.warning("trigger %s: not closed: %r", self.trigger.name, problem)


def _first(problem: BaseException) -> BaseException:
    while isinstance(problem, BaseExceptionGroup):
        problem = problem.exceptions[0]
    return problem
