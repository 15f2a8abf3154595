"""What all subscribers have in common, which is nearly all of mode `exclusive`: lanes that are kept open for ever.

One task of each subscriber talks to the server (opens, asks, gives back, begins anew after a loss); everything that
callers do is done at once in memory.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial

import msgspec
from aiormq.abc import AbstractChannel
from aiormq.exceptions import ChannelNotFoundEntity
from pamqp.common import FieldTable

from edow.errors import Closed, EdowError
from edow.transport.contract import Delivery, Subscription, TopicSpec
from edow.transport.rabbitmq.lane import Lane, Place, RabbitDelivery
from edow.transport.rabbitmq.link import BROKEN, Link
from edow.transport.rabbitmq.options import Options
from edow.transport.rabbitmq.publisher import Publisher
from edow.transport.rabbitmq.topology import Topology, close_channel

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 2.0

log = logging.getLogger("edow.transport.rabbitmq")


class Context(msgspec.Struct, frozen=True):
    """What a subscriber needs of its transport."""

    name: str  # of the server, for people
    options: Options
    topology: Topology
    link: Link
    publisher: Publisher


class Reader:
    """Mode `exclusive`, and what the other modes change."""

    def __init__(self, context: Context, subscription: Subscription, places: Sequence[Place]) -> None:
        self._context = context
        self._subscription = subscription
        self._lanes = [Lane(place, self._arrive, self._lost) for place in places]
        self._turns = list(self._lanes)
        self._held: dict[RabbitDelivery, float] = {}  # in the caller's hands, until when
        self._arrived = asyncio.Event()
        self._attention = asyncio.Event()
        self._stale: list[AbstractChannel] = []  # channels that nothing is read from any more
        self._timers: set[asyncio.TimerHandle] = set()
        self._tending: asyncio.Task[None] | None = None
        self._renew_seconds = 0.0  # after which deliveries are renewed; 0: that is not needed
        self.is_closed = False
        self._is_away = False
        self._began = time.time_ns() // 1_000_000

    async def start(self) -> None:
        """Begin to read. Raises TransportUnavailable or InvalidInput when that cannot be."""
        try:
            await self._tend()
        except BaseException:
            await self.close()
            raise
        self._tending = asyncio.create_task(self._tend_forever(), name="edow-rabbitmq-subscriber")

    async def receive(self, limit: int, wait_seconds: float) -> list[Delivery]:
        """See the contract."""
        if self.is_closed:
            raise Closed("this subscriber is closed: subscribe again")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_seconds
        self._begin(limit)
        try:
            while not self.is_closed:
                if taken := self._take(limit):
                    return [*taken]
                self._arrived.clear()
                left = deadline - loop.time()
                if left <= 0:
                    break
                self._starve(limit)
                await self._wait(self._arrived, left)
        finally:
            self._end()
        return []

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """See the contract."""
        for lane, mine in self._let_go(deliveries).items():
            lane.ack(mine)
            await lane.flush()
        self._attention.set()

    async def nack(self, deliveries: Sequence[Delivery], delay_seconds: float = 0.0) -> None:
        """See the contract."""
        for lane, mine in self._let_go(deliveries).items():
            if delay_seconds > 0:
                self._later(delay_seconds, partial(self._return, lane, mine))
            else:
                self._return(lane, mine)
                await lane.flush()

    async def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """See the contract. The server is not asked: what is in our hands is ours as long as the connection lives."""
        until = self._until()
        lost: list[Delivery] = []
        for each in deliveries:
            if isinstance(each, RabbitDelivery) and self._held.pop(each, None) is not None and each.lane is not None:
                self._held[each] = until
            else:
                lost.append(each)
        return lost

    async def close(self) -> None:
        """See the contract."""
        if self.is_closed:
            return
        self.is_closed = True
        self._arrived.set()
        self._attention.set()
        for timer in self._timers:
            timer.cancel()
        if self._tending is not None:
            self._tending.cancel()
            await asyncio.gather(self._tending, return_exceptions=True)
        self._held.clear()
        for lane in self._lanes:
            await lane.flush()
        await asyncio.gather(*(lane.close() for lane in self._lanes))

    # what modes change

    def _begin(self, limit: int) -> None:
        """A receive has begun."""

    def _starve(self, limit: int) -> None:
        """A receive has found nothing and is about to wait."""

    def _end(self) -> None:
        """A receive has ended."""

    def _until(self) -> float:
        """When the lease of what is handed out now ends, in the event loop's time."""
        return float("inf")

    async def _prepare(self, lane: Lane, channel: AbstractChannel) -> None:
        """Before the lane's queue is read on this new channel."""

    def _return(self, lane: Lane, deliveries: Sequence[RabbitDelivery]) -> None:
        """Not done with: to be delivered again, now."""
        for each in reversed(deliveries):
            if each.lane is lane:
                lane.again(each)

    async def _tend(self) -> None:
        """Bring every lane to where it should be."""
        for lane in self._lanes:
            await self._renew(lane)
            await lane.flush()
            if lane.channel is None:
                await self._open(lane, self._window(lane))

    async def _renew(self, lane: Lane) -> None:
        """Before the server finds that we take too long."""
        if self._old(lane):
            lane.renew()

    def _tick(self) -> float | None:
        """Seconds after which to tend again although nothing has happened."""
        holds = any(lane.everything for lane in self._lanes)
        return self._renew_seconds / 4 if self._renew_seconds and holds else None

    def _old(self, lane: Lane) -> list[RabbitDelivery]:
        """What was delivered so long ago that it must be renewed."""
        if not self._renew_seconds:
            return []
        before = asyncio.get_running_loop().time() - self._renew_seconds
        return [each for each in lane.everything if each.since <= before]

    def _window(self, lane: Lane) -> int:
        return self._context.options.key_prefetch if lane.place.partition else self._context.options.prefetch

    # inside

    def _take(self, limit: int) -> list[RabbitDelivery]:
        taken: list[RabbitDelivery] = []
        until = self._until()
        self._turns.append(self._turns.pop(0))  # each has its turn at being first
        for lane in self._turns:
            if len(taken) < limit:
                taken += lane.take(limit - len(taken))
        self._held.update((each, until) for each in taken)
        return taken

    def _let_go(self, deliveries: Sequence[Delivery]) -> dict[Lane, list[RabbitDelivery]]:
        """Those that are in the caller's hands still; they no longer are."""
        mine: dict[Lane, list[RabbitDelivery]] = {}
        for each in deliveries:
            if isinstance(each, RabbitDelivery) and self._held.pop(each, None) is not None and each.lane is not None:
                mine.setdefault(each.lane, []).append(each)
        return mine

    def _later(self, seconds: float, what: Callable[[], None]) -> None:
        def due() -> None:
            self._timers.discard(timer)
            what()
            self._attention.set()

        timer = asyncio.get_running_loop().call_later(seconds, due)
        self._timers.add(timer)

    def _arrive(self) -> None:
        self._arrived.set()

    def _lost(self, lane: Lane) -> None:
        """Its channel was closed by somebody else: what it held is the server's again."""
        for each in lane.everything:
            self._held.pop(each, None)
        if lane.channel is not None:
            self._stale.append(lane.channel)
        lane.reset()
        self._attention.set()

    async def _open(self, lane: Lane, window: int) -> None:
        """A channel, and ask for messages. Raises TransportUnavailable or InvalidInput."""
        context, place = self._context, lane.place
        channel = await context.link.channel()
        arguments = await context.link.consumer_arguments()
        self._renew_seconds = 0.0 if arguments else context.options.consumer_timeout / 2
        try:
            await self._prepare(lane, channel)
            lane.attach(channel)
            async with context.topology.errors(f"reading queue {place.queue!r}"):
                await lane.consume(window, arguments | self._rank())
        except ChannelNotFoundEntity:
            lane.reset()
            await self._make(place)
            self._attention.set()  # and open it the next time
        except BaseException:
            lane.reset()
            await close_channel(channel)
            raise

    def _rank(self) -> FieldTable:
        """Who comes later is given everything: one before may be frozen, and the server would go on giving it messages
        until it has missed its heartbeats.
        """
        return {"x-priority": self._began}

    async def _make(self, place: Place) -> None:
        """Somebody has deleted the queue, or the server has come back without it."""
        log.warning("%s: queue %r was missing; it is made again", self._context.name, place.queue)
        channel = await self._context.link.channel()
        try:
            await self._context.topology.make(channel, [TopicSpec(place.topic, (place.group,) if place.group else ())])
        finally:
            await close_channel(channel)

    async def _tend_forever(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            await self._wait(self._attention, self._tick())
            if self.is_closed:  # the client library may have swallowed our being cancelled
                return
            self._attention.clear()
            try:
                while self._stale:
                    await close_channel(self._stale.pop())
                await self._tend()
            except Closed:
                return
            except (EdowError, *BROKEN) as problem:
                self._say_away(problem)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                self._attention.set()
            except Exception:
                log.exception("reading from %s failed in an unexpected way", self._context.name)
                await asyncio.sleep(LONGEST_PAUSE_SECONDS)
                self._attention.set()
            else:
                pause = FIRST_PAUSE_SECONDS
                self._say_away(None)

    def _say_away(self, problem: BaseException | None) -> None:
        if problem is not None and not self._is_away:
            log.warning("%s: nothing can be received until this is over: %s", self._context.name, problem)
        if problem is None and self._is_away:
            log.warning("%s: receiving again", self._context.name)
        self._is_away = problem is not None

    @staticmethod
    async def _wait(event: asyncio.Event, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            pass
