"""A subscriber: asks SQS for what its reader wants, keeps leases, acknowledges in batches.

While somebody receives, there is one long poll at each queue; where answers come back full, several short ones at once,
twice as many as came back full.
A poll that is under way is never broken off while the process lives, for SQS may have answered it: what comes after the
end of a receive is kept for the next, and what comes after close is given back.

SQS gives out the messages of a FIFO group together, up to ten, and then none until all of them are settled. So their
order among themselves is kept here: the next of a key is handed out when the previous was acknowledged.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from random import random
from typing import Any

import msgspec

from edow.errors import Closed, EdowError, TransportUnavailable
from edow.transport.contract import Delivery, Subscription
from edow.transport.sqs.bodies import BODY, KEY, decode
from edow.transport.sqs.listening import Listening
from edow.transport.sqs.options import Options
from edow.transport.sqs.service import BATCH, Missing, Rejected, Service
from edow.transport.sqs.topics import FIFO

TRUSTED = 0.9  # of a lease: it is held to be over a little early, so that it never has two owners who believe in it
EXCLUSIVE_LEASE = 2  # seconds; we prolong it, and the next owner waits for no more when we are killed
LONGEST_LEASE = 30  # that we take ourselves, where everything is slow
MOST_LEASE = 43_200  # seconds; SQS keeps a message for one receiver twelve hours at most
LEFT = 0.4  # of a lease, at least, when it is handed out; one that waited longer runs out
CLOSE_SECONDS = 2.0  # that giving back may take
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds between polls that fail

log = logging.getLogger("edow.transport.sqs")


class SqsDelivery(Delivery, eq=False):
    """`token` is its receipt."""

    url: str  # of the queue
    until: float  # when the lease ends, with some reserve
    behind: deque[SqsDelivery]  # the next of its key, which came with it; they share its lease


class Source(msgspec.Struct):
    """A queue that is read."""

    topic: str
    url: str
    polls: int = 0  # under way
    full: int = 0  # of the last polls: those that there may have been more for
    pause: float = 0.0  # while it fails


class SqsSubscriber:
    """See `edow.transport.contract.Subscriber`. `listening`: made the sources of a broadcast."""

    def __init__(
        self,
        service: Service,
        options: Options,
        subscription: Subscription,
        sources: Sequence[Source],
        listening: Listening | None = None,
    ) -> None:
        self.is_closed = False
        self._service = service
        self._options = options
        self._mode = subscription.mode
        lease = EXCLUSIVE_LEASE if subscription.mode == "exclusive" else math.ceil(subscription.lease_seconds)
        self._least = self._lease = min(max(1, lease), MOST_LEASE)
        self._sources = sources
        self._listening = listening
        self._ready: deque[SqsDelivery] = deque()
        self._out: dict[object, SqsDelivery] = {}  # handed out, by receipt
        self._deleting: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._problem: Rejected | None = None
        self._now = asyncio.get_running_loop().time
        self._tending = asyncio.create_task(self._tend(), name="edow-sqs-leases")

    async def receive(self, limit: int, wait_seconds: float) -> list[Delivery]:
        """See the contract. While the service does not answer it yields nothing; what it refuses is
        TransportUnavailable.
        """
        if self.is_closed:
            raise Closed("this subscriber is closed: subscribe again")
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_seconds):
                while not self.is_closed:
                    self._changed.clear()
                    if taken := self._take(limit):
                        return taken
                    if self._problem is not None:
                        problem, self._problem = self._problem, None
                        raise problem
                    for source in self._sources:
                        self._ask(source, limit)
                    await self._changed.wait()
        return []

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """See the contract. Waits for nobody: what SQS cannot be told until the lease ends comes again. In mode
        exclusive SQS is told even then: nobody else has it, and it may have been prolonged a moment ago.
        """
        exclusive = self._mode == "exclusive"
        mine = self._mine(deliveries, since=-math.inf if exclusive else self._now())
        self._drop(deliveries)
        if mine:
            task = self._service.begin(self._delete(mine))
            self._deleting.add(task)
            task.add_done_callback(self._deleting.discard)

    async def nack(self, deliveries: Sequence[Delivery], delay_seconds: float = 0.0) -> None:
        """See the contract. SQS keeps whole seconds."""
        mine = self._mine(deliveries, since=self._now())
        self._drop(deliveries)
        await self._keep(mine, min(max(0, math.ceil(delay_seconds)), MOST_LEASE))
        await self._keep([each for first in mine for each in first.behind], 0)

    async def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """See the contract. Where leases are lost they were too short for how slow everything is: what comes again for
        that makes it slower still. They become longer then, and shorter bit by bit while none is.
        """
        if self._mode != "shared":
            return []
        now = self._now()
        mine = self._mine(deliveries, since=now)
        kept: set[Delivery] = {each for each in mine if each.until > now + self._least}
        kept.update(await self._prolong([each for each in mine if each not in kept]))
        lost = [each for each in deliveries if each not in kept]
        longest = max(LONGEST_LEASE, self._least)
        self._lease = min(2 * self._lease, longest) if lost else max(self._lease - 1, self._least)
        return lost

    async def close(self) -> None:
        """See the contract."""
        if self.is_closed:
            return
        self.is_closed = True
        self._changed.set()
        self._tending.cancel()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.gather(*self._deleting)
                await self._keep(_with_followers([*self._ready, *self._out.values()]), 0)
                if self._listening is not None:
                    await self._listening.end()
        except (TimeoutError, TransportUnavailable) as problem:
            log.warning("what was in hand could not be given back, its leases will run out: %s", problem)
        self._ready.clear()
        self._out.clear()

    # ── polls ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _ask(self, source: Source, limit: int) -> None:
        if source.polls:
            return
        width = min(2 * source.full or 1, self._options.receivers) if self._mode != "exclusive" else 1
        sizes = [min(BATCH, limit - start) for start in range(0, limit, BATCH)][:width]
        source.polls, source.full = len(sizes), 0
        for size in sizes:
            _ = self._service.begin(self._poll(source, size, self._options.poll if len(sizes) == 1 else 0))

    async def _poll(self, source: Source, size: int, wait: int) -> None:
        try:
            answer = await self._service.poll(
                "sqs",
                "receive_message",
                QueueUrl=source.url,
                MaxNumberOfMessages=size,
                WaitTimeSeconds=wait,
                VisibilityTimeout=self._lease,
                MessageSystemAttributeNames=["ApproximateReceiveCount", "MessageGroupId"],
                MessageAttributeNames=[BODY, KEY],
            )
            found = answer.get("Messages", [])
            await self._arrived(source, found)
            source.full += len(found) == size
            if source.pause:
                log.info("receiving from %s again", source.topic)
                source.pause = 0.0
        except Exception as problem:
            await self._failed(source, problem)
        finally:
            source.polls -= 1
            self._changed.set()

    async def _arrived(self, source: Source, found: Sequence[Mapping[str, Any]]) -> None:
        heard = self._mode == "broadcast"
        until = math.inf if heard else self._now() + self._lease * TRUSTED
        first: dict[str, SqsDelivery] = {}
        new: list[SqsDelivery] = []
        for each in found:
            body, key = decode(each)
            count = 1 if heard else int(each["Attributes"]["ApproximateReceiveCount"])
            made = SqsDelivery(source.topic, body, key, count, each["ReceiptHandle"], source.url, until, deque())
            if key is not None and source.url.endswith(FIFO) and first.setdefault(key, made) is not made:
                first[key].behind.append(made)
            else:
                new.append(made)
        if self.is_closed:
            await self._keep(_with_followers(new), 0)
            return
        if heard:
            await self._settle("delete_message_batch", new)
        self._ready.extend(new)
        if self._mode == "exclusive":
            self._be_patient(max((each.count for each in new), default=1))

    def _be_patient(self, count: int) -> None:
        """What comes again was with an owner that was killed. What comes again and again has a lease that ends on its
        way to us, or before we can prolong it, and would do so for ever.
        """
        if count > 2:
            self._lease = max(self._lease, min(EXCLUSIVE_LEASE * 2 ** (count - 2), LONGEST_LEASE))

    async def _failed(self, source: Source, problem: Exception) -> None:
        """A broadcast queue that others took for abandoned is made anew; of other refusals the reader is told."""
        if self.is_closed:
            return
        if isinstance(problem, Missing) and self._listening is not None:
            try:
                source.url = await self._listening.begin(source.topic)
                return
            except EdowError as worse:
                problem = worse
        if isinstance(problem, Rejected):
            self._problem = problem
            self._changed.set()
        if not isinstance(problem, TransportUnavailable):
            log.error("receiving from %s failed in an unexpected way, trying on", source.topic, exc_info=problem)
        elif not source.pause:
            log.warning("cannot receive from %s, trying on: %s", source.topic, problem)
        source.pause = min(2 * source.pause or FIRST_PAUSE, LONGEST_PAUSE)
        await asyncio.sleep(source.pause * (0.5 + random() / 2))

    # ── leases ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _take(self, limit: int) -> list[Delivery]:
        taken: list[Delivery] = []
        while self._ready and len(taken) < limit:
            delivery = self._ready.popleft()
            if delivery.until > self._now() + self._lease * LEFT:
                taken.append(delivery)
                if self._mode != "broadcast":
                    self._out[delivery.token] = delivery
        return taken

    def _mine(self, deliveries: Iterable[Delivery], *, since: float) -> list[SqsDelivery]:
        """Those that are handed out, with leases that were not over then, each once."""
        found = {each.token: self._out.get(each.token) for each in deliveries}
        return [each for each in found.values() if each is not None and each.until > since]

    def _drop(self, deliveries: Iterable[Delivery]) -> None:
        """They are prolonged no more: whoever has answered for one does not come back to it, lost or not."""
        for each in deliveries:
            self._out.pop(each.token, None)

    async def _delete(self, deliveries: list[SqsDelivery]) -> None:
        """They are done; after that what waits behind them is ready."""
        while True:
            try:
                await self._settle("delete_message_batch", deliveries)
                break
            except TransportUnavailable as problem:
                if all(each.until <= self._now() for each in deliveries):
                    log.warning("%d messages could not be acknowledged, they come again: %s", len(deliveries), problem)
                    return
                await asyncio.sleep(FIRST_PAUSE)
        for each in deliveries:
            if each.behind:
                following = each.behind.popleft()
                following.count = 1  # what SQS has counted before are the deliveries of those ahead of it
                following.until, following.behind = each.until, each.behind
                self._ready.append(following)
        self._changed.set()

    async def _tend(self) -> None:
        """In mode exclusive nobody prolongs but us. Whatever fails is tried again in time; else leases run out."""
        while True:
            await asyncio.sleep(self._lease / 3)
            self._drop([each for each in self._out.values() if each.until <= self._now()])
            try:
                if self._mode == "exclusive":
                    await self._prolong([*self._ready, *self._out.values()])
            except TransportUnavailable as problem:
                log.debug("leases could not be prolonged: %s", problem)

    async def _prolong(self, deliveries: Sequence[SqsDelivery]) -> list[SqsDelivery]:
        """With what waits behind them; those that are still ours."""
        until = self._now() + self._lease * TRUSTED
        lost = {*await self._keep(_with_followers(deliveries), self._lease)}
        self._drop(lost)
        kept = [each for each in deliveries if each not in lost]
        for each in kept:
            each.until = until
        return kept

    async def _keep(self, deliveries: Sequence[SqsDelivery], seconds: int) -> list[SqsDelivery]:
        """Keep them from others for so long, from now on; those that are not ours any more."""
        return await self._settle("change_message_visibility_batch", deliveries, VisibilityTimeout=seconds)

    async def _settle(self, verb: str, deliveries: Sequence[SqsDelivery], **parameters: int) -> list[SqsDelivery]:
        """Those that are not ours any more."""
        by_queue: dict[str, list[dict[str, object]]] = {}
        for place, each in enumerate(deliveries):
            entry = {"Id": str(place), "ReceiptHandle": each.token, **parameters}
            by_queue.setdefault(each.url, []).append(entry)
        requests = [
            self._service.batch(verb, url, entries[start : start + BATCH])
            for url, entries in by_queue.items()
            for start in range(0, len(entries), BATCH)
        ]
        answers = await asyncio.gather(*requests)
        faults = [fault for answer in answers for fault in answer]
        for fault in faults:
            if not fault.sender_fault:
                raise TransportUnavailable(f"{verb}: {fault.code}: {fault.message}")
        return [deliveries[int(fault.id)] for fault in faults]


def _with_followers(deliveries: Iterable[SqsDelivery]) -> list[SqsDelivery]:
    return [each for first in deliveries for each in (first, *first.behind)]
