"""Publishing a batch: as few requests as Pub/Sub allows, all under way together, awaited once.

A request holds messages of one topic and one ordering key. Those of a key follow one another; when one fails, what
comes behind it is not sent, since it would overtake.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from google.api_core.exceptions import GoogleAPICallError, InvalidArgument, NotFound
from google.pubsub_v1.types import PublishRequest, PubsubMessage

from edow.errors import InvalidInput, PublishFailed, TransportUnavailable
from edow.model.message import Message
from edow.model.portions import portions
from edow.transport.pubsub.link import Link
from edow.transport.pubsub.topics import Topics
from edow.transport.sizes import check_sizes

REQUEST_BYTES = 10_000_000  # the service's limit
MOST_BYTES = REQUEST_BYTES - 4_096  # of a message: the rest is for names, key and attributes
MOST_KEY_BYTES = 1_024  # of an ordering key and of an attribute
MOST_MESSAGES = 1_000  # in one request
AROUND_BYTES = 64  # of a message, about: lengths, names of attributes
TOGETHER = 64  # requests under way; one connection takes 100

KEY = "edow-key"  # attribute: the key, where the ordering key cannot say it
EMPTY = "edow-empty"  # ordering key of the empty key; attribute of an empty message, which Pub/Sub would refuse


class Publisher:
    """The publishing side of a transport."""

    def __init__(self, link: Link, topics: Topics) -> None:
        self._link = link
        self._topics = topics
        self._turn = asyncio.Semaphore(TOGETHER)

    async def publish(self, messages: Sequence[Message]) -> None:
        """See the contract."""
        check_sizes(messages, MOST_BYTES)
        lanes: dict[tuple[str, str], list[int]] = {}
        for index, message in enumerate(messages):
            check_key(index, message)
            ordering_key = "" if message.key is None else message.key or EMPTY
            lanes.setdefault((message.topic, ordering_key), []).append(index)
        try:
            await self._topics.check({topic for topic, _ in lanes})
        except TransportUnavailable as problem:
            raise PublishFailed(str(problem), tuple(range(len(messages)))) from problem
        problems = await asyncio.gather(
            *(self._send(messages, topic, ordering_key, lane) for (topic, ordering_key), lane in lanes.items())
        )
        missing = sorted(index for lane in lanes.values() for index in lane)
        if missing:
            first = next(each for each in problems if each is not None)
            raise self._failure(missing, len(messages), first) from first

    async def _send(
        self, messages: Sequence[Message], topic: str, ordering_key: str, lane: list[int]
    ) -> GoogleAPICallError | None:
        """One request after the other; what the service has got leaves the lane. What went wrong."""
        path = self._topics.names.topic(topic)
        for packed in requests(messages, ordering_key, lane):
            request = PublishRequest.pb()(topic=path, messages=packed)
            try:
                async with self._turn:
                    await self._link.call("Publisher/Publish", request)
            except GoogleAPICallError as problem:
                if isinstance(problem, NotFound):
                    self._topics.forget(topic)
                return problem
            del lane[: len(packed)]
        return None

    def _failure(self, missing: Sequence[int], count: int, problem: GoogleAPICallError) -> Exception:
        """Refused for good only when nothing was published: whoever gets that may leave the batch out."""
        text = str(self._link.error(problem, f"{len(missing)} of {count} messages were not published"))
        if isinstance(problem, InvalidArgument) and len(missing) == count:
            return InvalidInput(text)
        return PublishFailed(text, tuple(missing))


def requests(messages: Sequence[Message], ordering_key: str, lane: Sequence[int]) -> Iterator[list[Any]]:
    """The lane's messages as Pub/Sub's, each time as many as one request takes. Raw protobuf: Google's wrappers take
    thrice as long.
    """
    kind = PubsubMessage.pb()
    for some in portions([messages[index] for index in lane], _size, MOST_MESSAGES, MOST_BYTES):
        yield [kind(data=each.body, ordering_key=ordering_key, attributes=_attributes(each)) for each in some]


def _size(message: Message) -> int:
    """In bytes, about."""
    return len(message.body) + 4 * len(message.key or "") + AROUND_BYTES


def _attributes(message: Message) -> dict[str, str]:
    return {KEY: ""} if message.key == "" else {EMPTY: "1"} if not message.body else {}


def key_of(packed: Any) -> str | None:
    """The key that a received message was published with. A foreign publisher's is its ordering key."""
    if KEY in packed.attributes:
        key: str = packed.attributes[KEY]
        return key
    return packed.ordering_key or None


def check_key(index: int, message: Message) -> None:
    """Raises InvalidInput for a key that Pub/Sub would not take."""
    try:
        size = len((message.key or "").encode())
    except UnicodeEncodeError as problem:
        raise InvalidInput(f"message {index} to {message.topic!r}: its key is no valid text: {problem}") from problem
    if size > MOST_KEY_BYTES:
        raise InvalidInput(
            f"message {index} to {message.topic!r} has a key of {size:,} bytes, Pub/Sub's limit is {MOST_KEY_BYTES:,}: "
            "use a shorter one, such as a hash of it"
        )
