"""Pulling: requests to consumers for so many messages, and what comes back for them.

A request ends when it has brought its messages, when the server says so, or, should that word be lost with a
connection, when its time is over: nobody waits for a request that the server has forgotten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from secrets import token_hex
from typing import NamedTuple

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.js.api import Header

from edow.errors import TransportUnavailable
from edow.transport.nats.link import Link
from edow.transport.nats.names import KEY, decode_key, notice_subject
from edow.transport.nats.topics import Topic

LATE_SECONDS = 2.0  # for the word that a request is over
PAUSE_SECONDS = 0.25  # after a refusal
MAX_BYTES = 64 * 1024 * 1024  # of what one request brings

_ACK = "$JS.ACK."
_NORMAL = ("Batch Completed", "Message Size Exceeds MaxBytes")
_GONE = ("Consumer Deleted", "Consumer Not Found")


class Stamp(NamedTuple):
    """What a delivery's acknowledgement subject tells."""

    consumer: str
    times: int  # that it was delivered
    seq: int
    time: int  # nanoseconds


class Slot:
    """A consumer to pull from, with at most one request under way. `left`: messages that it may still bring."""

    def __init__(self, topic: Topic, consumer: str, index: int) -> None:
        self.topic = topic
        self.consumer = consumer
        self.index = index
        self.left = 0
        self.asked = 0
        self.used = False  # the last request has brought all that was asked for
        self.serial = 0
        self.until = 0.0
        self.not_before = 0.0
        self.suspect = False  # the server has answered as if there were no such consumer

    def is_idle(self, now: float) -> bool:
        """Whether to ask (again)."""
        if self.left and now > self.until:
            self.left = 0
        return not self.left and now >= self.not_before

    def over(self, code: str, description: str, now: float) -> None:
        """The server's word on the request."""
        self.left = 0
        if code not in ("404", "408") and not description.startswith(_NORMAL):
            self.not_before = now + PAUSE_SECONDS
        if code == "503" or description.startswith(_GONE):
            self.suspect = True


