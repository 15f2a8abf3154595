"""Reading. What callers do is done at once in memory; one task of each subscriber talks to the server: it opens, asks,
gives back, and begins anew after a loss.

Mode `exclusive` keeps its queues open for ever, `broadcast` reads a queue of its own. In mode `shared` members compete,
and RabbitMQ delivers ahead of being asked. So that nothing waits with a member that has no room for it, a member that
has not received for a moment asks for no more, and gives back what it has not handed out as soon as another is in need.
Those that are show it by reading a queue that is always empty, whose readers the server counts (of a quorum queue it
counts those, too, that only hold messages still). Partitions change hands in the same way, but only when nothing of
them is in hand: that keeps their keys in order. The server counts being given back as a delivery, which is why it is
not done for nobody.

A queue that brings nothing for long is read anew: what RabbitMQ delivers may reach nobody (see `topology`), and neither
side can tell that from a queue in which nothing is.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from math import inf

from aiormq.exceptions import ChannelNotFoundEntity

from edow.errors import Closed, EdowError
from edow.transport.contract import Delivery, Subscription
from edow.transport.rabbitmq.lane import Lane, RabbitDelivery
from edow.transport.rabbitmq.link import BROKEN, Link, unless_cancelled
from edow.transport.rabbitmq.topology import Topology

IDLE_SECONDS = 0.1  # without a receive, after which a member is taken to have no room
LOOK_SECONDS = 0.2  # between looks whether another member is in need
FIRST_PAUSE_SECONDS = 0.05  # after an error, then twice as long
LONGEST_PAUSE_SECONDS = 1.0
QUIET_SECONDS = 30.0  # without a message, after which a queue is read anew

log = logging.getLogger("edow.transport.rabbitmq")


class RabbitSubscriber:
    """See `edow.transport.contract.Subscriber`."""

    def __init__(self, link: Link, topology: Topology, subscription: Subscription, lanes: list[Lane]) -> None:
        self._link = link
        self._topology = topology
        self._group = subscription.group
        self._shared = subscription.mode == "shared"
        self._broadcast = subscription.mode == "broadcast"
        self._lease_seconds = subscription.lease_seconds if self._shared else inf
        self._lanes = lanes  # they take turns at being first
        self._held: dict[RabbitDelivery, float] = {}  # in the caller's hands, until when: the first to expire first
        self._delayed: list[tuple[float, Lane, list[RabbitDelivery]]] = []
        self._arrived = asyncio.Event()
        self._attention = asyncio.Event()
        self._asked = 1  # how many the last receive wanted
        self._starving = False  # a receive waits
        self._resting = self._shared  # no room
        self._stirred = 0.0  # when there was room at last
        self._tending: asyncio.Task[None] | None = None
        self._pause = 0.0  # after errors
        self.is_closed = False
        for lane in lanes:
            lane.wake, lane.lost = self._arrived.set, self._attention.set
            if subscription.mode == "exclusive":
                # Who comes later is given everything: one before may be frozen, and the server would go on giving it
                # messages until it has missed its heartbeats.
                lane.priority = time.time_ns() // 1_000_000

    async def start(self) -> None:
        """Begin to read. Raises TransportUnavailable or InvalidInput when that cannot be."""
        try:
            async with self._link.answer("reading"):
                await self._tend()
        except BaseException:
            await self.close()
            raise
        self._tending = asyncio.create_task(self._tend_forever(), name="edow-rabbitmq-subscriber")

    async def receive(self, limit: int, wait_seconds: float) -> list[Delivery]:
        """See the contract."""
        if self.is_closed:
            raise Closed("this subscriber is closed: subscribe again")
        deadline = _now() + wait_seconds
        self._asked = limit
        self._stir()
        try:
            while not self.is_closed:
                if taken := self._take(limit):
                    return [*taken]
                self._arrived.clear()
                if (left := deadline - _now()) <= 0:
                    break
                if not self._starving:
                    self._starving = True
                    self._attention.set()
                await _wait(self._arrived, left)
        finally:
            self._starving = False
            self._stir()
        return []

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """See the contract."""
        for lane, mine in self._let_go(deliveries).items():
            lane.ack(mine)
            await lane.flush()
            if lane.leaving:
                self._attention.set()

    async def nack(self, deliveries: Sequence[Delivery], delay_seconds: float = 0.0) -> None:
        """See the contract."""
        due = _now() + delay_seconds
        self._delayed += [(due, lane, mine) for lane, mine in self._let_go(deliveries).items()]
        self._return_due()
        self._attention.set()

    async def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """See the contract. The server is not asked: what is in our hands is ours as long as the connection lives."""
        mine = dict.fromkeys(each for several in self._let_go(deliveries).values() for each in several)
        self._hold(mine)
        return [each for each in deliveries if each not in mine]

    async def close(self) -> None:
        """See the contract."""
        if self.is_closed:
            return
        self.is_closed = True
        self._arrived.set()
        if self._tending is not None:
            self._tending.cancel()
            await asyncio.gather(self._tending, return_exceptions=True)
        self._held.clear()
        await asyncio.gather(*(lane.close() for lane in self._lanes))

    # in memory

    def _take(self, limit: int) -> list[RabbitDelivery]:
        taken: list[RabbitDelivery] = []
        self._lanes.append(self._lanes.pop(0))
        for lane in self._lanes:
            mine = lane.take(limit - len(taken))
            taken += mine
            if self._broadcast and mine:  # handing out is all there is; the server is told at leisure
                lane.ack(mine)
                self._attention.set()
        self._hold(taken)
        return taken

    def _hold(self, deliveries: Iterable[RabbitDelivery]) -> None:
        if not self._broadcast:
            until = _now() + self._lease_seconds
            self._held.update((each, until) for each in deliveries)

    def _let_go(self, deliveries: Sequence[Delivery]) -> dict[Lane, list[RabbitDelivery]]:
        """Those that are in the caller's hands still; they no longer are."""
        mine: dict[Lane, list[RabbitDelivery]] = {}
        for each in deliveries:
            if isinstance(each, RabbitDelivery) and self._held.pop(each, None) is not None and each.lane is not None:
                mine.setdefault(each.lane, []).append(each)
        return mine

    def _stir(self) -> None:
        """There is room, or just was."""
        self._stirred = _now()
        if self._resting:
            self._resting = False
            self._attention.set()

    def _return_due(self) -> None:
        """What was neither extended nor acknowledged in time, or whose delay is over, is to be delivered again."""
        now = _now()
        expired = [each for each, until in self._held.items() if until <= now] if self._next_lease() <= now else []
        due = [(lane, mine) for at, lane, mine in self._delayed if at <= now]
        self._delayed = [each for each in self._delayed if each[0] > now]
        for lane, mine in [*due, *self._let_go(expired).items()]:
            ours = [each for each in mine if each.lane is lane]
            if self._shared and not lane.partition:
                lane.give_back(ours)
                continue
            for each in reversed(ours):
                lane.again(each)
            lane.leaving = lane.leaving or (self._shared and bool(ours))  # another member may be able to do it

    def _next_lease(self) -> float:
        """When the first ends: all are of the same length."""
        return next(iter(self._held.values()), inf)

    def _seconds(self) -> float | None:
        """Until something is to be done although nothing happens."""
        looking = self._resting and any(lane.is_waiting for lane in self._lanes)
        idle = LOOK_SECONDS if looking else inf if self._resting or not self._shared else IDLE_SECONDS
        due = min([self._next_lease(), *(at for at, _, _ in self._delayed)])
        quiet = QUIET_SECONDS - max(lane.quiet_seconds for lane in self._lanes)
        seconds = min(idle, max(0.0, due - _now()), max(0.0, quiet))
        return None if seconds == inf else seconds

    # the server

    async def _tend_forever(self) -> None:
        while not self.is_closed:  # the client library may swallow our being cancelled
            await _wait(self._attention, self._seconds())
            self._attention.clear()
            try:
                with unless_cancelled():
                    await self._tend()
            except Closed:
                return
            except Exception as problem:
                expected = isinstance(problem, (EdowError, *BROKEN))
                if not self._pause or not expected:
                    log.warning("%s: nothing is received: %s", self._link, problem, exc_info=not expected)
                self._pause = min(2 * self._pause or FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
                await asyncio.sleep(self._pause)
                self._attention.set()
            else:
                if self._pause and not self._resting:
                    log.warning("%s: receiving again", self._link)
                    self._pause = 0.0

    async def _tend(self) -> None:
        """Bring every lane to where it should be."""
        self._return_due()
        if self._shared and not self._starving and _now() - self._stirred >= IDLE_SECONDS:
            self._resting = True
        missing: set[str] = set()
        for lane in list(self._lanes):
            try:
                await self._tend_lane(lane)
            except ChannelNotFoundEntity as problem:  # somebody has deleted it, or the server has come back without it
                if lane.topic not in missing:
                    log.warning("%s: made again: %s", self._link, problem)
                missing.add(lane.topic)
        if missing:
            await self._topology.make_group_again(missing, self._group)
            self._attention.set()  # and open them the next time

    async def _tend_lane(self, lane: Lane) -> None:
        if lane.quiet_seconds >= QUIET_SECONDS:
            await self._refresh(lane)
        if lane.is_lost:
            await lane.close()
        if lane.channel is None and not self._resting:
            await self._open(lane)
        if lane.channel is not None and self._shared:
            await (self._tend_partition(lane) if lane.partition else self._tend_queue(lane))
        await lane.flush()

    async def _refresh(self, lane: Lane) -> None:
        """It has brought nothing for long: there may be nothing, or nothing may reach us."""
        if self._broadcast:
            lane.listen()
            await self._topology.bind_listener(lane.topic, lane.queue)
        else:
            await lane.close()  # and with it what the server takes for us

    async def _tend_queue(self, lane: Lane) -> None:
        """A queue that members share."""
        window = self._window(lane)
        if self._resting:
            await lane.ask(None)
            if lane.ready or lane.used < lane.window:  # else nothing can come before somebody has made room
                await lane.stop()
            if lane.ready and await self._is_wanted(lane):
                lane.give_back(lane.take(len(lane.ready)))
        elif not lane.is_consuming or (self._starving and lane.is_exhausted and lane.window < window):
            await lane.consume(window)
        if self._starving:
            await lane.ask(self._topology.names.asking(lane.topic, self._group))

    async def _tend_partition(self, lane: Lane) -> None:
        """A queue that one member at a time reads."""
        if self._resting and lane.is_empty:
            await lane.close()
        elif lane.leaving or (self._resting and lane.is_waiting):
            lane.leaving = await self._is_wanted(lane)
            if not lane.leaving:
                self._arrived.set()
            elif not lane.busy:
                await lane.close()
                self._attention.set()  # and back to the end of the line, if there is room

    async def _is_wanted(self, lane: Lane) -> bool:
        """Another member is in need of messages of the topic just now."""
        assert lane.channel is not None
        answer = await lane.channel.queue_declare(self._topology.names.asking(lane.topic, self._group), passive=True)
        return (answer.consumer_count or 0) > any(each.asking for each in self._lanes if each.topic == lane.topic)

    async def _open(self, lane: Lane) -> None:
        lane.attach(await self._link.channel())
        try:
            if self._broadcast:
                lane.queue = await self._topology.make_listener(lane.topic)
            await lane.consume(self._window(lane))
        except BaseException:
            await lane.close()
            raise

    def _window(self, lane: Lane) -> int:
        """As many as we were asked for and hold already, so that there is room for what comes."""
        options = self._link.options
        if lane.partition:
            return options.key_prefetch
        return min(options.prefetch, self._asked + lane.busy) if self._shared else options.prefetch


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _wait(event: asyncio.Event, seconds: float | None) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
