"""One connection to the server, made when it is needed and again when it was lost.

A transport has two: RabbitMQ reads nothing more from connections that publish while it is short of memory or disk, and
acknowledgements must not wait for that.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import aiormq
from aiormq.abc import AbstractChannel, ChannelFrame, FrameType
from aiormq.connection import FrameReceiver, TransportFactory
from aiormq.exceptions import (
    AMQPError,
    AuthenticationError,
    ChannelAccessRefused,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
)
from pamqp import commands, frame
from pamqp.base import Frame
from pamqp.frame import FrameTypes
from yarl import URL

from edow.errors import Closed, EdowError, InvalidInput, TransportUnavailable
from edow.transport.guard import causes
from edow.transport.rabbitmq.options import Options, Server

ANSWER_SECONDS = 15.0  # that a server under load may take for a few calls
CLOSE_SECONDS = 2.0  # for a farewell that the other side may not answer
ROOM_SECONDS = 0.001  # between two looks whether the connection has room for more
FRAMES = 2000  # that a channel may have read and not looked at: what came together is handed over together
BROKEN = (AMQPError, OSError, RuntimeError, asyncio.TimeoutError)  # what the client library raises when it cannot go on
SHUTTING_DOWN, WRONG_LOGIN, INTERNAL = 320, 403, 541  # reply codes

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Refused(Exception):
    """The server has closed the connection while it was being opened."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class _Connection(aiormq.Connection):
    """The library's own, but for keeping what the server says when it refuses us."""

    @staticmethod
    async def _rpc(
        request: Frame, writer: asyncio.StreamWriter, frame_receiver: FrameReceiver, wait_response: bool = True
    ) -> FrameTypes | None:
        writer.write(frame.marshal(request, 0))
        if not wait_response:
            return None
        _, _, answer = await frame_receiver.get_frame()
        if isinstance(answer, commands.Connection.Close):
            raise _Refused(answer.reply_code or 0, answer.reply_text)
        return answer


