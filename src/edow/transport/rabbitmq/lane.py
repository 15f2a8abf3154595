"""One queue being read, on a channel of its own: what was delivered, what may be handed out, what is in whose hands.

A channel for each queue, because closing it is the one way to give back all that it holds in one step and in order.
Everything here but the calls to the server happens at once, without waiting.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from aiormq.abc import AbstractChannel, DeliveredMessage, FrameType
from pamqp import commands
from pamqp.common import FieldTable

from edow.transport.contract import Delivery
from edow.transport.rabbitmq.link import send
from edow.transport.rabbitmq.publisher import KEY_HEADER
from edow.transport.rabbitmq.topology import close_channel

COUNT_HEADER = "edow-count"  # deliveries before a copy was made
COUNT_HEADERS = ("x-delivery-count", COUNT_HEADER)


class RabbitDelivery(Delivery, eq=False):
    """`token` is the server's number of the delivery on its channel."""

    lane: Lane | None = None  # None: lost, it is the server's again
    consumer: str = ""
    message_id: str | None = None
    since: float = 0.0  # when it was delivered, in the event loop's time

    @property
    def tag(self) -> int:
        tag = self.token
        assert isinstance(tag, int)
        return tag


class Place:
    """Which queue, and how it is read. `partition`: one member at a time reads it."""

    def __init__(self, topic: str, group: str, queue: str, *, partition: bool, counts: bool) -> None:
        self.topic = topic
        self.group = group
        self.queue = queue
        self.partition = partition
        self.counts = counts  # the server counts deliveries


