"""Publishing a batch: as few requests as Pub/Sub allows, all under way together, awaited once.

A request holds messages of one topic and one ordering key. Those of a key follow one another; when one fails, what
comes behind it is not sent, since it would overtake.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from google.api_core.exceptions import GoogleAPICallError, InvalidArgument, NotFound
from google.pubsub_v1.types import PublishRequest

from edow.errors import InvalidInput, PublishFailed, TransportUnavailable
from edow.model.message import Message
from edow.transport.pubsub.envelope import Envelopes, check
from edow.transport.pubsub.link import Link
from edow.transport.pubsub.names import Names
from edow.transport.pubsub.options import ROOM_BYTES, PubsubOptions
from edow.transport.pubsub.topics import Topics

MOST_MESSAGES = 1_000  # in one request
AROUND_BYTES = 64  # of a message, about: lengths, names of attributes
TOGETHER = 64  # requests under way; one connection takes 100


class Part(msgspec.Struct):
    """One request to be: the messages, and where they stand in the batch."""

    topic: str
    ordering_key: str
    indexes: list[int]
    size: int


class Publisher:
    """The publishing side of a transport."""

    def __init__(self, link: Link, names: Names, topics: Topics, options: PubsubOptions) -> None:
        self._link = link
        self._names = names
        self._topics = topics
        self._most = options.max_message_bytes
        self._room = options.request_bytes - ROOM_BYTES
        self._envelopes = Envelopes(options.ordering)
        self._request: Any = PublishRequest.pb()
        self._turn = asyncio.Semaphore(TOGETHER)

    async def publish(self, messages: Sequence[Message]) -> None:
        """See the contract."""
        for index, message in enumerate(messages):
            check(index, message, self._most)
        try:
            await self._topics.check({message.topic for message in messages})
        except TransportUnavailable as problem:
            raise PublishFailed(str(problem), tuple(range(len(messages)))) from problem
        lanes = self._lanes(messages)
        failed = [each for each in await asyncio.gather(*(self._send(messages, lane) for lane in lanes)) if each[0]]
        if failed:
            raise self._failure(sorted(index for indexes, _ in failed for index in indexes), messages, failed[0][1])

    def _lanes(self, messages: Sequence[Message]) -> list[list[Part]]:
        """Parts of one lane go one after the other."""
        lanes: dict[tuple[str, str], list[Part]] = {}
        in_order = {topic: self._names.keeps_order(topic) for topic in {message.topic for message in messages}}
        for index, message in enumerate(messages):
            topic = message.topic
            ordering_key = self._envelopes.ordering_key(message, in_order[topic])
            size = len(message.body) + 4 * len(message.key or "") + AROUND_BYTES
            lane = lanes.setdefault((topic, ordering_key), [])
            if not lane or len(lane[-1].indexes) >= MOST_MESSAGES or lane[-1].size + size > self._room:
                lane.append(Part(topic, ordering_key, [], 0))
            lane[-1].indexes.append(index)
            lane[-1].size += size
        return [*lanes.values()]

    async def _send(
        self, messages: Sequence[Message], lane: Sequence[Part]
    ) -> tuple[list[int], GoogleAPICallError | None]:
        """What of the lane the service does not have, and why."""
        for number, part in enumerate(lane):
            try:
                async with self._turn:
                    await self._link.call(self._call(messages, part))
            except GoogleAPICallError as problem:
                if isinstance(problem, NotFound):
                    self._topics.forget(part.topic)
                return [index for each in lane[number:] for index in each.indexes], problem
        return [], None

    def _call(self, messages: Sequence[Message], part: Part) -> Any:
        pack = self._envelopes.pack
        packed = [pack(messages[index], part.ordering_key) for index in part.indexes]
        request = PublishRequest.wrap(self._request(topic=self._names.topic(part.topic), messages=packed))
        publisher = self._link.publisher
        return lambda left: publisher.publish(request, retry=None, timeout=left)

    def _failure(
        self, missing: list[int], messages: Sequence[Message], problem: GoogleAPICallError | None
    ) -> Exception:
        """Refused for good only when nothing was published: whoever gets that may leave the batch out."""
        what = f"{len(missing)} of {len(messages)} messages were not published"
        assert problem is not None
        if isinstance(problem, InvalidArgument) and len(missing) == len(messages):
            return InvalidInput(str(self._link.error(problem, what)))
        return PublishFailed(str(self._link.error(problem, what)), tuple(missing))
