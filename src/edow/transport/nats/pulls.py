"""Pulling: what the subscribers of all modes have in common.

A request to a consumer for so many messages ends when it has brought them, when the server says so, or, should that
word be lost with a connection, when its time is over: nobody waits for a request that the server has forgotten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from secrets import token_hex
from typing import NamedTuple

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as Inbox
from nats.errors import Error as NatsError
from nats.js.api import Header

from edow.errors import Closed, TransportUnavailable
from edow.transport.contract import Delivery
from edow.transport.nats.link import Link
from edow.transport.nats.names import KEY, Topic, decode_key, parse_consumer
from edow.transport.nats.topics import Topics

LATE_SECONDS = 2.0  # for the word that a request is over
PAUSE_SECONDS = 0.25  # after a refusal
LEAST_SECONDS = 0.001
MAX_BYTES = 64 * 1024 * 1024  # of what one request brings

_ACK = "$JS.ACK."
_OVER = ("404", "408")
_NORMAL = ("Batch Completed", "Message Size Exceeds MaxBytes")
_GONE = ("Consumer Deleted", "Consumer Not Found")


class Stamp(NamedTuple):
    """What a delivery's acknowledgement subject tells."""

    stream: str
    consumer: str
    times: int  # that it was delivered
    seq: int
    pending: int  # messages after it that nobody has had


class Slot:
    """A consumer to pull from, with at most one request under way. `left`: messages that it may still bring."""

    def __init__(self, topic: Topic, consumer: str, index: int) -> None:
        self.topic = topic
        self.consumer = consumer
        self.index = index
        self.is_keyed = parse_consumer(consumer).role == "k"  # it gives out one message at a time
        self.left = 0
        self.backlog = 0  # messages that may be had at once, as far as we know
        self.is_busy = False  # some are in somebody's hands, and may come again
        self.serial = 0
        self.until = 0.0
        self.not_before = 0.0
        self.suspect = False  # the server has answered as if there were no such consumer
        self.answered = ""  # what was acknowledged last

    def is_idle(self, now: float) -> bool:
        """Whether to ask (again)."""
        if self.left and now > self.until:
            self.left = 0
        return not self.left and now >= self.not_before

    def over(self, code: str, description: str, now: float) -> None:
        """The server's word on the request."""
        self.left = self.backlog = 0
        if code not in _OVER and not description.startswith(_NORMAL):
            self.not_before = now + PAUSE_SECONDS
        if code == "503" or description.startswith(_GONE):
            self.suspect = True


