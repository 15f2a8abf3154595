"""Mode `shared`: members compete for a group's queues; leases, and giving back what others could do at once.

RabbitMQ delivers ahead of being asked. So that nothing waits with a member that has no room for it, a member that has
not received for a moment asks for no more, and gives back what it has not handed out as soon as another member has
room. Those that have show it by reading a queue that is always empty, whose readers the server counts (of a quorum
queue it counts those, too, that only hold messages still). Partitions change hands in the same way, but only when
nothing of them is in hand: that keeps their keys in order. The server counts being given back as a delivery, which is
why it is not done for nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pamqp.common import FieldTable

from edow.transport.contract import Subscription
from edow.transport.rabbitmq.lane import Lane, Place, RabbitDelivery
from edow.transport.rabbitmq.parking import Parking
from edow.transport.rabbitmq.subscriber import Context, Reader

IDLE_SECONDS = 0.1  # without a receive, after which a member is taken to have no room
LOOK_SECONDS = 0.2  # between looks whether another member asks
ASKING = "asking"  # consumer tag


class SharedReader(Reader):
    """One member of a group."""

    def __init__(self, context: Context, subscription: Subscription, places: Sequence[Place]) -> None:
        super().__init__(context, subscription, places)
        self._asked = 1  # how many the last receive wanted
        self._paused = True
        self._idle: asyncio.TimerHandle | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._parkings: dict[Place, Parking] = {}

    async def close(self) -> None:
        for timer in (self._idle, self._expiry):
            if timer is not None:
                timer.cancel()
        await super().close()
        await asyncio.gather(*(parking.close() for parking in set(self._parkings.values())))

    def _rank(self) -> FieldTable:
        """Members are alike."""
        return {}

    # receiving and resting

    def _begin(self, limit: int) -> None:
        self._asked = limit
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self._paused:
            self._paused = False
            self._attention.set()

    def _starve(self, limit: int) -> None:
        if any(self._should_grow(lane) for lane in self._lanes):
            self._attention.set()

    def _end(self) -> None:
        if not self.is_closed:
            self._idle = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._pause)

    def _pause(self) -> None:
        self._paused = True
        self._attention.set()

    # leases

    def _until(self) -> float:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._subscription.lease_seconds
        if self._expiry is None:
            self._expiry = loop.call_at(until, self._expire)
        return until

    def _expire(self) -> None:
        """What was neither extended nor acknowledged in time is given to others."""
        loop = asyncio.get_running_loop()
        self._expiry = None
        while self._held:
            delivery, until = next(iter(self._held.items()))  # the first to expire: all leases are of the same length
            if until > loop.time():
                self._expiry = loop.call_at(until, self._expire)
                break
            del self._held[delivery]
            if delivery.lane is not None:
                self._return(delivery.lane, [delivery])
        self._attention.set()

    def _return(self, lane: Lane, deliveries: Sequence[RabbitDelivery]) -> None:
        if lane.place.partition:
            super()._return(lane, deliveries)
            lane.yielding = True
        else:
            lane.give_back([each for each in deliveries if each.lane is lane])

    # the lanes

    async def _tend(self) -> None:
        for parking in set(self._parkings.values()):
            await self._renew(parking)
            await parking.flush()
        for lane in self._lanes:
            await self._renew(lane)
            await lane.flush()
            if self._paused:
                await self._rest(lane)
            else:
                await self._work(lane)
            await lane.flush()

    def _tick(self) -> float | None:
        look = self._paused and any(lane.waiting for lane in self._lanes)
        parked = self._renew_seconds / 4 if any(each.everything for each in self._parkings.values()) else None
        return LOOK_SECONDS if look else super()._tick() or parked

    async def _renew(self, lane: Lane) -> None:
        if lane.place.partition:
            await super()._renew(lane)
        elif self._old(lane):
            lane.give_back_ready()
            await self._park(lane)

    async def _park(self, lane: Lane) -> None:
        place = lane.place
        parking = self._parkings.get(place)
        if parking is None:
            parking = Parking(place, self._attention.set, self._lost)
            self._parkings[place] = self._parkings[parking.place] = parking  # what is parked is parked again there
        await parking.open(self._context)
        await self._context.publisher.put(parking.tickets(self._old(lane)))

    async def _work(self, lane: Lane) -> None:
        """There is room: the lane is to bring something."""
        lane.leaving = False
        if lane.channel is None:
            await self._open(lane, self._window(lane))
        elif lane.yielding:
            if not await self._is_wanted(lane):
                lane.yielding = False
                self._arrive()
            elif not lane.busy:
                await lane.close()
                await self._open(lane, self._window(lane))  # behind whoever waits for the partition
        elif lane.consumer is None or self._should_grow(lane):
            async with self._context.topology.errors(f"reading queue {lane.place.queue!r}"):
                await lane.consume(self._window(lane), await self._context.link.consumer_arguments())
        if not lane.place.partition:
            await self._ask(lane, True)

    async def _rest(self, lane: Lane) -> None:
        """There is no room: others may have what the lane has."""
        if lane.channel is None:
            return
        if not lane.place.partition:
            await self._ask(lane, False)
            async with self._context.topology.errors(f"resting from queue {lane.place.queue!r}"):
                await lane.stop()
            if lane.ready and await self._is_wanted(lane):
                lane.give_back_ready()
        elif not lane.everything:
            await lane.close()
        elif lane.waiting and await self._is_wanted(lane):
            lane.leaving = True
            if not lane.busy:
                await lane.close()

    async def _ask(self, lane: Lane, asking: bool) -> None:
        """Show the other members whether we have room for messages of the topic, or do not."""
        if lane.channel is None or lane.asking == asking:
            return
        lane.asking = asking
        names, place = self._context.topology.names, lane.place
        async with self._context.topology.errors(f"asking for messages of topic {place.topic!r}"):
            if asking:
                queue = names.asking(place.topic, place.group)
                await lane.channel.basic_consume(queue, _ignore, no_ack=True, consumer_tag=ASKING)
            else:
                await lane.channel.basic_cancel(ASKING)

    def _window(self, lane: Lane) -> int:
        """As many as we were asked for and hold already, so that there is room for what comes."""
        if lane.place.partition:
            return super()._window(lane)
        return min(self._context.options.prefetch, self._asked + lane.busy)

    def _should_grow(self, lane: Lane) -> bool:
        """It may bring nothing more, although it was asked to."""
        exhausted = lane.consumer is not None and lane.used >= lane.window and not lane.ready
        return exhausted and not lane.place.partition and self._window(lane) > lane.window

    async def _is_wanted(self, lane: Lane) -> bool:
        """Another member has room for messages of the topic just now."""
        names, place = self._context.topology.names, lane.place
        channel = lane.channel
        if channel is None:
            return False
        async with self._context.topology.errors(f"looking who asks for topic {place.topic!r}"):
            answer = await channel.queue_declare(names.asking(place.topic, place.group), passive=True)
        mine = any(each.asking for each in self._lanes if each.place.topic == place.topic)
        return (answer.consumer_count or 0) > mine


async def _ignore(_: object) -> None:
    """Nothing is published there."""
