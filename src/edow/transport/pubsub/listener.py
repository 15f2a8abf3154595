"""Mode broadcast: a subscription of its own for each subscriber. What arrives is done with."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from math import inf
from typing import Any

from google.api_core.exceptions import GoogleAPICallError

from edow.errors import EdowError
from edow.transport.contract import Delivery, Subscription
from edow.transport.pubsub.link import Link
from edow.transport.pubsub.options import PubsubOptions
from edow.transport.pubsub.queue import Queue
from edow.transport.pubsub.subscriber import CLOSE_SECONDS, PubsubSubscriber

log = logging.getLogger("edow.transport.pubsub")


class Listener(PubsubSubscriber):
    """`delete`: what to do with its subscriptions when it closes."""

    def __init__(
        self,
        link: Link,
        options: PubsubOptions,
        subscription: Subscription,
        delete: Callable[[str, float], Awaitable[None]],
    ) -> None:
        super().__init__(link, options, subscription)
        self._delete = delete

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Nothing to do."""

    async def nack(self, deliveries: Sequence[Delivery], delay_seconds: float = 0.0) -> None:
        """Nothing is delivered again."""

    async def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Nothing expires."""
        return []

    async def close(self) -> None:
        """See the contract."""
        if self._closed:
            return
        self._closed = True
        self._wake.set()
        await self._stop_keeping()
        await self.end()
        await asyncio.gather(*(self._delete(queue.path, CLOSE_SECONDS) for queue in self._queues))

    def _take(self, limit: int) -> list[Delivery]:
        taken = self._hands.take(limit, inf)
        self._hands.done(taken)
        return [*taken]

    async def _arrived(self, queue: Queue, found: Sequence[Any]) -> None:
        deliveries = [self._delivery(queue, each, inf) for each in found]
        self._hands.admit(deliveries)
        try:
            await queue.acknowledge([each.ack_id for each in deliveries])
        except (GoogleAPICallError, EdowError) as problem:
            log.debug("%d broadcast messages will come again: %s", len(deliveries), problem)
