"""One connection to the server, made when it is needed and again when it was lost.

A transport has two: RabbitMQ reads nothing more from connections that publish while it is short of memory or disk, and
acknowledgements must not wait for that.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Coroutine, Sequence
from typing import TypeVar

import aiormq
from aiormq.abc import AbstractChannel, ChannelFrame, FrameType
from aiormq.connection import FrameReceiver, TransportFactory
from aiormq.exceptions import AMQPError, ProbableAuthenticationError
from pamqp import commands
from pamqp.base import Frame
from pamqp.common import FieldTable
from pamqp.frame import FrameTypes
from yarl import URL

from edow.errors import Closed, EdowError, InvalidInput, TransportUnavailable
from edow.transport.rabbitmq.options import Server

CLOSE_SECONDS = 2.0  # for a farewell that the other side may not answer
NO_LIMIT_MS = 4_000_000_000  # 46 days: what the server's timers can count
FRAMES = 2000  # that a channel may have read and not looked at: what came together is handed over together
BROKEN = (AMQPError, OSError, RuntimeError, asyncio.TimeoutError)  # what the client library raises when it cannot go on

Result = TypeVar("Result")


class _Refused(Exception):
    """The server has closed the connection while it was being opened."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class _Connection(aiormq.Connection):
    """The library's own, but for keeping what the server says when it refuses a virtual host."""

    @staticmethod
    async def _rpc(
        request: Frame, writer: asyncio.StreamWriter, frame_receiver: FrameReceiver, wait_response: bool = True
    ) -> FrameTypes | None:
        receiver = _Listening(frame_receiver)
        try:
            return await aiormq.Connection._rpc(request, writer, receiver, wait_response)  # type: ignore[arg-type]
        except ProbableAuthenticationError:
            raise
        except AMQPError:
            if isinstance(receiver.heard, commands.Connection.Close):
                raise _Refused(receiver.heard.reply_code or 0, receiver.heard.reply_text) from None
            raise


class _Listening:
    """A receiver of frames that remembers the last."""

    def __init__(self, inner: FrameReceiver) -> None:
        self._inner = inner
        self.heard: FrameTypes | None = None

    async def get_frame(self) -> tuple[int, int, FrameTypes]:
        frame = await self._inner.get_frame()
        self.heard = frame[2]
        return frame


