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

from edow.errors import TransportUnavailable, Unsupported
from edow.transport.sqs.service import Missing, Service
from edow.transport.sqs.topics import Topics

SEEN = "edow-seen"  # tag: when the subscriber was last alive, seconds since the epoch
HEARS = "edow-subscription"  # tag: what it hears through
TOUCH_SECONDS = 300
ABANDONED_SECONDS = 3600
RETENTION = "300"  # seconds; nobody wants an old broadcast

log = logging.getLogger("edow.transport.sqs")


class Listening:
    """The queues of one subscriber. `clock`: microseconds."""

    def __init__(self, service: Service, topics: Topics, clock: Callable[[], int]) -> None:
        self._service = service
        self._topics = topics
        self._clock = clock
        self._heard: dict[str, str] = {}  # queue -> subscription
        self._touching: asyncio.Task[None] | None = None

    async def begin(self, topic: str) -> str:
        """A new queue, that hears all that is published to the topic from now on; after those of the dead are gone."""
        await self._topics.know([topic])
        if not (arn := self._topics.arn(topic)):
            raise Unsupported(f"topic {topic!r} has groups, and only a topic without any can be heard by all")
        names = self._topics.names
        others = await self._topics.list_queues(names.listener(topic, ""))
        await asyncio.gather(*(self._sweep(url) for url in others))
        name = names.listener(topic, uuid4().hex[:12])
        queue = f"{arn.rpartition(':')[0].replace(':sns:', ':sqs:', 1)}:{name}"
        attributes = {"MessageRetentionPeriod": RETENTION, "Policy": _policy(arn, queue)}
        tags = {SEEN: self._seen()}
        answer = await self._service.call("sqs", "create_queue", QueueName=name, Attributes=attributes, tags=tags)
        self._heard[url := str(answer["QueueUrl"])] = ""
        parameters = {"TopicArn": arn, "Protocol": "sqs", "Endpoint": queue, "ReturnSubscriptionArn": True}
        raw = {"RawMessageDelivery": "true"}  # the message itself, not a description of it
        answer = await self._service.call("sns", "subscribe", **parameters, Attributes=raw)
        self._heard[url] = str(answer["SubscriptionArn"])
        await self._service.call("sqs", "tag_queue", QueueUrl=url, Tags={HEARS: self._heard[url]})
        if self._touching is None:
            self._touching = asyncio.create_task(self._touch_forever(), name="edow-sqs-alive")
        return url

    async def end(self) -> None:
        """Delete the queues; one that cannot be is swept by another."""
        if self._touching is not None:
            self._touching.cancel()
        heard, self._heard = self._heard, {}
        try:
            await asyncio.gather(*(self._delete(url, subscription) for url, subscription in heard.items()))
        except TransportUnavailable as problem:
            log.warning("a broadcast queue could not be deleted, it will be as abandoned: %s", problem)

    async def _sweep(self, url: str) -> None:
        try:
            answer = await self._service.call("sqs", "list_queue_tags", QueueUrl=url)
        except Missing:
            return
        tags = msgspec.convert(answer.get("Tags", {}), dict[str, str])
        if int(self._seen()) - int(tags.get(SEEN, self._seen())) > ABANDONED_SECONDS:
            await self._delete(url, tags.get(HEARS, ""))

    async def _delete(self, url: str, subscription: str) -> None:
        try:
            if subscription:
                await self._service.call("sns", "unsubscribe", SubscriptionArn=subscription)
            await self._service.call("sqs", "delete_queue", QueueUrl=url)
        except Missing:
            pass  # somebody was quicker

    async def _touch_forever(self) -> None:
        while True:
            await asyncio.sleep(TOUCH_SECONDS)
            for url in list(self._heard):
                try:
                    await self._service.call("sqs", "tag_queue", QueueUrl=url, Tags={SEEN: self._seen()})
                except Missing:
                    del self._heard[url]  # its reader will find out
                except TransportUnavailable as problem:
                    log.debug("could not say that %s is in use: %s", url, problem)

    def _seen(self) -> str:
        return str(self._clock() // 1_000_000)


def _policy(arn: str, queue: str) -> str:
    """Lets the SNS topic send to the queue."""
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue,
        "Condition": {"ArnEquals": {"aws:SourceArn": arn}},
    }
    return msgspec.json.encode({"Version": "2012-10-17", "Statement": [statement]}).decode()
