"""Long tasks on servers before 3.11.15, which cut a channel on which something is not acknowledged for half an hour.

Before that a message is copied to a queue that this subscriber alone reads, and the original is acknowledged. Nothing
can wait in that queue: a message that cannot be delivered at once expires, and is sent back to where it came from. So
what is parked is as safe as before; if we die, the server gives it to another member at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from secrets import token_hex

from aiormq.abc import DeliveredMessage
from pamqp import commands
from pamqp.common import FieldTable

from edow.transport.rabbitmq.lane import COUNT_HEADER, Lane, Place, RabbitDelivery
from edow.transport.rabbitmq.publisher import KEY_HEADER, Envelope
from edow.transport.rabbitmq.subscriber import Context

TICKET_HEADER = "edow-parked"
UNUSED_MS = 600_000  # after which the server deletes the queue of a subscriber that is gone
NO_WINDOW = 0  # no limit: what is parked is in hand already


class Parking(Lane):
    """Where the messages of one queue are parked."""

    def __init__(self, home: Place, wake: Callable[[], None], lost: Callable[[Lane], None]) -> None:
        queue = f"{home.queue}:parked:{token_hex(8)}"
        super().__init__(Place(home.topic, home.group, queue, partition=False, counts=home.counts), wake, lost)
        self._home = home.queue
        self._tickets: dict[str, RabbitDelivery] = {}

    async def open(self, context: Context) -> None:
        """Idempotent. Raises TransportUnavailable or InvalidInput."""
        if self.channel is not None:
            return
        channel = await context.link.channel()
        async with context.topology.errors(f"parking messages in queue {self.place.queue!r}"):
            await channel.queue_declare(self.place.queue, durable=True, arguments=self.arguments)
            self.attach(channel)
            await self.consume(NO_WINDOW, {})

    @property
    def arguments(self) -> FieldTable:
        return {
            "x-message-ttl": 0,
            "x-expires": UNUSED_MS,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": self._home,
        }

    def tickets(self, deliveries: Sequence[RabbitDelivery]) -> list[Envelope]:
        """Copies to be published. When they come back, the originals will be acknowledged."""
        tickets = {token_hex(8): each for each in deliveries}
        self._tickets.update(tickets)
        return [self._copy(each, ticket) for ticket, each in tickets.items()]

    def reset(self) -> None:
        super().reset()
        self._tickets.clear()

    def _copy(self, delivery: RabbitDelivery, ticket: str) -> Envelope:
        headers: FieldTable = {TICKET_HEADER: ticket, COUNT_HEADER: delivery.count - 1}
        if delivery.key is not None:
            headers[KEY_HEADER] = delivery.key
        return Envelope(("", self.place.queue), delivery.body, headers, mandatory=True)

    def _deliver(self, message: DeliveredMessage, consumer: str) -> None:
        copy = self._read(message, consumer)
        ticket = (message.header.properties.headers or {}).get(TICKET_HEADER)
        original = self._tickets.pop(ticket, None) if isinstance(ticket, str) else None
        if original is None:
            self._outbox.append(self._refusal(copy))
        elif original.lane is None:  # acknowledged, handed back or lost meanwhile
            self._outbox.append(commands.Basic.Ack(copy.tag))
        else:
            original.lane.hand_over(original)
            original.lane, original.token, original.since = self, copy.tag, copy.since
            self.unacked[copy.tag] = original
            self.busy += 1
        self._wake()

    def _give_back(self, delivery: RabbitDelivery) -> None:
        self._outbox.append(self._refusal(delivery))
        self._forget(delivery)

    def _forget(self, delivery: RabbitDelivery) -> None:
        del self.unacked[delivery.tag]
        delivery.lane = None

    @staticmethod
    def _refusal(delivery: RabbitDelivery) -> commands.Basic.Nack:
        """Sends it back to where it came from."""
        return commands.Basic.Nack(delivery.tag, requeue=False)
