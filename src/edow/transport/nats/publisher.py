"""Publishing: a batch is sent in one go, then all its confirmations are awaited.

Every message carries an id of its own. Those whose fate is unknown after a failure keep theirs for when the caller
publishes them again, and the server, which knows the ids of the last seconds, stores none of them twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from hashlib import blake2b
from itertools import count
from secrets import token_hex

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from edow.errors import InvalidInput, PublishFailed, TransportUnavailable
from edow.model.message import Message
from edow.transport.nats.link import Link
from edow.transport.nats.names import KEY, Topic, encode_key, partition_of, partition_subject
from edow.transport.nats.topics import Topics
from edow.transport.sizes import pieces

SENT_MESSAGES = 2000  # sent and not confirmed yet, at most,
SENT_BYTES = 16 * 1024 * 1024  # ... and their bytes
YIELD_EVERY = 128  # messages written without letting others run
UNSURE = 20_000  # messages of unknown fate that are remembered
MESSAGE_ID = "Nats-Msg-Id"
HEADER_BYTES = 1024  # of the server's limit, for what surrounds a body

_HEADER = len(b"NATS/1.0\r\nNats-Msg-Id: \r\nEdow-Key: \r\n\r\n") + 40  # for an id


class Problem(msgspec.Struct):
    err_code: int = 0
    description: str = ""


class Confirmation(msgspec.Struct):
    """The server's word on a message, as far as it matters."""

    error: Problem | None = None


_decode = msgspec.json.Decoder(Confirmation).decode


class Sent:
    """Messages under way, by their index in the caller's batch."""

    def __init__(self, part: range) -> None:
        self.settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.missing = set(part)  # their confirmations
        self.failed: dict[int, str] = {}  # what the server has said against them

    def confirm(self, index: int, data: bytes) -> None:
        self.missing.discard(index)
        if trouble := _trouble(data):
            self.failed[index] = trouble
        if not self.missing and not self.settled.done():
            self.settled.set_result(None)


class Publisher:
    """Shared by all callers of a transport."""

    def __init__(self, link: Link, topics: Topics) -> None:
        self._link = link
        self._topics = topics
        self._name = token_hex(8)
        self._inbox = f"{link.options.inbox}.{self._name}"
        self._epoch = 0  # of the connection at which confirmations are heard
        self._sent: dict[int, Sent] = {}
        self._numbers = count()
        self._unsure: dict[bytes, tuple[str, float]] = {}  # fingerprint -> id, and when

    @property
    def max_message_bytes(self) -> int:
        return self._link.client.max_payload - HEADER_BYTES

    async def publish(self, messages: Sequence[Message]) -> None:
        """See the contract."""
        for index, message in enumerate(messages):
            self._check_size(index, message)
        try:
            await self._link.ready(self._link.options.publish_timeout)
            topics = await self._topics.find({message.topic for message in messages})
        except TransportUnavailable as problem:
            raise PublishFailed(str(problem), tuple(range(len(messages)))) from problem
        headers = [self._header(message) for message in messages]
        failed: dict[int, str] = {}
        for first, some in pieces(messages, SENT_MESSAGES, SENT_BYTES):
            part = range(first, first + len(some))
            trouble = await self._send(messages, headers, part, topics)
            failed |= trouble
            if len(trouble) == len(part):
                failed |= dict.fromkeys(range(part.stop, len(messages)), "not sent, after others")
                break
        if failed:
            raise self._failure(messages, headers, failed)

    async def _send(
        self, messages: Sequence[Message], headers: Sequence[dict[str, str]], part: range, topics: dict[str, Topic]
    ) -> dict[int, str]:
        """What the broker may not have of this part: index -> why."""
        link, sent, number, why = self._link, Sent(part), next(self._numbers), ""
        client, lost, self._sent[number] = link.client, link.lost, sent
        try:
            await self._listen()
            for index in part:
                subject = _subject(topics[messages[index].topic], messages[index].key)
                await client.publish(subject, messages[index].body, f"{self._inbox}.{number}.{index}", headers[index])
                if index % YIELD_EVERY == YIELD_EVERY - 1:
                    await asyncio.sleep(0)
            ends = (sent.settled, lost)
            await asyncio.wait(ends, timeout=link.options.publish_timeout, return_when=asyncio.FIRST_COMPLETED)
        except (NatsError, OSError) as problem:
            why = str(problem) or type(problem).__name__
        finally:
            del self._sent[number]
        why = why or ("does not answer" if lost.done() else "has not confirmed it")
        return sent.failed | dict.fromkeys(sent.missing, f"{link.address}: {why}")

    async def _listen(self) -> None:
        """For confirmations, at each connection anew."""
        if self._epoch != self._link.epoch:
            self._epoch = self._link.epoch
            await self._link.client.subscribe(f"{self._inbox}.>", cb=self._confirmed, pending_bytes_limit=0)

    async def _confirmed(self, message: Msg) -> None:
        number, index = map(int, message.subject.split(".")[-2:])
        if sent := self._sent.get(number):
            sent.confirm(index, message.data)

    # ── what surrounds a body ─────────────────────────────────────────────────────────────────────────────────────────

    def _header(self, message: Message) -> dict[str, str]:
        header = {MESSAGE_ID: self._known_id(message) or f"{self._name}-{next(self._numbers)}"}
        if message.key is not None:
            header[KEY] = encode_key(message.key)
        return header

    def _known_id(self, message: Message) -> str:
        """Of a message that is published again after a failure."""
        known = self._unsure.pop(_fingerprint(message), None) if self._unsure else None
        now = asyncio.get_running_loop().time()
        return known[0] if known is not None and known[1] + self._link.options.dedupe > now else ""

    def _failure(
        self, messages: Sequence[Message], headers: Sequence[dict[str, str]], failed: dict[int, str]
    ) -> PublishFailed:
        """The error, after noting what is to be known when they are published again."""
        now, indexes = asyncio.get_running_loop().time(), tuple(sorted(failed))
        for index in indexes:
            self._unsure[_fingerprint(messages[index])] = headers[index][MESSAGE_ID], now
            self._topics.forget(messages[index].topic)
        while len(self._unsure) > UNSURE:
            del self._unsure[next(iter(self._unsure))]
        return PublishFailed(
            f"{len(indexes)} of {len(messages)} messages were not published, the first to "
            f"{messages[indexes[0]].topic!r}: {failed[indexes[0]]}",
            indexes,
        )

    def _check_size(self, index: int, message: Message) -> None:
        size, key, most = len(message.body), len(encode_key(message.key or "")), self.max_message_bytes
        if size > most or size + key + _HEADER > self._link.client.max_payload:
            raise InvalidInput(
                f"message {index} to {message.topic!r} has {size:,} bytes, and its key {key:,}; the limit is {most:,} "
                "(max_payload of the server): store the payload elsewhere and send a reference, or raise the limit"
            )


def _subject(topic: Topic, key: str | None) -> str:
    if key is None or not topic.partitions:
        return topic.subject
    return partition_subject(topic.subject, partition_of(key, topic.partitions))


def _trouble(data: bytes) -> str:
    """What a confirmation says against it."""
    if not data:
        return "no stream listens there, or JetStream is not ready"
    if b'"error"' not in data:
        return ""
    try:
        problem = _decode(data).error
    except msgspec.MsgspecError as nonsense:
        return str(nonsense)
    return f"{problem.description} ({problem.err_code})" if problem is not None else ""


def _fingerprint(message: Message) -> bytes:
    digest = blake2b(digest_size=16)
    for part in (message.topic, message.key or "", str(message.key is None)):
        digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
    digest.update(message.body)
    return digest.digest()