class Puller:
    """The requests of one subscriber. `arrived` is called for each message; `woken`: there may be something to do."""

    def __init__(
        self,
        link: Link,
        prefix: str,
        arrived: Callable[[Slot, Msg, Stamp], None],
        noticed: Callable[[], None] | None = None,
    ) -> None:
        self._link = link
        self._api = prefix
        self._inbox = f"{link.options.inbox}.{token_hex(8)}"
        self._arrived = arrived
        self._noticed = noticed
        self._subscription: Subscription | None = None
        self._notices: list[Subscription] = []
        self._by_consumer: dict[tuple[str, str], Slot] = {}
        self.slots: list[Slot] = []
        self.woken = asyncio.Event()

    async def open(self, fresh: bool = True) -> None:
        """Also after a reconnection: requests of the time before are forgotten."""
        if fresh:
            client = self._link.client
            self._subscription = await client.subscribe(f"{self._inbox}.>", cb=self._received, pending_bytes_limit=0)
            subjects = {notice_subject(slot.topic.subject) for slot in self.slots} if self._noticed else ()
            self._notices = [await client.subscribe(subject, cb=self._notice) for subject in subjects]
        for slot in self.slots:
            slot.left, slot.not_before = 0, 0.0
        self.woken.set()

    def add(self, topic: Topic, consumer: str) -> Slot:
        """A consumer to pull from, if it is not there yet."""
        known = self._by_consumer.get((topic.stream, consumer))
        if known is not None:
            return known
        slot = Slot(topic, consumer, len(self.slots))
        self.slots.append(slot)
        self._by_consumer[topic.stream, consumer] = slot
        self.woken.set()
        return slot

    async def ask(self, slot: Slot, batch: int, seconds: float) -> None:
        """For so many messages, as they come, within the time."""
        slot.serial += 1
        slot.used = False
        slot.left = slot.asked = batch
        slot.until = asyncio.get_running_loop().time() + seconds + LATE_SECONDS
        most = b',"max_bytes":%d' % MAX_BYTES if batch > 1 else b""
        body = b'{"batch":%d,"expires":%d%s}' % (batch, round(seconds * 1e9), most)
        subject = f"{self._api}.CONSUMER.MSG.NEXT.{slot.topic.stream}.{slot.consumer}"
        try:
            await self._link.send(subject, body, f"{self._inbox}.{slot.index}.{slot.serial}")
        except TransportUnavailable:
            slot.left = 0

    async def wait(self, seconds: float) -> None:
        """Until woken, for at most so long."""
        try:
            async with asyncio.timeout(seconds):
                await self.woken.wait()
        except TimeoutError:
            pass
        self.woken.clear()

    async def renew(self) -> None:
        """Take back all requests. What they have brought by now has arrived."""
        old, client = self._subscription, self._link.client
        self._inbox = f"{self._link.options.inbox}.{token_hex(8)}"
        self._subscription = await client.subscribe(f"{self._inbox}.>", cb=self._received, pending_bytes_limit=0)
        for slot in self.slots:
            slot.left, slot.used = 0, False
        if old is not None:
            await self._retire(old)

    async def close(self) -> None:
        """Returns when nothing can arrive any more."""
        subscription, self._subscription = self._subscription, None
        notices, self._notices = self._notices, []
        if subscription is not None:
            for each in notices:
                await self._forget(each)
            await self._retire(subscription)

    async def _retire(self, subscription: Subscription) -> None:
        """The library would forget it at once, and lose what the server has sent by then, or wait for a PONG, which it
        does not survive being interrupted at. So the server is told first, then asked something.
        """
        client = self._link.client
        try:
            if client.is_connected:
                await client._send_unsubscribe(subscription._id)
                await self._link.request(f"{self._api}.INFO")
            for _ in range(subscription.pending_msgs + 2):
                await asyncio.sleep(0)  # the library's own task hands over what has come
        except (NatsError, OSError, TransportUnavailable):
            pass  # the connection has just broken, and what would arrive with it
        finally:
            await self._forget(subscription)

    async def _forget(self, subscription: Subscription) -> None:
        try:
            await subscription.unsubscribe()
        except (NatsError, OSError):
            pass  # of a connection that is gone

    async def notify(self, topic: Topic) -> None:
        """Have all members of the topic's groups look at what has changed."""
        await self._link.send(notice_subject(topic.subject))

    async def _notice(self, message: Msg) -> None:
        if self._noticed is not None:
            self._noticed()

    async def _received(self, message: Msg) -> None:
        if message.reply.startswith(_ACK):
            stream, stamp = _stamp(message.reply)
            slot = self._by_consumer.get((stream, stamp.consumer))
            if slot is not None:
                slot.left = max(0, slot.left - 1)
                slot.used = not slot.left
                self._arrived(slot, message, stamp)
        else:
            self._told(message)
        self.woken.set()

    def _told(self, message: Msg) -> None:
        headers = message.headers or {}
        code = headers.get(Header.STATUS, "")
        if code == "100":
            return
        index, _, serial = message.subject[len(self._inbox) + 1 :].partition(".")
        slot = self.slots[int(index)]
        if serial == str(slot.serial) and slot.left:
            now = asyncio.get_running_loop().time()
            slot.over(code, headers.get(Header.DESCRIPTION, ""), now)


def key_of(message: Msg) -> str | None:
    """The partition key that a message was published with."""
    value = (message.headers or {}).get(KEY)
    return None if value is None else decode_key(value)


def _stamp(reply: str) -> tuple[str, Stamp]:
    """Stream and stamp: `$JS.ACK.[domain.account.]stream.consumer.count.seq.consumer_seq.time.pending[.more]`."""
    tokens = reply.split(".")
    at = 2 if len(tokens) == 9 else 4
    stream, consumer, count, seq, _, time = tokens[at : at + 6]
    return stream, Stamp(consumer, int(count), int(seq), int(time))
