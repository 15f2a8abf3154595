"""Queues of broadcast subscribers: made when they subscribe, deleted when they close, swept when they died.

A live subscriber writes the time into its queue's tags every few minutes. Whoever subscribes deletes queues that nobody
has touched for an hour. One that only slept that long makes itself a new queue.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from uuid import uuid4

import msgspec

from edow.errors import TransportUnavailable
from edow.transport.sqs.catalog import Catalog
from edow.transport.sqs.service import Missing, Service, gather
from edow.transport.sqs.setup import Setup
from edow.transport.sqs.subscriber import Source

SEEN = "edow-seen"  # tag: when the subscriber was last alive, seconds since the epoch
HEARS = "edow-subscription"  # tag: what it hears through
TOUCH_SECONDS = 300
ABANDONED_SECONDS = 3600
RETENTION = "300"  # seconds; nobody wants an old broadcast

log = logging.getLogger("edow.transport.sqs")


class Listening:
    """The queues of one subscriber. `clock`: microseconds."""

    def __init__(self, service: Service, catalog: Catalog, setup: Setup, clock: Callable[[], int]) -> None:
        self._service = service
        self._catalog = catalog
        self._setup = setup
        self._clock = clock
        self._heard: dict[str, str] = {}  # queue -> subscription
        self._touching: asyncio.Task[None] | None = None

    async def begin(self, topic: str) -> Source:
        """A queue that hears all that is published to the topic from now on."""
        arn = self._catalog.broadcast(topic)
        name = self._catalog.names.subscriber(topic, uuid4().hex[:12])
        url = await self._setup.make_queue(name, {"MessageRetentionPeriod": RETENTION}, {SEEN: self._seen()})
        self._heard[url] = ""
        self._heard[url] = subscription = await self._setup.attach(arn, url)
        await self._service.request("sqs", "tag_queue", QueueUrl=url, Tags={HEARS: subscription})
        if self._touching is None:
            self._touching = asyncio.create_task(self._touch_forever(), name="edow-sqs-alive")
        return Source(topic, url)

    async def renew(self, source: Source) -> Source:
        """Its queue is gone."""
        self._heard.pop(source.url, None)
        return await self.begin(source.topic)

    async def end(self) -> None:
        """Delete the queues; one that cannot be is swept by another."""
        if self._touching is not None:
            self._touching.cancel()
        heard, self._heard = self._heard, {}
        try:
            await gather(self._delete(url, subscription) for url, subscription in heard.items())
        except TransportUnavailable as problem:
            log.warning("a broadcast queue could not be deleted, it will be as abandoned: %s", problem)

    async def sweep(self, topic: str) -> None:
        """Delete the queues of subscribers that died."""
        urls = await self._catalog.list_urls(self._catalog.names.subscribers(topic))
        await gather(self._sweep(url) for url in urls if url not in self._heard)

    async def _sweep(self, url: str) -> None:
        try:
            answer = await self._service.request("sqs", "list_queue_tags", QueueUrl=url)
        except Missing:
            return
        tags = msgspec.convert(answer.get("Tags", {}), dict[str, str])
        if int(self._seen()) - int(tags.get(SEEN, self._seen())) > ABANDONED_SECONDS:
            await self._delete(url, tags.get(HEARS, ""))

    async def _delete(self, url: str, subscription: str) -> None:
        try:
            if subscription:
                await self._service.request("sns", "unsubscribe", SubscriptionArn=subscription)
            await self._service.request("sqs", "delete_queue", QueueUrl=url)
        except Missing:
            pass  # somebody was quicker

    async def _touch_forever(self) -> None:
        while True:
            await asyncio.sleep(TOUCH_SECONDS)
            for url in list(self._heard):
                try:
                    await self._service.request("sqs", "tag_queue", QueueUrl=url, Tags={SEEN: self._seen()})
                except TransportUnavailable as problem:
                    log.debug("could not say that %s is in use: %s", url, problem)

    def _seen(self) -> str:
        return str(self._clock() // 1_000_000)
