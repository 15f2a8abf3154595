"""Publishing: a batch is sent in one go, then all its confirmations are awaited.

Every message carries an id of its own. Those whose fate is unknown after a failure keep theirs for when the caller
publishes them again, and the server, which knows the ids of the last seconds, stores none of them twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from hashlib import blake2b
from secrets import token_hex

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from edow.errors import InvalidInput, PublishFailed, TransportUnavailable
from edow.model.message import Message
from edow.transport.nats.api import Reply
from edow.transport.nats.link import Link
from edow.transport.nats.names import KEY, encode_key, partition_of, partition_subject
from edow.transport.nats.topics import Topic, Topics

MESSAGE_ID = "Nats-Msg-Id"
HEADER_BYTES = 1024  # of the server's limit, for what surrounds a body
SENT_MESSAGES = 2000  # sent and not confirmed yet, at most,
SENT_BYTES = 16 * 1024 * 1024  # ... and their bytes
YIELD_EVERY = 128  # messages written without letting others run
UNSURE = 20_000  # messages of unknown fate that are remembered

_HEADER = len(b"NATS/1.0\r\nNats-Msg-Id: \r\nEdow-Key: \r\n\r\n") + 40  # for an id
_decode = msgspec.json.Decoder(Reply).decode


class Sent:
    """Some messages under way. `failed`: index -> what the server has said against it."""

    def __init__(self) -> None:
        self.waiting: dict[int, int] = {}  # number of a confirmation -> index
        self.failed: dict[int, str] = {}
        self.done = asyncio.Event()
        self._complete = False

    def confirm(self, number: int, data: bytes) -> None:
        index = self.waiting.pop(number, None)
        if index is not None and (trouble := _trouble(data)):
            self.failed[index] = trouble
        if self._complete and not self.waiting:
            self.done.set()

    def complete(self) -> None:
        """All of them are sent."""
        self._complete = True
        if not self.waiting:
            self.done.set()


class Publisher:
    """Shared by all callers of a transport."""

    def __init__(self, link: Link, topics: Topics) -> None:
        self._link = link
        self._topics = topics
        self._name = token_hex(8)
        self._inbox = f"{link.options.inbox}.{token_hex(8)}"
        self._sent: dict[int, Sent] = {}
        self._number = 0
        self._unsure: dict[bytes, tuple[str, float]] = {}  # fingerprint -> id, and when

    async def open(self, fresh: bool = True) -> None:
        """Also after a reconnection."""
        if fresh:
            await self._link.client.subscribe(f"{self._inbox}.*", cb=self._confirmed, pending_bytes_limit=0)

    @property
    def max_message_bytes(self) -> int:
        return self._link.client.max_payload - HEADER_BYTES

    async def publish(self, messages: Sequence[Message]) -> None:
        """See the contract."""
        if not messages:
            return
        for index, message in enumerate(messages):
            self._check_size(index, message)
        try:
            await self._link.ready(self._link.options.publish_timeout)
            topics = await self._topics.find(message.topic for message in messages)
        except TransportUnavailable as problem:
            raise PublishFailed(str(problem), tuple(range(len(messages)))) from problem
        headers = [self._header(message) for message in messages]
        failed: dict[int, str] = {}
        for part in _parts(messages):
            failed |= await self._send(messages, headers, part, topics)
            if len(failed) >= len(part):
                failed |= dict.fromkeys(range(part.stop, len(messages)), "not sent, after others")
                break
        if failed:
            self._remember(messages, headers, failed)
            raise self._failure(messages, failed)

    # ── sending ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _send(
        self, messages: Sequence[Message], headers: Sequence[dict[str, str]], part: range, topics: dict[str, Topic]
    ) -> dict[int, str]:
        """What the broker does not have of this part: index -> why."""
        sent, link, lost = Sent(), self._link, self._link.lost
        numbers: list[int] = []
        try:
            for index in part:
                self._number += 1
                numbers.append(self._number)
                trouble = await self._send_one(topics, messages[index], headers[index], (sent, index))
                if trouble:
                    sent.failed |= dict.fromkeys(range(index, part.stop), trouble)
                    break
                if index % YIELD_EVERY == 0:
                    await asyncio.sleep(0)
            sent.complete()
            await self._confirmations(sent, lost)
            silence = f"{link.address} has not confirmed it" if link.up.is_set() else f"{link.address} does not answer"
            return sent.failed | dict.fromkeys(sent.waiting.values(), silence)
        finally:
            for number in numbers:
                self._sent.pop(number, None)

    async def _send_one(
        self, topics: dict[str, Topic], message: Message, header: dict[str, str], sent: tuple[Sent, int]
    ) -> str:
        """Why it could not be, or nothing."""
        topic, client, number = topics[message.topic], self._link.client, self._number
        subject = topic.subject
        if message.key is not None and topic.partitions:
            subject = partition_subject(subject, partition_of(message.key, topic.partitions))
        if not client.is_connected:
            return f"{self._link.address} does not answer"
        self._sent[number] = sent[0]
        sent[0].waiting[number] = sent[1]
        try:
            await client.publish(subject, message.body, f"{self._inbox}.{number}", header)
        except (NatsError, OSError) as problem:
            sent[0].waiting.pop(number, None)
            return str(problem) or type(problem).__name__
        return ""

    async def _confirmations(self, sent: Sent, lost: asyncio.Event) -> None:
        """Until all are there, the connection breaks, or the time is over."""
        if not sent.waiting or lost.is_set():
            return
        ends = [asyncio.ensure_future(sent.done.wait()), asyncio.ensure_future(lost.wait())]
        try:
            await asyncio.wait(ends, timeout=self._link.options.publish_timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in ends:
                each.cancel()

    async def _confirmed(self, message: Msg) -> None:
        number = int(message.subject[len(self._inbox) + 1 :])
        sent = self._sent.pop(number, None)
        if sent is not None:
            sent.confirm(number, message.data)

    # ── what surrounds a body ─────────────────────────────────────────────────────────────────────────────────────────

    def _header(self, message: Message) -> dict[str, str]:
        header = {MESSAGE_ID: self._id(message)}
        if message.key is not None:
            header[KEY] = encode_key(message.key)
        return header

    def _id(self, message: Message) -> str:
        if self._unsure:
            known = self._unsure.pop(_fingerprint(message), None)
            if known is not None and known[1] + self._link.options.dedupe > asyncio.get_running_loop().time():
                return known[0]
        self._number += 1
        return f"{self._name}-{self._number}"

    def _remember(self, messages: Sequence[Message], headers: Sequence[dict[str, str]], failed: dict[int, str]) -> None:
        now = asyncio.get_running_loop().time()
        for index in failed:
            self._unsure[_fingerprint(messages[index])] = headers[index][MESSAGE_ID], now
        while len(self._unsure) > UNSURE:
            del self._unsure[next(iter(self._unsure))]

    def _check_size(self, index: int, message: Message) -> None:
        size, most = len(message.body), self.max_message_bytes
        where = f"message {index} to {message.topic!r}"
        if size > most:
            raise InvalidInput(
                f"{where} has {size:,} bytes, the limit is {most:,} (the server's max_payload): "
                "store the payload elsewhere and send a reference, or raise max_payload"
            )
        key = 0 if message.key is None else len(encode_key(message.key))
        if size + _HEADER + key > self._link.client.max_payload:
            raise InvalidInput(f"{where} is over the server's limit with its key of {key:,} encoded bytes")

    def _failure(self, messages: Sequence[Message], failed: dict[int, str]) -> PublishFailed:
        indexes = tuple(sorted(failed))
        first = indexes[0]
        for index in indexes:
            self._topics.forget(messages[index].topic)
        return PublishFailed(
            f"{len(indexes)} of {len(messages)} messages were not published, the first to "
            f"{messages[first].topic!r}: {failed[first]}",
            indexes,
        )


def _trouble(data: bytes) -> str:
    """What a confirmation says against it."""
    if not data:
        return "no stream listens there, or JetStream is not ready"
    if b'"error"' not in data:
        return ""
    try:
        error = _decode(data).error
    except msgspec.MsgspecError as problem:
        return str(problem)
    return f"{error.description} ({error.err_code or error.code})" if error is not None else ""


def _parts(messages: Sequence[Message]) -> list[range]:
    """Ranges of indexes that are few and small enough to be under way at once."""
    parts: list[range] = []
    start = size = 0
    for index, message in enumerate(messages):
        if index > start and (index - start >= SENT_MESSAGES or size + len(message.body) > SENT_BYTES):
            parts.append(range(start, index))
            start, size = index, 0
        size += len(message.body)
    return [*parts, range(start, len(messages))]


def _fingerprint(message: Message) -> bytes:
    digest = blake2b(digest_size=16)
    for part in (message.topic, message.key or "", str(message.key is None)):
        digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
    digest.update(message.body)
    return digest.digest()
