"""One queue being read, on a channel of its own: what was delivered, what may be handed out, what is in whose hands.

A channel for each queue, because closing it is the one way to give back all that it holds in one step and in order.
Everything here but the calls to the server happens at once, without waiting.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from itertools import takewhile
from time import monotonic

from aiormq.abc import AbstractChannel, DeliveredMessage, FrameType
from aiormq.exceptions import ChannelPreconditionFailed
from pamqp.commands import Basic
from pamqp.common import FieldTable

from edow.transport.contract import Delivery
from edow.transport.rabbitmq.link import close_channel, send
from edow.transport.rabbitmq.names import KEY_HEADER

ASKING = "asking"  # consumer tag
COUNT_HEADER = "x-delivery-count"  # deliveries before this one; quorum queues write it

log = logging.getLogger("edow.transport.rabbitmq")


class RabbitDelivery(Delivery, eq=False):
    lane: Lane | None = None  # None: done with, or lost
    tag: int = 0  # the server's number of the delivery on its channel
    consumer: int = 0  # which of the lane's brought it


class Lane:
    """`partition`: one member at a time reads the queue. `counts`: the server counts deliveries.
    `wake` is called when there is something to hand out, `lost` when the server has ended the reading.
    """

    wake: Callable[[], None]
    lost: Callable[[], None]

    def __init__(self, topic: str, queue: str, *, partition: bool, counts: bool) -> None:
        self.topic = topic
        self.queue = queue
        self.partition = partition
        self.priority: int | None = None  # among those who read the queue
        self.channel: AbstractChannel | None = None
        self.is_lost = False  # to be closed, and opened anew
        self.is_consuming = False
        self.window = 0  # most that the consumer may hold
        self.used = 0  # what it does hold
        self.busy = 0  # in somebody's hands, or kept for a delay
        self.asking = False  # others can see that we are in need
        self.leaving = False  # hands nothing out, so as to be given to another member
        self.ready: deque[RabbitDelivery] = deque()
        self._counts = counts
        self._consumers = 0
        self._heard = 0.0  # when it brought something at last, or began to be read
        self._unacked: dict[int, RabbitDelivery] = {}  # everything, in the order of delivery
        self._keys: dict[str, deque[RabbitDelivery]] = {}  # of a key the first is ready or busy; the others wait
        self.outbox: list[FrameType] = []  # for the server, not sent yet

    # the server

    def attach(self, channel: AbstractChannel) -> None:
        """Read on this new channel from now on."""
        self.channel = channel
        channel.closing.add_done_callback(lambda _: self._lose(channel))
        # The server has cancelled the consumer when the queue is gone or its leader has moved: begin anew.
        channel.on_consumer_cancel_callbacks.add(lambda _: self._lose(channel))

    async def consume(self, window: int) -> None:
        """Ask for messages, at most so many at a time. Instead of the consumer before, if there is one."""
        await self.stop()
        channel = self.channel
        assert channel is not None
        await channel.basic_qos(prefetch_count=window)
        self._consumers += 1
        number = self._consumers

        async def deliver(message: DeliveredMessage) -> None:
            if self.channel is channel and not self.is_lost:
                self.deliver(message, number)

        self.window, self.used, self.is_consuming = window, 0, True
        self.listen()
        arguments: FieldTable | None = None if self.priority is None else {"x-priority": self.priority}
        await channel.basic_consume(self.queue, deliver, consumer_tag=str(number), arguments=arguments)

    def listen(self) -> None:
        """From now on it is quiet."""
        self._heard = monotonic()

    async def stop(self) -> None:
        """Ask for no more."""
        if self.is_consuming and self.channel is not None:
            self.is_consuming = False
            await self.channel.basic_cancel(str(self._consumers))

    async def ask(self, queue: str | None) -> None:
        """Show the other members whether we are in need, by reading this queue, that is always empty, or none."""
        if self.channel is not None and self.asking != bool(queue):
            self.asking = bool(queue)
            if queue:
                await self.channel.basic_consume(queue, _ignore, no_ack=True, consumer_tag=ASKING)
            else:
                await self.channel.basic_cancel(ASKING)

    async def flush(self) -> None:
        """Tell the server what was decided meanwhile. What a dead connection loses, the server has lost as well."""
        if self.outbox and self.channel is not None:
            await send(self.channel, self.outbox)

    async def close(self) -> None:
        """Give everything back, in order."""
        await self.flush()
        channel, self.channel = self.channel, None
        self._reset()
        self.is_lost = self.leaving = False
        if channel is not None:
            await close_channel(channel)

    # deliveries

    @property
    def is_empty(self) -> bool:
        return not self._unacked

    @property
    def quiet_seconds(self) -> float:
        """How long it has been read and brought nothing; 0.0 while something of it is in hand."""
        return monotonic() - self._heard if self.is_consuming and self.is_empty else 0.0

    @property
    def is_waiting(self) -> bool:
        """Something was delivered that is in nobody's hands."""
        return len(self._unacked) > self.busy

    @property
    def is_exhausted(self) -> bool:
        """Nothing more can come, and nothing is there."""
        return self.used >= self.window and not self.ready

    def take(self, limit: int) -> list[RabbitDelivery]:
        """Into somebody's hands."""
        count = 0 if self.leaving else min(limit, len(self.ready))
        self.busy += count
        return [self.ready.popleft() for _ in range(count)]

    def ack(self, deliveries: Sequence[RabbitDelivery]) -> None:
        """Done with."""
        tags = {each.tag for each in deliveries}
        if first := list(takewhile(tags.__contains__, self._unacked)):  # all from the first on are told as one
            self.outbox.append(Basic.Ack(first[-1], multiple=True))
        self.outbox += [Basic.Ack(tag) for tag in tags.difference(first)]
        self.busy -= len(deliveries)
        for each in deliveries:
            self._forget(each)

    def give_back(self, deliveries: Iterable[RabbitDelivery]) -> None:
        """To the server, for whoever reads the queue. Not for partitions: it would lose their order."""
        for each in deliveries:
            self.outbox.append(Basic.Nack(each.tag, requeue=True))
            self.busy -= 1
            self._forget(each)

    def again(self, delivery: RabbitDelivery) -> None:
        """Hand it out again from here, in its place among its key's. What was handed out before means nothing now."""
        again = copy(delivery)
        again.count += self._counts
        delivery.lane = None
        self._unacked[again.tag] = again
        if again.key is not None:
            self._keys[again.key][0] = again
        self.busy -= 1
        self.ready.appendleft(again)
        self.wake()

    def deliver(self, message: DeliveredMessage, consumer: int = 0) -> None:
        """The server has sent it, to the consumer of this number."""
        headers = message.header.properties.headers or {}
        key, before = headers.get(KEY_HEADER), headers.get(COUNT_HEADER)
        if not isinstance(before, int) or not self._counts:
            before = 0
        if self.partition:  # when it moves, a window at most was never handed out: that does not count
            before -= self.window
        delivery = RabbitDelivery(
            topic=self.topic,
            body=message.body,
            key=key if isinstance(key, str) else None,
            count=1 + max(0, before),
            token=None,
            lane=self,
            tag=message.delivery_tag or 0,
            consumer=consumer,
        )
        self._unacked[delivery.tag] = delivery
        self._heard = monotonic()
        self.used += consumer == self._consumers
        if delivery.key is not None:
            behind = self._keys.setdefault(delivery.key, deque())
            behind.append(delivery)
            if len(behind) > 1:
                return
        self.ready.append(delivery)
        self.wake()

    def _forget(self, delivery: RabbitDelivery) -> None:
        """It is not ours any more; the next of its key may follow."""
        delivery.lane = None
        del self._unacked[delivery.tag]
        self.used -= delivery.consumer == self._consumers
        if delivery.key is not None:
            behind = self._keys[delivery.key]
            behind.popleft()
            if behind:
                self.ready.append(behind[0])
                self.wake()
            else:
                del self._keys[delivery.key]

    def _lose(self, channel: AbstractChannel) -> None:
        if self.channel is channel and not self.is_lost:
            self.is_lost = True
            why = channel.closing.exception() if channel.is_closed and not channel.closing.cancelled() else None
            if self._unacked and isinstance(why, ChannelPreconditionFailed):  # in hand for longer than it allows
                log.warning(
                    "the server has taken back %d messages of queue %r: %s", len(self._unacked), self.queue, why
                )
            self._reset()
            self.lost()

    def _reset(self) -> None:
        """Nothing of it is ours any more."""
        for each in self._unacked.values():
            each.lane = None
        self.used = self.busy = 0
        self.is_consuming = self.asking = False
        for those in (self._unacked, self.ready, self._keys):
            those.clear()
        self.outbox = []  # another one, for what may wait to be sent belongs to that channel


async def _ignore(_: object) -> None:
    """Nothing is published there."""
