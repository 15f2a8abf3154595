"""A subscriber: polls for what its reader wants, keeps leases, acknowledges in batches.

Each queue has a poller. It asks only while the reader wants messages, for no more than those, first with one long
poll and, while answers come back full, with twice as many short ones at once. A poll that is under way is never broken
off while the process lives, for SQS may have answered it; what comes too late is given back.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec

from edow.errors import Closed, TransportUnavailable
from edow.transport.contract import Delivery, Mode, Subscription
from edow.transport.sqs.bodies import ATTRIBUTES, SYSTEM_ATTRIBUTES, Received, decode
from edow.transport.sqs.hand import Hand, SqsDelivery
from edow.transport.sqs.options import Options
from edow.transport.sqs.receipts import Receipts
from edow.transport.sqs.service import BATCH, Missing, Patience, Rejected, Service, gather

FIRST_LEASE = 30  # seconds at most that a poll leases for; what an answer to nobody takes with it is back after them
RESERVE = 0.1  # of a lease: it is held to be over a little early, so that it never has two owners who believe in it
MOST_LEASE = 43_200  # seconds; SQS keeps a message for one receiver twelve hours at most
PREFETCH = 100  # messages that an exclusive reader asks for before its caller wants them
CLOSE_SECONDS = 2.0  # that giving back may take

log = logging.getLogger("edow.transport.sqs")


class Source(NamedTuple):
    """A queue to read, and the topic whose messages are in it."""

    topic: str
    url: str


class Origin(Protocol):
    """Whoever made sources for one subscriber alone."""

    async def renew(self, source: Source) -> Source:
        """One for a source that is not there any more."""

    async def end(self) -> None:
        """They are not needed any more."""


class Reading(msgspec.Struct, frozen=True):
    """How: in which mode, and for how many whole seconds at a time."""

    mode: Mode
    lease: int

    @classmethod
    def of(cls, subscription: Subscription) -> Reading:
        return cls(subscription.mode, min(max(1, math.ceil(subscription.lease_seconds)), MOST_LEASE))


class SqsSubscriber:
    """See `edow.transport.contract.Subscriber`. `polls`: those of the whole transport, which ends what outlives its
    subscribers. `origin`: where sources come from that live as long as this.
    """

    def __init__(
        self,
        service: Service,
        options: Options,
        sources: Sequence[Source],
        reading: Reading,
        polls: set[asyncio.Task[None]],
        origin: Origin | None = None,
    ) -> None:
        self._service = service
        self._options = options
        self._sources = sources
        self._reading = reading
        self._polls = polls
        self._origin = origin
        self._hand = Hand()
        self._receipts = Receipts(service)
        self._changed = asyncio.Event()  # for the reader: something has arrived, or will never
        self._demand = asyncio.Event()  # for the pollers
        self._wanted = 0
        self._seen_at = 0.0  # when the reader last came
        self._tending: asyncio.Task[None] | None = None
        self._problem: Rejected | None = None
        self._started = False
        self._closed = False

    @property
    def is_closed(self) -> bool:
        return self._closed

    @property
    def _first_lease(self) -> int:
        return min(self._reading.lease, FIRST_LEASE)

    async def receive(self, limit: int, wait_seconds: float) -> list[Delivery]:
        """See the contract. While the service does not answer it yields nothing; what it refuses is
        TransportUnavailable.
        """
        if self._closed:
            raise Closed("this subscriber is closed: subscribe again")
        self._start()
        now = asyncio.get_running_loop().time
        deadline = now() + wait_seconds
        self._wanted = limit
        try:
            while not self._closed:
                self._changed.clear()
                if taken := self._hand.take(limit, now()):
                    return taken
                if self._problem is not None:
                    problem, self._problem = self._problem, None
                    raise TransportUnavailable(str(problem)) from problem
                self._demand.set()
                try:
                    async with asyncio.timeout_at(deadline):
                        await self._changed.wait()
                except TimeoutError:
                    break
            return []
        finally:
            self._wanted = 0
            self._seen_at = now()
            self._demand.set()  # room, for an exclusive reader's pollers

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """See the contract."""
        if mine := self._hand.done(deliveries, self._now()):
            self._receipts.delete(mine)
            self._changed.set()  # the next of a key may be ready
            await self._receipts.room()

    async def nack(self, deliveries: Sequence[Delivery], delay_seconds: float = 0.0) -> None:
        """See the contract. SQS keeps whole seconds."""
        mine, behind = self._hand.give_up(deliveries, self._now())
        delay = min(max(0, math.ceil(delay_seconds)), MOST_LEASE)
        await self._receipts.change([*((each, delay) for each in mine), *((each, 0) for each in behind)])

    async def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """See the contract."""
        if self._reading.mode != "shared":
            return []
        mine = self._hand.out(deliveries, self._now())
        gone = await self._prolong(mine)
        kept = {id(each) for each in mine} - {id(each) for each in gone}
        return [each for each in deliveries if id(each) not in kept]

    async def close(self) -> None:
        """See the contract."""
        if self._closed:
            return
        self._closed = True
        self._changed.set()
        self._demand.set()
        if self._tending is not None:
            self._tending.cancel()
        held = self._hand.give_back(out_too=True)
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._receipts.flush()
                await self._receipts.change([(each, 0) for each in held])
                if self._origin is not None:
                    await self._origin.end()
        except (TimeoutError, TransportUnavailable) as problem:
            log.warning("%d messages could not be given back, their leases will run out: %s", len(held), problem)
        await self._receipts.close()

    # ── polling ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _start(self) -> None:
        if self._started:
            return
        self._started = True
        for source in self._sources:
            poll = asyncio.create_task(self._poll(source), name="edow-sqs-poll")
            self._polls.add(poll)
            poll.add_done_callback(self._polls.discard)

    async def _poll(self, source: Source) -> None:
        """Until the subscriber is closed and the last poll has been answered."""
        patience, width, failing = Patience(), 1, False
        while (room := await self._room()) > 0:
            try:
                found, asked = await self._round(source, room, width)
            except Exception as problem:
                if self._closed:
                    return
                if not failing:
                    self._report(source, problem)
                failing, width = True, 1
                source = await self._recover(source, problem)
                await patience.pause()
                continue
            if failing:
                log.info("receiving from %s again", source.topic)
                failing, patience = False, Patience()
            most = (
                1 if self._reading.mode == "exclusive" else self._options.receivers
            )  # one after the other keeps order
            width = min(2 * width, most) if found == asked else max(1, width // 2 if found else 1)

    def _report(self, source: Source, problem: Exception) -> None:
        if isinstance(problem, TransportUnavailable):
            log.warning("cannot receive from %s, trying on: %s", source.topic, problem)
        else:
            log.error("receiving from %s failed in an unexpected way, trying on", source.topic, exc_info=problem)

    async def _recover(self, source: Source, problem: Exception) -> Source:
        """What is refused the reader is told of; a broadcast queue that others took for abandoned is made anew."""
        if isinstance(problem, Missing) and self._origin is not None and not self._closed:
            try:
                return await self._origin.renew(source)
            except TransportUnavailable as worse:
                problem = worse
        if isinstance(problem, Rejected):
            self._problem = problem
            self._changed.set()
        return source

    async def _room(self) -> int:
        """How many messages to ask for, once there is room; 0 at the end."""
        while not self._closed:
            ahead = PREFETCH if self._reading.mode == "exclusive" else 0
            room = max(self._wanted, ahead) - self._hand.ready
            if room > 0:
                return room
            self._demand.clear()
            await self._demand.wait()
        return 0

    async def _round(self, source: Source, room: int, width: int) -> tuple[int, int]:
        """One long poll, or several short ones. How many messages came, of how many at most."""
        polls = min(width, -(-room // BATCH))
        wait = self._options.poll if width == 1 else 0
        sizes = [min(BATCH, room - BATCH * number) for number in range(polls)]
        counts = await gather(self._ask(source, size, wait) for size in sizes)
        return sum(counts), sum(sizes)

    async def _ask(self, source: Source, size: int, wait: int) -> int:
        answer = await self._service.call(
            "sqs",
            "receive_message",
            QueueUrl=source.url,
            MaxNumberOfMessages=size,
            WaitTimeSeconds=wait,
            VisibilityTimeout=self._first_lease,
            MessageSystemAttributeNames=SYSTEM_ATTRIBUTES,
            MessageAttributeNames=ATTRIBUTES,
        )
        found = msgspec.convert(answer.get("Messages", []), list[Received])
        if found:
            await self._arrived([self._delivery(source, each) for each in found])
        return len(found)

    async def _arrived(self, deliveries: Sequence[SqsDelivery]) -> None:
        if self._reading.lease > self._first_lease and not self._closed:
            await self._prolong(deliveries)
        if self._closed:
            await self._receipts.change([(each, 0) for each in deliveries])
            return
        self._problem = None
        if self._reading.mode == "broadcast":
            self._receipts.delete(deliveries)
        self._hand.arrive(deliveries)
        self._changed.set()
        if self._reading.mode != "broadcast" and self._tending is None:
            self._tending = asyncio.create_task(self._tend(), name="edow-sqs-leases")

    def _delivery(self, source: Source, received: Received) -> SqsDelivery:
        body, key = decode(received)
        heard = self._reading.mode == "broadcast"
        until = math.inf if heard else self._until(self._first_lease)
        count = 1 if heard else received.count
        return SqsDelivery(source.topic, body, key, count, received.receipt_handle, source.url, until)

    # ── leases ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _tend(self) -> None:
        """While anything is in hand. Whatever fails is tried again in time; if it fails on, leases run out."""
        while len(self._hand):
            await asyncio.sleep(self._first_lease / 3)
            try:
                await self._tend_once()
            except TransportUnavailable as problem:
                log.debug("leases could not be prolonged: %s", problem)
        self._tending = None

    async def _tend_once(self) -> None:
        """Prolong what the caller cannot: what it was not given yet and, in mode exclusive, everything. Give back what
        it does not come for, and what waits behind a message that it has lost.
        """
        exclusive = self._reading.mode == "exclusive"
        back = self._hand.forsaken(self._now())
        if not exclusive and not self._wanted and self._now() - self._seen_at > self._first_lease:
            back += self._hand.give_back(out_too=False)
        await self._receipts.change([(each, 0) for each in back])
        await self._prolong(self._hand.kept(out_too=exclusive))

    async def _prolong(self, deliveries: Sequence[SqsDelivery]) -> list[SqsDelivery]:
        """Those that were lost; they are not in hand any more."""
        until = self._until(self._reading.lease)
        lost = await self._receipts.change([(each, self._reading.lease) for each in deliveries])
        behind = [follower for each in lost for follower in self._hand.lose(each)]
        for each in deliveries:
            each.until = until
        await self._receipts.change([(each, 0) for each in behind])
        return lost

    def _until(self, seconds: int) -> float:
        return self._now() + seconds * (1 - RESERVE)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
