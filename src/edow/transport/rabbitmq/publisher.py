"""Publishing a batch: written at once, its confirmations awaited once.

The client library has a lock, a future and a timer for each message. Here a batch has one future, and each message an
entry in the channel's own table of confirmations; everything else is left to the library.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Sequence
from itertools import count
from secrets import token_hex
from typing import cast

from aiormq.abc import ChannelFrame, FrameType
from aiormq.channel import Channel
from aiormq.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed, PublishError
from pamqp import commands, frame
from pamqp.body import ContentBody
from pamqp.common import FieldTable
from pamqp.header import ContentHeader

from edow.errors import EdowError, InvalidInput, PublishFailed, TransportUnavailable
from edow.model.message import Message
from edow.transport.rabbitmq.link import Link, apart
from edow.transport.rabbitmq.options import Server
from edow.transport.rabbitmq.topology import Topology, close_channel

KEY_HEADER = "edow-key"  # the key itself; the routing key tells its partition alone
PIECE_BYTES = 1024 * 1024  # of a batch that are handed to the socket at once
PERSISTENT = 2
UNROUTABLE = "no queue takes it"
WHY = ": RabbitMQ is away, overloaded, or short of memory or disk (`rabbitmqctl status` shows alarms)"

_Properties = commands.Basic.Properties


class Envelope:
    """A message with its place: exchange "" means the queue that the routing key names."""

    __slots__ = ("body", "exchange", "headers", "mandatory", "routing_key")

    def __init__(self, place: tuple[str, str], body: bytes, headers: FieldTable, mandatory: bool) -> None:
        self.exchange, self.routing_key = place
        self.body = body
        self.headers = headers
        self.mandatory = mandatory


class _Batch:
    """What is not confirmed yet, and what the server does not have. `done` when nothing more will be known."""

    def __init__(self, size: int) -> None:
        self.waiting = set(range(size))
        self.failed: dict[int, str] = {}
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.problem: BaseException | None = None  # that has closed the channel

    @property
    def missing(self) -> tuple[int, ...]:
        return tuple(sorted(self.waiting.union(self.failed)))

    def settle(self, index: int, failure: str | None) -> None:
        self.waiting.discard(index)
        if failure is not None:
            self.failed[index] = failure
        if not self.waiting:
            self.end(None)

    def end(self, problem: BaseException | None) -> None:
        if not self.done.done():
            self.problem = problem
            self.done.set_result(None)


class _Confirmation:
    """Stands for a message in the channel's table, in the role of a future."""

    __slots__ = ("batch", "channel", "index", "message_id")

    def __init__(self, batch: _Batch, index: int, channel: Channel, message_id: str) -> None:
        self.batch = batch
        self.index = index
        self.channel = channel
        self.message_id = message_id

    def done(self) -> bool:
        return False

    def cancelled(self) -> bool:
        return False

    def set_result(self, _: object) -> None:
        self._settle(None)

    def set_exception(self, problem: BaseException) -> None:
        returned = isinstance(problem, PublishError)
        self._settle(UNROUTABLE if returned else "the server has refused it")

    def _settle(self, failure: str | None) -> None:
        self.channel.message_id_delivery_tag.pop(self.message_id, None)
        self.batch.settle(self.index, failure)