class Lane:
    """`wake` is called when there is something to hand out, `lost` when the channel was closed by others."""

    def __init__(self, place: Place, wake: Callable[[], None], lost: Callable[[Lane], None]) -> None:
        self.place = place
        self.channel: AbstractChannel | None = None
        self.consumer: str | None = None
        self.window = 0  # most that the consumer may hold
        self.used = 0  # what it does hold
        self.busy = 0  # in somebody's hands, or kept for a delay
        self.asking = False  # others can see that we have room
        self.leaving = False  # hands nothing out, so as to be given to another member
        self.yielding = False  # the same, because something was handed back that another may be able to do
        self.unacked: dict[int, RabbitDelivery] = {}
        self.ready: deque[RabbitDelivery] = deque()
        self._keys: dict[str, deque[RabbitDelivery]] = {}  # of a key the first is ready or busy; the others wait
        self._limbo: dict[str, RabbitDelivery | None] = {}  # by message id: see `renew`; None: acknowledged meanwhile
        self._came_between = False
        self._outbox: list[FrameType] = []
        self._wake = wake
        self._lost = lost
        self._consumers = 0

    # the server

    def attach(self, channel: AbstractChannel) -> None:
        """Read on this new channel from now on."""
        self.channel = channel
        channel.closing.add_done_callback(lambda _: self._closed(channel))
        # The server has cancelled the consumer when the queue is gone or its leader has moved: begin anew.
        channel.on_consumer_cancel_callbacks.add(lambda _: self._closed(channel))

    async def consume(self, window: int, arguments: FieldTable) -> None:
        """Ask for messages, at most so many at a time. Instead of the consumer before, if there is one."""
        channel = self.channel
        assert channel is not None
        await self.stop()
        await channel.basic_qos(prefetch_count=window)
        self._consumers += 1
        consumer = f"{channel.number}-{self._consumers}"

        async def deliver(message: DeliveredMessage) -> None:
            if self.channel is channel:
                self._deliver(message, consumer)

        self.consumer, self.window, self.used = consumer, window, 0
        await channel.basic_consume(self.place.queue, deliver, consumer_tag=consumer, arguments=arguments or None)

    async def stop(self) -> None:
        """Ask for no more."""
        consumer, self.consumer = self.consumer, None
        if consumer is not None and self.channel is not None:
            await self.channel.basic_cancel(consumer)

    async def close(self) -> None:
        """Give everything back, in order."""
        channel = self.channel
        self.reset()
        if channel is not None:
            await close_channel(channel)

    async def flush(self) -> None:
        """Tell the server what was decided meanwhile."""
        if self._outbox and self.channel is not None:
            frames, self._outbox = self._outbox, []
            await send(self.channel, frames)

    # deliveries

    @property
    def everything(self) -> list[RabbitDelivery]:
        """Whatever is ours."""
        return [*self.unacked.values(), *(each for each in self._limbo.values() if each is not None)]

    @property
    def waiting(self) -> int:
        """Delivered, and in nobody's hands."""
        return len(self.unacked) + len(self._limbo) - self.busy

    @property
    def oldest(self) -> float | None:
        """When the first of those that are ours was delivered."""
        return next((each.since for each in self.unacked.values()), None)

    def take(self, limit: int) -> list[RabbitDelivery]:
        """Into somebody's hands."""
        if self.leaving or self.yielding:
            return []
        taken = [self.ready.popleft() for _ in range(min(limit, len(self.ready)))]
        self.busy += len(taken)
        return taken

    def ack(self, deliveries: Sequence[RabbitDelivery]) -> None:
        """Done with."""
        tags = {each.tag for each in deliveries if not self._in_limbo(each)}
        first = last = 0
        for tag in self.unacked:  # in the order of delivery: all from the first on are told as one
            if tag not in tags:
                break
            first, last = first or tag, tag
        self._outbox += [commands.Basic.Ack(tag) for tag in tags if not first <= tag <= last]
        if last:
            self._outbox.append(commands.Basic.Ack(last, multiple=first < last))
        for each in deliveries:
            self.busy -= 1
            self._forget(each)

    def give_back(self, deliveries: Iterable[RabbitDelivery]) -> None:
        """To the server, for whoever reads the queue. Not for partitions: it would lose their order."""
        for each in deliveries:
            self.busy -= 1
            self._give_back(each)

    def give_back_ready(self) -> None:
        """The same with all that nobody has in hand."""
        while self.ready:
            self._give_back(self.ready.popleft())

    def hand_over(self, delivery: RabbitDelivery) -> None:
        """It goes on elsewhere: done with here."""
        self._outbox.append(commands.Basic.Ack(delivery.tag))
        self.busy -= 1
        self._forget(delivery)

    def again(self, delivery: RabbitDelivery) -> None:
        """Hand it out again from here, in its place among its key's. What was handed out before means nothing now."""
        copy = RabbitDelivery(
            delivery.topic,
            delivery.body,
            delivery.key,
            delivery.count + self.place.counts,
            delivery.tag,
            lane=self,
            consumer=delivery.consumer,
            message_id=delivery.message_id,
            since=delivery.since,
        )
        if self._in_limbo(delivery):
            self._limbo[delivery.message_id or ""] = copy
        else:
            self.unacked[delivery.tag] = copy
        delivery.lane = None
        if copy.key is not None:
            self._keys[copy.key][0] = copy
        self.busy -= 1
        self.ready.appendleft(copy)
        self._wake()

    def renew(self) -> None:
        """Have all of it delivered anew, before the server finds that we take too long. Where nobody else reads the
        queue it comes to us again, in order, and goes on where it was. Messages without an id could not be told apart.
        """
        limbo: dict[str, RabbitDelivery | None] = {each.message_id or "": each for each in self.unacked.values()}
        if self._limbo or "" in limbo or len(limbo) < len(self.unacked):
            return
        self._outbox.append(commands.Basic.Nack(max(self.unacked), multiple=True, requeue=True))
        self._limbo = limbo
        self._came_between = False
        self.unacked.clear()
        self.used = 0

    def reset(self) -> None:
        """Nothing of it is ours any more."""
        for each in self.everything:
            each.lane = None
        self.channel = self.consumer = None
        self.used = self.busy = 0
        self.asking = self.leaving = self.yielding = False
        self.unacked.clear()
        self.ready.clear()
        self._limbo.clear()
        self._keys.clear()
        self._outbox.clear()

    def _deliver(self, message: DeliveredMessage, consumer: str) -> None:
        delivery = self._read(message, consumer)
        self.used += consumer == self.consumer
        if self._limbo and self._out_of_limbo(delivery):
            return
        self.unacked[delivery.tag] = delivery
        if delivery.key is not None:
            behind = self._keys.get(delivery.key)
            if behind is not None:
                behind.append(delivery)
                return
            self._keys[delivery.key] = deque([delivery])
        self.ready.append(delivery)
        self._wake()

    def _read(self, message: DeliveredMessage, consumer: str) -> RabbitDelivery:
        properties = message.header.properties
        headers = properties.headers or {}
        key = headers.get(KEY_HEADER)
        count = sum(each for name in COUNT_HEADERS if isinstance(each := headers.get(name), int) and each > 0)
        if self.place.partition:
            count = max(0, count - self.window)
        return RabbitDelivery(
            self.place.topic,
            message.body,
            key if isinstance(key, str) else None,
            1 + count * self.place.counts,
            message.delivery_tag,
            lane=self,
            consumer=consumer,
            message_id=properties.message_id,
            since=asyncio.get_running_loop().time(),
        )

    def _give_back(self, delivery: RabbitDelivery) -> None:
        self._outbox.append(commands.Basic.Nack(delivery.tag, requeue=True))
        self._forget(delivery)

    def _forget(self, delivery: RabbitDelivery) -> None:
        """It is not ours any more; the next of its key may follow."""
        if self._in_limbo(delivery):
            self._limbo[delivery.message_id or ""] = None
        else:
            del self.unacked[delivery.tag]
            self.used -= delivery.consumer == self.consumer
        delivery.lane = None
        if delivery.key is None:
            return
        behind = self._keys[delivery.key]
        behind.popleft()
        if behind:
            self.ready.append(behind[0])
            self._wake()
        else:
            del self._keys[delivery.key]

    def _in_limbo(self, delivery: RabbitDelivery) -> bool:
        return bool(self._limbo) and self._limbo.get(delivery.message_id or "") is delivery

    def _out_of_limbo(self, again: RabbitDelivery) -> bool:
        """Whether this was ours before; then what was handed out goes on under the server's new number."""
        if again.message_id not in self._limbo:
            self._came_between = True  # it was on its way, and is now before others that it must follow
            return False
        known = self._limbo.pop(again.message_id)
        if known is None:
            self._outbox.append(commands.Basic.Ack(again.tag))
            self.used -= again.consumer == self.consumer
        else:
            known.token, known.consumer, known.since = again.tag, again.consumer, again.since
            self.unacked[again.tag] = known
        if not self._limbo:
            if self._came_between:
                self.renew()
            self._wake()
        return True

    def _closed(self, channel: AbstractChannel) -> None:
        if self.channel is channel:
            self._lost(self)