class _Opened(TransportFactory):
    """Streams made before the library asks for them: it would log every vain attempt as an error."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    async def create(self, url: URL, **_: object) -> Streams:
        return self._streams


class Link:
    """`purpose` tells it apart from the transport's other one, in the server's list of connections."""

    def __init__(self, server: Server, purpose: str) -> None:
        self._server = server
        self._urls = server.urls(purpose)
        self._connection: _Connection | None = None
        self._socket: asyncio.WriteTransport | None = None
        self._connecting = asyncio.Lock()
        self._was_in = False
        self._closed = False

    def __str__(self) -> str:
        return str(self._server.address)

    @property
    def options(self) -> Options:
        return self._server.options

    async def get(self) -> aiormq.Connection:
        """The connection. Raises TransportUnavailable, within `connect_timeout` for each host, or InvalidInput when
        the server refuses us from the first.
        """
        async with self._connecting:
            if not self._closed and (self._connection is None or not self._connection.is_opened):
                await self.drop()
                await self._connect()
            if self._connection is None or self._closed:
                await self.drop()
                raise Closed(f"the transport to {self} is closed")
            return self._connection

    async def channel(self, *, confirms: bool = False) -> AbstractChannel:
        connection = await self.get()
        async with self.answer("opening a channel"):
            return await connection.channel(publisher_confirms=confirms, frame_buffer_size=FRAMES)

    async def close(self) -> None:
        """Idempotent; does not wait long for a server that does not answer."""
        self._closed = True
        await self._end()

    async def drop(self) -> None:
        """What was sent and not answered shall not be sent any more: cut the connection; the next `get` makes one."""
        if self._socket is not None:
            self._socket.abort()
        await self._end()

    @asynccontextmanager
    async def answer(self, doing: str) -> AsyncIterator[None]:
        """Around calls on a channel, which are given ANSWER_SECONDS together; tells their errors in EDOW's words."""
        server = self._server
        try:
            with unless_cancelled():
                async with asyncio.timeout(ANSWER_SECONDS):
                    yield
        except ChannelPreconditionFailed as problem:
            raise InvalidInput(
                f"{self}: {doing}: made before with other settings ({problem}): use the options it was made with, or "
                "another prefix"
            ) from problem
        except ChannelAccessRefused as problem:
            raise InvalidInput(
                f"{self}: {doing}: user {server.user!r} may not ({problem}): `rabbitmqctl set_permissions "
                f"-p {server.vhost} {server.user} '.*' '.*' '.*'`"
            ) from problem
        except ChannelNotFoundEntity as problem:
            raise InvalidInput(f"{self}: {doing}: it does not exist: make it with transport.ensure()") from problem
        except BROKEN as problem:
            raise TransportUnavailable(f"{self}: {doing}: {str(problem) or 'no answer in time'}") from problem

    async def _end(self) -> None:
        connection, self._connection = self._connection, None
        socket, self._socket = self._socket, None
        if connection is not None:
            with suppress(*BROKEN):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await connection.close()
        if socket is not None:
            socket.abort()

    async def _connect(self) -> None:
        try:
            await self._connect_to_any()
        except InvalidInput as problem:
            if not self._was_in:
                raise
            # What was right once may be so again, and it says nothing of what is to be published.
            raise TransportUnavailable(str(problem)) from problem
        self._was_in = True

    async def _connect_to_any(self) -> None:
        tls = await asyncio.to_thread(self._server.tls)
        problems: list[EdowError] = []
        for url in self._urls:
            try:
                return await self._connect_to(url, tls)
            except (*BROKEN, _Refused) as problem:
                problems.append(self._told(problem))
                problems[-1].__cause__ = problem
        # One host that refuses us for good says more than others that are away.
        raise next((each for each in problems if isinstance(each, InvalidInput)), problems[0])

    async def _connect_to(self, url: URL, tls: ssl.SSLContext | None) -> None:
        async with asyncio.timeout(self.options.connect_timeout):
            reader, writer = await asyncio.open_connection(url.host, url.port, ssl=tls)
            try:
                connection = _Connection(url, transport_factory=_Opened((reader, writer)))
                await connection.connect()
            except BaseException:
                writer.transport.abort()
                raise
        self._connection, self._socket = connection, writer.transport

    def _told(self, problem: BaseException) -> EdowError:
        server = self._server
        if isinstance(problem, ssl.SSLCertVerificationError):
            return InvalidInput(
                f"{self}: the server's certificate is not trusted ({problem.verify_message}): give its authority with "
                "cafile=, or trust it unseen with verify=false"
            )
        if (alert := _alert(problem)) is not None:
            return InvalidInput(
                f"{self}: the server does not take our certificate ({alert}): give one that an authority it trusts has "
                "signed, with certfile= and keyfile="
            )
        if isinstance(problem, AuthenticationError):
            return InvalidInput(
                f"{self}: the server does not let us in by auth={self.options.auth} ({problem}): for external enable "
                "its plugin rabbitmq_auth_mechanism_ssl, and name EXTERNAL in its auth_mechanisms"
            )
        if not isinstance(problem, _Refused) or problem.code in (SHUTTING_DOWN, INTERNAL):
            return TransportUnavailable(f"{self}: {type(problem).__name__}: {str(problem) or 'no answer in time'}")
        if problem.code == WRONG_LOGIN and self.options.auth == "external":
            return InvalidInput(
                f"{self}: RabbitMQ refuses the user of the client certificate ({problem}): `rabbitmqctl add_user "
                "NAME`, where NAME is what its ssl_cert_login_from takes from the certificate"
            )
        if problem.code == WRONG_LOGIN:
            return InvalidInput(
                f"{self}: RabbitMQ refuses user {server.user!r} or the password ({problem}): correct the URL, or "
                f"`rabbitmqctl add_user {server.user}`"
            )
        return InvalidInput(
            f"{self}: RabbitMQ refuses virtual host {server.vhost!r} to user {server.user!r} ({problem}): `rabbitmqctl "
            f"add_vhost {server.vhost}`, and `rabbitmqctl set_permissions -p {server.vhost} {server.user} '.*' '.*' "
            "'.*'`"
        )


def _alert(problem: BaseException | None) -> str | None:
    """What the server says against our certificate, or that there is none. The library wraps it."""
    for each in causes(problem):
        if isinstance(each, ssl.SSLError) and "ALERT" in (each.reason or "") and _about_us(each.reason):
            return each.reason
    return None


def _about_us(reason: str) -> bool:
    return "CERTIFICATE" in reason or "UNKNOWN_CA" in reason


@contextmanager
def unless_cancelled() -> Iterator[None]:
    """The library cancels whoever waits for an answer when it gives a connection up; to us that is one that broke."""
    try:
        yield
    except asyncio.CancelledError as problem:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise ConnectionError("the connection was given up") from problem


async def send(channel: AbstractChannel, outbox: list[FrameType]) -> None:
    """What is in the outbox, on this channel, in one write; nobody answers it. What a dead connection loses, the server
    has lost.

    It is taken when there is room for it, so that nothing that comes later is written before it.
    """
    queue = channel.connection.write_queue
    while outbox and queue.full() and not channel.is_closed:  # noqa: ASYNC110 - nobody tells when
        await asyncio.sleep(ROOM_SECONDS)
    if outbox and not channel.is_closed:
        queue.put_nowait(ChannelFrame.marshall(channel.number, outbox))
        outbox.clear()


async def close_channel(channel: AbstractChannel) -> None:
    """What was delivered on it and not acknowledged goes back to its place. No error: then it is closed already."""
    with suppress(*BROKEN), unless_cancelled():
        async with asyncio.timeout(CLOSE_SECONDS):
            await channel.close()
