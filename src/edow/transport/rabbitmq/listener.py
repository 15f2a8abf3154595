"""Mode `broadcast`: a queue of this connection alone, which the server deletes with it. Nothing comes twice."""

from __future__ import annotations

from aiormq.abc import AbstractChannel

from edow.transport.rabbitmq.lane import Lane, RabbitDelivery
from edow.transport.rabbitmq.subscriber import Reader


class Listener(Reader):
    """What is published while the connection is lost it does not hear."""

    async def _prepare(self, lane: Lane, channel: AbstractChannel) -> None:
        lane.place.queue = await self._context.topology.make_listener(channel, lane.place.topic)

    def _take(self, limit: int) -> list[RabbitDelivery]:
        """Handing out is all there is: nobody acknowledges."""
        taken = super()._take(limit)
        for lane, mine in self._let_go(taken).items():
            lane.ack(mine)
        if taken:
            self._attention.set()  # the server is told at leisure
        return taken
