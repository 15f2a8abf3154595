"""Publishing a batch: written at once, its confirmations awaited once. The client library's own way has a lock, a task
and a timer for each message; here each has a future in the channel's table of confirmations, and nothing else.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import count
from secrets import token_hex
from typing import cast

from aiormq.abc import FrameType
from aiormq.channel import Channel
from aiormq.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed, PublishError
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.common import FieldTable
from pamqp.header import ContentHeader

from edow.errors import EdowError, InvalidInput, PublishFailed, TransportUnavailable
from edow.model.message import Message
from edow.transport.rabbitmq.link import Link, send
from edow.transport.rabbitmq.names import KEY_HEADER
from edow.transport.rabbitmq.topology import Topology

PERSISTENT = 2
WHY = ": RabbitMQ is away, overloaded, or short of memory or disk (`rabbitmqctl status` shows alarms)"

Confirmation = asyncio.Future[object]


class Publisher:
    """All publishing of a transport, on one channel of one connection."""

    def __init__(self, link: Link, topology: Topology) -> None:
        self._link = link
        self._topology = topology
        self._channel: Channel | None = None
        self._opening = asyncio.Lock()
        self._writing = asyncio.Lock()
        self._ids = (f"{prefix}-{number}" for prefix in [token_hex(8)] for number in count())

    async def publish(self, messages: Sequence[Message]) -> None:
        """See the contract. Gives up after `publish_timeout`."""
        seconds = self._link.options.publish_timeout
        writing: asyncio.Task[list[Confirmation]] | None = None
        confirmations: list[Confirmation] = []
        try:
            async with asyncio.timeout(seconds):
                channel = await self._ready_channel({message.topic for message in messages})
                writing = asyncio.create_task(self._write(channel, messages))
                confirmations = await asyncio.shield(writing)  # whole, also if the caller is cancelled meanwhile
                await asyncio.gather(*confirmations, return_exceptions=True)
        except TimeoutError as problem:
            if writing is None:
                raise TransportUnavailable(f"{self._link}: not ready within {seconds} seconds{WHY}") from problem
            await self._link.drop()  # what was not confirmed is not to be sent later, from our own memory
            missing = tuple(i for i in range(len(messages)) if not confirmations or _problem(confirmations[i]))
            raise PublishFailed(f"{self._link}: not confirmed within {seconds} seconds{WHY}", missing) from problem
        if problems := {index: why for index, each in enumerate(confirmations) if (why := _problem(each))}:
            raise self._failure(channel, messages, problems)

    async def channel(self) -> Channel:
        async with self._opening:
            if self._channel is None or self._channel.is_closed:
                self._topology.doubt(deleted=_found_no_exchange(self._channel))
                channel = cast(Channel, await self._link.channel(confirms=True))
                channel.closing.add_done_callback(lambda _: _lose(channel))
                self._channel = channel
            return self._channel

    async def _ready_channel(self, topics: Collection[str]) -> Channel:
        channel = await self.channel()
        await self._topology.look_for(topics)
        await channel.connection.ready()  # while the server is short of memory or disk it would not read
        return channel

    async def _write(self, channel: Channel, messages: Sequence[Message]) -> list[Confirmation]:
        ids = [next(self._ids) for _ in messages]
        frames = [frame for each, id in zip(messages, ids, strict=True) for frame in self._frames(channel, each, id)]
        async with self._writing:  # the server counts messages as we do
            confirmations = [self._expect(channel, id) for id in ids]
            await send(channel, frames)
            if channel.is_closed:
                for each in confirmations:
                    each.cancel()
            return confirmations

    def _expect(self, channel: Channel, message_id: str) -> Confirmation:
        """An entry in the channel's table of confirmations."""
        confirmation: Confirmation = channel.loop.create_future()
        channel.delivery_tag += 1
        channel.confirmations[channel.delivery_tag] = confirmation
        channel.message_id_delivery_tag[message_id] = channel.delivery_tag
        confirmation.add_done_callback(lambda _: channel.message_id_delivery_tag.pop(message_id, None))
        return confirmation

    def _frames(self, channel: Channel, message: Message, message_id: str) -> Iterator[FrameType]:
        names, body, most = self._topology.names, message.body, channel.max_content_size
        headers: FieldTable = {} if message.key is None else {KEY_HEADER: message.key}
        properties = Basic.Properties(delivery_mode=PERSISTENT, message_id=message_id, headers=headers or None)
        yield Basic.Publish(
            exchange=names.exchange(message.topic),
            routing_key=names.routing_key(message.topic, message.key),
            mandatory=self._topology.must_be_routed(message.topic),
        )
        yield ContentHeader(body_size=len(body), properties=properties)
        for start in range(0, len(body), most):
            yield ContentBody(body[start : start + most])

    def _failure(
        self, channel: Channel, messages: Sequence[Message], problems: Mapping[int, BaseException]
    ) -> EdowError:
        missing, kinds = tuple(problems), set(map(type, problems.values()))
        if asyncio.CancelledError in kinds:
            problem = channel.closing.exception() if channel.is_closed else None
            if isinstance(problem, ChannelPreconditionFailed) and _is_about(problem, messages):
                return InvalidInput(f"{self._link}: refused: {problem}")
            return PublishFailed(f"{self._link}: connection lost: {problem!r}", missing)
        if PublishError in kinds:
            self._topology.doubt(deleted=True)
            return PublishFailed(f"{self._link}: no queue takes it", missing)
        return PublishFailed(f"{self._link}: the server has refused it", missing)


def _lose(channel: Channel) -> None:
    """It is closed: nothing more will be confirmed on it."""
    for each in channel.confirmations.values():
        each.cancel()


def _found_no_exchange(channel: Channel | None) -> bool:
    """Whether that is why the server has closed it."""
    closing = channel and channel.closing
    return bool(closing and not closing.cancelled() and isinstance(closing.exception(), ChannelNotFoundEntity))


def _is_about(problem: ChannelPreconditionFailed, messages: Sequence[Message]) -> bool:
    """Whether the channel was closed for one of these: the server names the size of a message over its limit. Others
    that were on their way have done no wrong.
    """
    numbers = set(re.findall(r"\d+", str(problem)))
    return not numbers or any(str(len(message.body)) in numbers for message in messages)


def _problem(confirmation: Confirmation) -> BaseException | None:
    """Why the server has not the message. A confirmation is cancelled when nothing more can be heard of it."""
    return asyncio.CancelledError() if confirmation.cancelled() else confirmation.exception()
