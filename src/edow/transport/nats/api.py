"""The server's JetStream API: requests and answers in JSON, of which only what the driver uses is named here."""

from __future__ import annotations

from datetime import datetime
from typing import TypeVar

import msgspec

from edow.errors import EdowError, InvalidInput, TransportUnavailable
from edow.transport.nats.link import Link

CONSUMER_NOT_FOUND = 10014
STREAM_IN_USE = 10058  # with another configuration
STREAM_NOT_FOUND = 10059
NO_MESSAGE = 10037
CONSUMER_EXISTS = (10105, 10148)  # with another configuration
NOT_ENABLED = (10039, 10074, 10076)  # JetStream for the account, replicas without a cluster, JetStream

SECOND = 1_000_000_000  # durations are nanoseconds

Config = dict[str, object]
Answer = TypeVar("Answer", bound="Reply")


class Problem(msgspec.Struct):
    code: int
    err_code: int = 0
    description: str = ""


class Reply(msgspec.Struct):
    """Any answer."""

    error: Problem | None = None


class Place(msgspec.Struct):
    """How far a consumer is."""

    stream_seq: int = 0


class StreamState(msgspec.Struct):
    last_seq: int = 0


class StreamReply(Reply):
    config: Config = {}
    state: StreamState = msgspec.field(default_factory=StreamState)


class ConsumerInfo(Reply):
    name: str = ""
    config: Config = {}
    ack_floor: Place = msgspec.field(default_factory=Place)
    num_pending: int = 0
    num_ack_pending: int = 0
    ts: str = ""  # the server's clock


class ConsumersReply(Reply):
    total: int = 0
    consumers: list[ConsumerInfo] = []


class NamesReply(Reply):
    total: int = 0
    consumers: list[str] | None = None


class Stored(msgspec.Struct):
    time: datetime


class StoredReply(Reply):
    message: Stored | None = None


class Refused(TransportUnavailable):
    """The server has said no to what the caller has expected it might; it handles that."""

    def __init__(self, verb: str, problem: Problem) -> None:
        super().__init__(f"{verb}: {problem.description} ({problem.err_code or problem.code})")
        self.code = problem.code
        self.number = problem.err_code


class Api:
    """Errors: TransportUnavailable, InvalidInput, and `Refused` with a number that the caller has said it expects."""

    def __init__(self, link: Link) -> None:
        self.link = link
        domain = link.options.domain
        self.prefix = f"$JS.{domain}.API" if domain else "$JS.API"

    async def stream(self, verb: str, name: str, body: object = None, expect: tuple[int, ...] = ()) -> StreamReply:
        """CREATE, UPDATE, INFO."""
        return await self._call(f"STREAM.{verb}.{name}", StreamReply, body, expect)

    async def consumer(self, stream: str, name: str, expect: tuple[int, ...] = ()) -> ConsumerInfo:
        verb = f"CONSUMER.INFO.{stream}.{name}"
        return await self._call(verb, ConsumerInfo, None, expect)

    async def set_consumer(
        self, stream: str, config: Config, action: str, expect: tuple[int, ...] = ()
    ) -> ConsumerInfo:
        """`action`: create, which changes nothing that exists, or update."""
        body = {"stream_name": stream, "config": config, "action": action}
        return await self._call(f"CONSUMER.CREATE.{stream}.{config['name']}", ConsumerInfo, body, expect)

    async def add_consumer(self, stream: str, config: Config) -> None:
        """One that exists, with whatever configuration, stays as it is."""
        try:
            await self.set_consumer(stream, config, "create", CONSUMER_EXISTS)
        except Refused:
            pass

    async def delete_consumer(self, stream: str, name: str) -> None:
        """Also when there is none."""
        try:
            await self._call(f"CONSUMER.DELETE.{stream}.{name}", Reply, None, (CONSUMER_NOT_FOUND,))
        except Refused:
            pass

    async def consumer_names(self, stream: str) -> list[str]:
        """Raises Refused(STREAM_NOT_FOUND)."""
        names: list[str] = []
        while True:
            body = {"offset": len(names)}
            page = await self._call(f"CONSUMER.NAMES.{stream}", NamesReply, body, (STREAM_NOT_FOUND,))
            names += page.consumers or []
            if len(names) >= page.total or not page.consumers:
                return names

    async def consumers(self, stream: str) -> list[ConsumerInfo]:
        """Raises Refused(STREAM_NOT_FOUND)."""
        infos: list[ConsumerInfo] = []
        while True:
            body = {"offset": len(infos)}
            page = await self._call(f"CONSUMER.LIST.{stream}", ConsumersReply, body, (STREAM_NOT_FOUND,))
            infos += page.consumers
            if len(infos) >= page.total or not page.consumers:
                return infos

    async def first_message(self, stream: str, seq: int, subject: str) -> datetime | None:
        """When the first message from there on was stored; None when there is none."""
        try:
            body = {"seq": seq, "next_by_subj": subject}
            reply = await self._call(f"STREAM.MSG.GET.{stream}", StoredReply, body, (NO_MESSAGE,))
        except Refused:
            return None
        return reply.message.time if reply.message is not None else None

    async def check(self) -> None:
        """Raises InvalidInput when this account has no JetStream."""
        await self._call("INFO", Reply, None, ())

    async def _call(self, verb: str, kind: type[Answer], body: object, expect: tuple[int, ...]) -> Answer:
        data = await self.link.request(f"{self.prefix}.{verb}", b"" if body is None else msgspec.json.encode(body))
        try:
            answer = msgspec.json.decode(data, type=kind)
        except msgspec.MsgspecError as problem:
            raise TransportUnavailable(f"{self.link.address} has answered {verb} with nonsense: {problem}") from problem
        if answer.error is not None:
            refused = Refused(verb, answer.error)
            raise refused if refused.number in expect else self._explained(refused) from refused
        return answer

    def _explained(self, refused: Refused) -> EdowError:
        text = f"{self.link.address} refuses {refused}"
        if refused.code < 500 or refused.number in NOT_ENABLED:
            return InvalidInput(text)
        return TransportUnavailable(text)