class PullSubscriber:
    """Subclasses say what to ask for, and what becomes of what arrives."""

    def __init__(self, link: Link, topics: Topics) -> None:
        self._link = link
        self._topics = topics
        self._groups = topics.groups
        self._reads: Sequence[Topic] = ()
        self._slots: list[Slot] = []
        self._by_consumer: dict[tuple[str, str], Slot] = {}
        self._inbox: Inbox | None = None
        self._subject = ""
        self._epoch = 0  # of the connection that all this is about
        self._woken = asyncio.Event()
        self._closed = False
        self._closing: asyncio.Task[None] | None = None

    async def open(self, topics: Sequence[Topic]) -> None:
        """Raises InvalidInput, TransportUnavailable."""
        self._reads = topics
        await self._connect()

    async def receive(self, limit: int, wait_seconds: float) -> list[Delivery]:
        """See the contract."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + wait_seconds
        if self._closed:
            raise Closed("this subscriber is closed: subscribe again")
        while not self._closed:
            pause = await self._ask_all(limit)
            if taken := await self._take(limit):
                return taken
            left = deadline - clock()
            if left <= 0:
                break
            await self._wait(max(LEAST_SECONDS, min(left, pause)))
        return []

    async def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Nothing expires, unless a subclass says so."""
        return []

    async def close(self) -> None:
        """See the contract."""
        self._closed = True
        self._woken.set()
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="edow-nats-close")
        await asyncio.shield(self._closing)

    @property
    def is_closed(self) -> bool:
        return self._closed

    async def settle(self) -> None:
        """Returns when the server has dealt with all acknowledgements so far."""
        replies = [slot.answered for slot in self._slots if slot.answered]
        await asyncio.gather(*(self._link.request(reply, b"+WPI") for reply in replies))

    # ── what subclasses do ────────────────────────────────────────────────────────────────────────────────────────────

    async def _begin(self) -> None:
        """At first, and whenever the server may have forgotten something. Raises InvalidInput, TransportUnavailable."""
        raise NotImplementedError

    async def _ask(self, limit: int) -> float:
        """Request what is missing; for how long to wait then."""
        raise NotImplementedError

    def _arrived(self, slot: Slot, message: Msg, stamp: Stamp) -> None:
        raise NotImplementedError

    async def _take(self, limit: int) -> list[Delivery]:
        raise NotImplementedError

    async def _leave(self) -> None:
        """Nothing arrives any more."""

    # ── requests ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _ask_all(self, limit: int) -> float:
        """The same, after whatever has to be put right first."""
        if not self._link.up.is_set():
            return PAUSE_SECONDS
        if self._epoch != self._link.epoch:
            await self._connect()
        if suspects := {slot.topic.name for slot in self._slots if slot.suspect}:
            await self._topics.ensure_again(suspects)
            await self._restart()
        pause, now = await self._ask(limit), asyncio.get_running_loop().time()
        return min([pause, *(slot.not_before - now for slot in self._slots if slot.not_before > now)])

    async def _connect(self) -> None:
        epoch, subject = self._link.epoch, f"{self._link.options.inbox}.{token_hex(8)}"
        await self._restart()
        try:
            self._inbox = await self._link.client.subscribe(f"{subject}.>", cb=self._received, pending_bytes_limit=0)
        except (NatsError, OSError) as problem:
            raise TransportUnavailable(f"{self._link.address}: {problem}") from problem
        self._subject, self._epoch = subject, epoch
        self._link.lost.add_done_callback(self._wake)

    async def _restart(self) -> None:
        """Requests of the time before are forgotten."""
        await self._begin()
        self._by_consumer = {(slot.topic.stream, slot.consumer): slot for slot in self._slots}
        for slot in self._slots:
            slot.left, slot.suspect = 0, False

    async def _request(self, slot: Slot, batch: int, seconds: float) -> None:
        """So many messages, as they come, within the time."""
        slot.serial += 1
        slot.left = batch
        slot.until = asyncio.get_running_loop().time() + seconds + LATE_SECONDS
        most = b',"max_bytes":%d' % MAX_BYTES if batch > 1 else b""
        body = b'{"batch":%d,"expires":%d%s}' % (batch, round(seconds * 1e9), most)
        subject = f"{self._link.api}.CONSUMER.MSG.NEXT.{slot.topic.stream}.{slot.consumer}"
        try:
            await self._link.send(subject, body, f"{self._subject}.{slot.index}.{slot.serial}")
        except TransportUnavailable:
            slot.left = 0

    async def _received(self, message: Msg) -> None:
        if message.reply.startswith(_ACK):
            stamp = _stamp(message.reply)
            if slot := self._by_consumer.get((stamp.stream, stamp.consumer)):
                slot.left, slot.backlog = max(0, slot.left - 1), stamp.pending
                self._arrived(slot, message, stamp)
        else:
            index, serial = map(int, message.subject.split(".")[-2:])
            slot, headers = self._slots[index], message.headers or {}
            code = headers.get(Header.STATUS, "")
            if serial == slot.serial and slot.left and code != "100":
                slot.over(code, headers.get(Header.DESCRIPTION, ""), asyncio.get_running_loop().time())
        self._woken.set()

    def _wake(self, _: object) -> None:
        self._woken.set()

    async def _wait(self, seconds: float) -> None:
        """Until something has happened."""
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            pass
        self._woken.clear()

    async def _close(self) -> None:
        inbox, client = self._inbox, self._link.client
        self._link.lost.remove_done_callback(self._wake)
        if inbox is not None and self._epoch == self._link.epoch:
            # The library would forget it at once, and lose what the server has sent by then: tell the server first.
            try:
                await client._send_unsubscribe(inbox._id)
                await self._link.ask(self._link.js.account_info())
                for _ in range(inbox.pending_msgs + 2):
                    await asyncio.sleep(0)  # the library's own task hands over what has come
                await inbox.unsubscribe()
            except (NatsError, OSError, TransportUnavailable):
                pass  # the connection has just broken, and what would arrive with it
        await self._leave()


def key_of(message: Msg) -> str | None:
    """The partition key that a message was published with."""
    value = (message.headers or {}).get(KEY)
    return None if value is None else decode_key(value)


def _stamp(reply: str) -> Stamp:
    """`$JS.ACK.[domain.account.]stream.consumer.count.seq.consumer_seq.time.pending[.more]`."""
    tokens = reply.split(".")
    at = 2 if len(tokens) == 9 else 4
    stream, consumer, count, seq, _, _, pending = tokens[at : at + 7]
    return Stamp(stream, consumer, int(count), int(seq), int(pending))