class Publisher:
    """All publishing of a transport, on one channel of one connection."""

    def __init__(self, server: Server, link: Link, topology: Topology) -> None:
        self._server = server
        self._link = link
        self._topology = topology
        self._channel: Channel | None = None
        self._open: set[_Batch] = set()
        self._opening = asyncio.Lock()
        self._writing = asyncio.Lock()
        self._ids = _message_ids()
        self._doubtful = False  # queues that should be there are not

    async def publish(self, messages: Sequence[Message]) -> None:
        """See the contract. Gives up after `publish_timeout`."""
        names, topology = self._topology.names, self._topology
        envelopes = [
            Envelope(
                (names.exchange(message.topic), names.routing_key(message.topic, message.key)),
                message.body,
                {} if message.key is None else {KEY_HEADER: message.key},
                topology.must_be_routed(message.topic),
            )
            for message in messages
        ]
        await self.put(envelopes, {message.topic for message in messages})

    async def put(self, envelopes: Sequence[Envelope], topics: Collection[str] = ()) -> None:
        """Publish them, if all topics exist. Raises as `publish` does."""
        batch = _Batch(len(envelopes))
        seconds = self._server.options.publish_timeout
        channel: Channel | None = None
        try:
            async with asyncio.timeout(seconds):
                channel = await self._ready_channel(topics)
                self._open.add(batch)
                batch.done.add_done_callback(lambda _: self._open.discard(batch))
                # Whole, also if the caller is cancelled meanwhile.
                await asyncio.shield(asyncio.create_task(self._write(channel, batch, envelopes)))
                await asyncio.wait([batch.done])
        except TimeoutError as problem:
            if channel is None:
                raise TransportUnavailable(self._said(f"not ready within {seconds} seconds{WHY}")) from problem
            await self._link.drop()  # what was not confirmed is not to be sent later, from our own memory
            raise PublishFailed(self._said(f"not confirmed within {seconds} seconds{WHY}"), batch.missing) from problem
        if batch.missing:
            raise self._failure(batch)

    async def channel(self) -> Channel:
        """The channel. If it is a new one, every topic we know of has been made again."""
        async with self._opening:
            if self._channel is None or self._channel.is_closed:
                self._topology.doubt()
                channel = cast(Channel, await self._link.channel(confirms=True))
                try:
                    await self._topology.make_again(channel)
                except BaseException:
                    await close_channel(channel)
                    raise
                channel.closing.add_done_callback(self._lost)
                self._channel = channel
            return self._channel

    def _lost(self, closing: asyncio.Future[object]) -> None:
        """The channel is closed, with it goes what was not confirmed on it. There is no other that could have any."""
        problem = None if closing.cancelled() else closing.exception()
        for batch in self._open:
            batch.end(problem)

    async def _ready_channel(self, topics: Collection[str]) -> Channel:
        channel = self._channel
        if channel is None or channel.is_closed or self._doubtful or not all(map(self._topology.knows, topics)):
            channel = await apart(self._prepare(topics))
        await (await self._link.get()).ready()  # while the server is short of memory or disk it would not read
        return channel

    async def _prepare(self, topics: Collection[str]) -> Channel:
        channel = await self.channel()
        if self._doubtful:
            await self._topology.make_again(channel)
            self._doubtful = False
        await self._topology.look_for(self._link, topics)
        return channel

    async def _write(self, channel: Channel, batch: _Batch, envelopes: Sequence[Envelope]) -> None:
        """In order, and in pieces, so that a large batch is not in memory a second time."""
        async with self._writing:
            piece: list[bytes] = []
            size = 0
            for index, envelope in enumerate(envelopes):
                if channel.is_closed:
                    batch.end(None)
                    return
                message = self._marshal(channel, batch, index, envelope)
                piece.append(message)
                size += len(message)
                if size >= PIECE_BYTES or index == len(envelopes) - 1:
                    written = asyncio.get_running_loop().create_future()
                    await channel.write_queue.put(ChannelFrame(b"".join(piece), False, written))
                    await asyncio.wait([written, batch.done], return_when=asyncio.FIRST_COMPLETED)
                    piece, size = [], 0

    def _marshal(self, channel: Channel, batch: _Batch, index: int, envelope: Envelope) -> bytes:
        """As bytes, and with an entry in the table of confirmations."""
        message_id = next(self._ids)
        channel.delivery_tag += 1
        confirmation = _Confirmation(batch, index, channel, message_id)
        channel.confirmations[channel.delivery_tag] = cast("asyncio.Future[object]", confirmation)
        channel.message_id_delivery_tag[message_id] = channel.delivery_tag
        properties = _Properties(delivery_mode=PERSISTENT, message_id=message_id, headers=envelope.headers or None)
        method = commands.Basic.Publish(
            exchange=envelope.exchange, routing_key=envelope.routing_key, mandatory=envelope.mandatory
        )
        body, most = envelope.body, channel.max_content_size
        header = ContentHeader(body_size=len(body), properties=properties)
        contents = [ContentBody(body[start : start + most]) for start in range(0, len(body), most)]
        frames: list[FrameType] = [method, header, *contents]
        return b"".join(frame.marshal(each, channel.number) for each in frames)

    def _failure(self, batch: _Batch) -> EdowError:
        reasons, problem = set(batch.failed.values()), batch.problem
        if isinstance(problem, ChannelPreconditionFailed):  # such as a message over the server's max_message_size
            return InvalidInput(self._said(f"refused: {problem}"))
        if isinstance(problem, ChannelNotFoundEntity):
            self._topology.doubt()
        self._doubtful = self._doubtful or UNROUTABLE in reasons
        if batch.waiting:
            reasons.add(f"connection lost: {problem!r}")
        return PublishFailed(self._said("; ".join(sorted(reasons))), batch.missing)

    def _said(self, text: str) -> str:
        return f"{self._server.address}: {text}"


def _message_ids() -> Iterator[str]:
    prefix = token_hex(8)
    return (f"{prefix}-{number}" for number in count())
