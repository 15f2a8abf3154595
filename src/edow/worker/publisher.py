"""Publishes what the worker has to say, in batches; acknowledges a delivery only once its answer is with the broker.

One loop; while a batch is under way the next one collects. Nothing is dropped while the broker is away: the queue is
bounded by the worker, which receives nothing more when it is full.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from edow.errors import CallerError, Closed, PublishFailed, Unavailable
from edow.model import topics
from edow.model.message import Message
from edow.model.portions import portions
from edow.transport.contract import Delivery, TopicSpec, Transport
from edow.worker.attempt import Lane

BATCH_BYTES = 8 * 1024 * 1024  # in one call, or one message: a broker takes no gigabyte at once, however often tried
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0

log = logging.getLogger("edow.worker")


class Answered(Protocol):
    """Deliveries that a message answers."""

    @property
    def lane(self) -> Lane: ...
    @property
    def deliveries(self) -> list[Delivery]: ...


Entry = tuple[Message, Answered | None]
Acknowledge = Callable[[Sequence[Answered]], Awaitable[None]]


class Publisher:
    """`acknowledge` is awaited after each batch with whatever the broker's new messages answer."""

    def __init__(self, transport: Transport, acknowledge: Acknowledge, batch: int) -> None:
        self._transport = transport
        self._acknowledge = acknowledge
        self._batch = batch
        self._queue: deque[Entry] = deque()
        self._ready = asyncio.Event()
        self._flushed = asyncio.Event()
        self._flushed.set()
        self._alone = 0  # messages at the head, which the broker did not take with others
        self.published = 0
        self.size = 0  # bytes that wait

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, message: Message, answers: Answered | None = None) -> None:
        self._queue.append((message, answers))
        self.size += len(message.body)
        self._ready.set()
        self._flushed.clear()

    async def flushed(self) -> None:
        """When everything added so far is published and acknowledged."""
        await self._flushed.wait()

    async def run(self) -> None:
        """Until cancelled, or until the transport is closed."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            await self._ready.wait()
            try:
                await self.run_once()
                pause = FIRST_PAUSE_SECONDS
            except Closed:
                log.warning("transport closed; %d messages were not published, their tasks will run again", len(self))
                return
            except Unavailable as error:
                log.warning("%d messages wait to be published, next try in %.2f s: %s", len(self), pause, error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            except Exception:
                log.exception("publishing failed in an unexpected way; %d messages wait", len(self))
                await asyncio.sleep(LONGEST_PAUSE_SECONDS)

    async def run_once(self) -> None:
        """Publish one batch. On an error everything that the broker may not have stays queued, in order."""
        alone, self._alone = self._alone, 0
        entries = self._take(alone or self._batch)
        try:
            # Not on disk is enough: a loss takes the acknowledgements that follow with it, and the tasks come again.
            await self._transport.publish([message for message, _ in entries], durable=False)
        except PublishFailed as error:
            missing = set(error.indexes).intersection(range(len(entries))) or set(range(len(entries)))
            self._put_back([entries[index] for index in sorted(missing)])
            if not alone:  # by themselves it shows whether they will ever be taken
                self._alone = len(missing)
            await self._published([entry for index, entry in enumerate(entries) if index not in missing])
            raise
        except CallerError:
            await self._publish_one_by_one(entries)
        except BaseException:
            self._put_back(entries)
            raise
        else:
            await self._published(entries)
        if not self._queue:
            self._ready.clear()
            self._flushed.set()

    def _take(self, most: int) -> list[Entry]:
        """The next batch."""
        if len(self._queue) <= most and self.size <= BATCH_BYTES:  # all of it, as mostly
            entries, self._queue, self.size = list(self._queue), deque(), 0
            return entries
        entries = next(portions(self._queue, _size, most, BATCH_BYTES))
        for entry in entries:
            self._queue.popleft()
            self.size -= _size(entry)
        return entries

    def _put_back(self, entries: Sequence[Entry]) -> None:
        """At the head, in their order."""
        self._queue.extendleft(reversed(entries))
        self.size += sum(map(_size, entries))

    async def _publish_one_by_one(self, entries: Sequence[Entry]) -> None:
        """A message that the transport refuses must not hold up the others."""
        for index, entry in enumerate(entries):
            try:
                await self._publish_alone(entry[0])
            except CallerError as error:
                log.error("the transport refuses a message to topic %s, it is dropped: %s", entry[0].topic, error)
            except BaseException:
                self._put_back(entries[index:])
                raise
            await self._published([entry])

    async def _publish_alone(self, message: Message) -> None:
        """To a topic of the orchestrators', which somebody may have deleted, a second time."""
        try:
            await self._transport.publish([message], durable=False)
        except CallerError:
            groups = topics.groups_of(message.topic)
            if groups != (topics.ORCHESTRATORS,):
                raise
            await self._transport.ensure([TopicSpec(message.topic, groups)])
            await self._transport.publish([message], durable=False)

    async def _published(self, entries: Sequence[Entry]) -> None:
        self.published += len(entries)
        if answered := [answers for _, answers in entries if answers is not None]:
            await self._acknowledge(answered)


def _size(entry: Entry) -> int:
    """In bytes."""
    return len(entry[0].body)