class _Socket(TransportFactory):
    """Opened before the library asks for it, which would log every vain attempt as an error; and kept hold of, so that
    it can be cut when the other side has stopped to read.
    """

    def __init__(self) -> None:
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def open(self, url: URL, tls: ssl.SSLContext | None) -> None:
        self._streams = await asyncio.open_connection(url.host, url.port, ssl=tls)

    async def create(self, url: URL, **_: object) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        assert self._streams is not None
        return self._streams

    def cut(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()


class Link:
    """`purpose` tells it apart from the transport's other one, in the server's list of connections."""

    def __init__(self, server: Server, purpose: str) -> None:
        self._server = server
        self._urls = server.urls(purpose)
        self._connection: _Connection | None = None
        self._socket = _Socket()
        self._connecting: asyncio.Task[_Connection] | None = None
        self._closed = False

    async def get(self) -> aiormq.Connection:
        """The connection. Raises TransportUnavailable, within `connect_timeout` for each host, or InvalidInput when
        the server refuses us for good.
        """
        if self._closed:
            raise Closed(f"the transport to {self._server.address} is closed")
        if self._connection is not None and self._connection.is_opened:
            return self._connection
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect(), name="edow-rabbitmq-connect")
        connecting = self._connecting
        try:
            return await asyncio.shield(connecting)
        finally:
            if connecting.done() and self._connecting is connecting:
                self._connecting = None

    async def channel(self, *, confirms: bool = False) -> AbstractChannel:
        """A new channel. The lowest free number: the library's own choice would climb until the server has no more."""
        connection = await self.get()
        number = next(number for number in range(1, 65_536) if number not in connection.channels)
        try:
            async with asyncio.timeout(self._server.options.connect_timeout):
                return await connection.channel(number, confirms, FRAMES)
        except BROKEN as problem:
            raise self.unavailable(problem) from problem

    async def consumer_arguments(self) -> FieldTable:
        """What keeps the server from cutting a channel on which something is worked on for long, where it can be told:
        from RabbitMQ 3.11.15 on.
        """
        version = str((await self.get()).server_properties.get("version", ""))
        numbers = tuple(int(part) for part in version.partition("-")[0].split(".") if part.isdecimal())
        return {"x-consumer-timeout": NO_LIMIT_MS} if numbers >= (3, 11, 15) else {}

    async def close(self) -> None:
        """Idempotent; does not wait long for a server that does not answer."""
        self._closed = True
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
            await asyncio.gather(connecting, return_exceptions=True)
        await self._end(at_once=False)

    async def drop(self) -> None:
        """What was sent and not answered shall not be sent any more: cut the connection; the next `get` makes one."""
        await self._end(at_once=True)

    def unavailable(self, problem: BaseException) -> TransportUnavailable:
        said = str(problem) or "no answer in time"
        return TransportUnavailable(f"{self._server.address}: {type(problem).__name__}: {said}")

    async def _end(self, *, at_once: bool) -> None:
        connection, self._connection = self._connection, None
        socket = self._socket
        if connection is None:
            return
        if at_once:
            socket.cut()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await connection.close()
        except BROKEN:
            pass
        socket.cut()

    async def _connect(self) -> _Connection:
        await self._end(at_once=True)
        tls = await asyncio.to_thread(self._server.tls)
        problems: list[EdowError] = []
        for url in self._urls:
            try:
                return await self._connect_to(url, tls)
            except EdowError as problem:
                problems.append(problem)
        # One host that refuses us for good says more than others that are away.
        raise next((each for each in problems if isinstance(each, InvalidInput)), problems[0])

    async def _connect_to(self, url: URL, tls: ssl.SSLContext | None) -> _Connection:
        socket = _Socket()
        connection = _Connection(url, transport_factory=socket)
        try:
            async with asyncio.timeout(self._server.options.connect_timeout):
                await socket.open(url, tls)
                await connection.connect()
        except BaseException as problem:
            socket.cut()
            if isinstance(problem, ProbableAuthenticationError):
                raise self._wrong_credentials(problem) from problem
            if isinstance(problem, _Refused):
                raise self._refused(problem) from problem
            if isinstance(problem, ssl.SSLCertVerificationError):
                raise InvalidInput(
                    f"{self._server.address}: the server's certificate is not trusted ({problem.verify_message}): give "
                    "its authority with cafile=, or trust it unseen with verify=false"
                ) from problem
            if isinstance(problem, BROKEN):
                raise self.unavailable(problem) from problem
            raise
        self._connection, self._socket = connection, socket
        return connection

    def _wrong_credentials(self, problem: Exception) -> InvalidInput:
        server = self._server
        return InvalidInput(
            f"{server.address}: RabbitMQ refuses user {server.user!r} or the password ({problem}): correct the URL, or "
            f"`rabbitmqctl add_user {server.user}`"
        )

    def _refused(self, problem: _Refused) -> EdowError:
        server = self._server
        if problem.code in (320, 541):  # it is being stopped, or started
            return self.unavailable(problem)
        return InvalidInput(
            f"{server.address}: RabbitMQ refuses virtual host {server.vhost!r} to user {server.user!r} ({problem}): "
            f"`rabbitmqctl add_vhost {server.vhost}`, and `rabbitmqctl set_permissions -p {server.vhost} "
            f"{server.user} '.*' '.*' '.*'`"
        )


async def apart(work: Coroutine[object, object, Result]) -> Result:
    """The outcome of calls to the server, made in a task of their own: the client library may turn the cancellation of
    a call into another error, which would leave its caller uncancelled.
    """
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # nobody waits for it any more
        raise


async def send(channel: AbstractChannel, frames: Sequence[FrameType]) -> None:
    """Methods without an answer, all in one write. What a dead connection loses, the server has lost as well."""
    if frames and not channel.is_closed:
        await channel.connection.write_queue.put(ChannelFrame.marshall(channel.number, frames))
