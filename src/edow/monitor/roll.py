"""Which workers there are, and what each does now: asked over the broker, where they are, when somebody looks.

A roll call is broadcast, and every worker answers at once; one that stops says so, if it was ever called. Nothing is
sent while nobody looks, and nothing is stored.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable

import msgspec

from edow.errors import EdowError
from edow.model import topics, wire
from edow.model.message import Message
from edow.model.times import rfc3339
from edow.transport.contract import Subscriber, Subscription, TopicSpec, Transport

WAIT_SECONDS = 0.4  # for answers to a call; later ones are there with the next
FORGET_SECONDS = 8.0  # after its last answer a worker is called gone
GONE_SECONDS = 4.0
BATCH = 500

log = logging.getLogger("edow.monitor")


class Seen(msgspec.Struct, frozen=True):
    """A worker and what it has said last. `silent`: for how long, in seconds."""

    name: str
    presence: wire.Presence
    silent: float

    @property
    def gone(self) -> bool:
        return self.silent > GONE_SECONDS


class Roll:
    """Of one transport, which closes what it has opened. `who`: calls."""

    def __init__(self, transport: Transport, who: str) -> None:
        self._transport = transport
        self._who = who
        self._subscriber: Subscriber | None = None
        self._heard: dict[str, tuple[float, wire.Presence]] = {}
        self.hear: Callable[[str, wire.Presence], None] = _nobody  # gets every word, by the worker's name

    @property
    def possible(self) -> bool:
        return self._transport.features.broadcast

    async def call(self) -> list[Seen]:
        """Call, and wait a moment for answers. Raises Unavailable."""
        if self._subscriber is None:
            await self._transport.ensure([TopicSpec(topics.ROLL, ()), TopicSpec(topics.CONTROL, ())])
            subscription = Subscription(topics=(topics.ROLL,), group="", mode="broadcast", member=f"edow {self._who}")
            self._subscriber = await self._transport.subscribe(subscription)
        event = wire.CancelEvent(
            id=f"rollcall/{secrets.token_hex(6)}",
            source=f"/edow/{self._who}",
            type=wire.ROLL_CALL_TYPE,
            specversion=wire.SPEC_VERSION,
            time=rfc3339(time.time_ns() // 1000),
            data=[],
        )
        await self._transport.publish([Message(topics.CONTROL, wire.encode(event))], durable=False)
        await self._listen(self._subscriber, time.monotonic() + WAIT_SECONDS)
        return self._seen(time.monotonic())

    async def _listen(self, subscriber: Subscriber, until: float) -> None:
        while (left := until - time.monotonic()) > 0:
            try:
                for delivery in await subscriber.receive(BATCH, left):
                    self._hear(delivery.body)
            except EdowError:
                self._subscriber = None  # the next call begins anew
                await _closed(subscriber)
                raise
            await asyncio.sleep(0)

    def _hear(self, body: bytes) -> None:
        try:
            event = wire.decode_presence(body)
        except (msgspec.MsgspecError, ValueError):
            return  # of another release
        name = event.source.removeprefix("/edow/worker/")
        self.hear(name, event.data)
        if event.data.leaving:
            self._heard.pop(name, None)
        else:
            self._heard[name] = time.monotonic(), event.data

    def _seen(self, now: float) -> list[Seen]:
        self._heard = {name: heard for name, heard in self._heard.items() if now - heard[0] < FORGET_SECONDS}
        return [Seen(name, presence, now - at) for name, (at, presence) in sorted(self._heard.items())]


async def _closed(subscriber: Subscriber) -> None:
    """It would go on to hear, and to keep, what nobody reads any more."""
    try:
        await subscriber.close()
    except Exception as problem:
        log.debug("a subscription to answers was not closed: %r", problem)


def _nobody(name: str, presence: wire.Presence) -> None:
    """Hears."""
