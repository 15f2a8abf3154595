"""One subscriber: asks for messages, hands them out, and keeps what it holds for as long as it lives.

It asks only while somebody receives, and what it then does not hand out for a while it gives back, so that no member
sits on messages that others could work on. Unary pulls, not a stream: a stream takes whatever the service sends, for
ten seconds at least.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from math import ceil, inf
from typing import Any

from google.api_core.exceptions import GoogleAPICallError, NotFound

from edow.errors import Closed, EdowError, TransportUnavailable
from edow.transport.contract import Delivery, Subscription
from edow.transport.pubsub.held import Held, PubsubDelivery
from edow.transport.pubsub.link import CLOSE_SECONDS, FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, Link, is_transient
from edow.transport.pubsub.options import PubsubOptions
from edow.transport.pubsub.publisher import key_of
from edow.transport.pubsub.topics import Source, Topics

MOST_DEADLINE_SECONDS = 600  # that the service leaves a message to one subscriber at a time
MOST_PULLED = 1_000
MOST_IDS = 1_000  # in one request, which may have 512 KiB
UNWANTED_SECONDS = 1.0  # with nobody receiving; what is held and not handed out then goes to others
LOOK_SECONDS = 0.2  # between looks at what is held

log = logging.getLogger("edow.transport.pubsub")


class PubsubSubscriber:
    """See `edow.transport.contract.Subscriber`."""

    def __init__(
        self, link: Link, topics: Topics, options: PubsubOptions, subscription: Subscription, sources: list[Source]
    ) -> None:
        self.is_closed = False
        self._link = link
        self._topics = topics
        self._options = options
        self._mode = subscription.mode
        self._lease = subscription.lease_seconds if subscription.mode == "shared" else inf
        self._deadline = min(MOST_DEADLINE_SECONDS, max(1, ceil(subscription.lease_seconds)))
        self._sources = sources
        self._held = Held()
        self._wake = asyncio.Event()  # something may be received
        self._problem: EdowError | None = None
        self._clock = asyncio.get_running_loop().time
        self._left_at = inf  # when somebody has last received; inf: somebody does
        self._keeper = asyncio.create_task(self._keep(), name="edow-pubsub-keep")

    async def receive(self, limit: int, wait_seconds: float) -> list[Delivery]:
        """See the contract. Raises TransportUnavailable when the subscription is gone or may not be read."""
        self._check_open()
        end = self._clock() + wait_seconds
        self._left_at = inf
        try:
            while True:
                self._wake.clear()
                taken = self._held.take(limit, self._clock() + self._lease)
                if self._mode == "broadcast":
                    self._held.done(taken)
                self._ask(limit)
                if taken or self.is_closed or self._clock() >= end:
                    return [*taken]
                if self._problem is not None:
                    problem, self._problem = self._problem, None
                    raise problem
                with suppress(TimeoutError):
                    async with asyncio.timeout(end - self._clock()):
                        await self._wake.wait()
        finally:
            self._left_at = self._clock()

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """See the contract. What fails may be acknowledged again."""
        mine = self._held.mine(deliveries)
        await self._tell(mine, None)
        self._held.done(mine)  # only now may the next of a key go on: else what comes again would come after it
        self._wake.set()

    async def nack(self, deliveries: Sequence[Delivery], delay_seconds: float = 0.0) -> None:
        """See the contract. The delay is kept here, since Pub/Sub knows none for a single message."""
        mine = self._held.mine(deliveries)
        if delay_seconds <= 0:
            await self._give_back(mine)
            return
        for each in mine:
            each.state, each.ends = "delayed", self._clock() + delay_seconds

    async def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """See the contract. Only in mode shared does anything expire."""
        if self._mode != "shared":
            return []
        now = self._clock()
        mine = [each for each in self._held.mine(deliveries) if each.ends > now]
        await self._renew(mine)
        kept = self._held.mine(mine)
        for each in kept:
            each.ends = now + self._lease
        ours = set(map(id, kept))
        return [each for each in deliveries if id(each) not in ours]

    async def close(self) -> None:
        """See the contract. Pulls under way go on, and what they bring is given back: one that is cancelled may be
        given messages all the same, which would be nobody's for as long as the subscription's deadline.
        """
        if self.is_closed:
            return
        self.is_closed = True
        self._wake.set()
        self._keeper.cancel()
        if self._mode == "broadcast":
            await asyncio.gather(*(self._topics.delete(source) for source in self._sources))
            return
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._give_back(self._held)
        except (EdowError, TimeoutError) as problem:
            log.debug("messages could not be given back, their leases will run out: %s", problem)

    def _check_open(self) -> None:
        if self.is_closed:
            raise Closed("this subscriber is closed: subscribe again")

    # Asking

    def _ask(self, limit: int) -> None:
        """As many pulls as may be under way, each for its share of what may be held."""
        half = max(1, self._options.prefetch // 2)
        if self._held.waiting >= half or len(self._held.ready) >= limit:
            return
        share = max(1, half // (self._options.pulls * len(self._sources)))
        most = min(share, MOST_PULLED, limit if self._mode == "shared" else MOST_PULLED)
        for source in self._sources:
            while source.pulls < self._options.pulls:
                source.pulls += 1
                self._link.run(self._pull(source, most))

    async def _pull(self, source: Source, most: int) -> None:
        """One request, or a pause after one that failed."""
        try:
            if await self._has_pulled(source, most):
                source.pause = FIRST_PAUSE_SECONDS
            else:
                await self._pause(source)
        except Closed:
            pass
        except EdowError as problem:
            self._problem = problem
            self._wake.set()
            await self._pause(source)
        finally:
            source.pulls -= 1
            self._wake.set()

    async def _pause(self, source: Source) -> None:
        await asyncio.sleep(source.pause)
        source.pause = min(2 * source.pause, LONGEST_PAUSE_SECONDS)

    async def _has_pulled(self, source: Source, most: int) -> bool:
        try:
            found = await self._link.pull(source.path, most)
        except NotFound as problem:
            if self.is_closed or await self._topics.make_again(source):
                return True
            raise TransportUnavailable(f"{source.path} is gone: it was deleted, or its topic was") from problem
        except GoogleAPICallError as problem:
            if not is_transient(problem):
                error = self._link.error(problem, f"{source.path} cannot be read")
                raise TransportUnavailable(str(error)) from problem
            self._link.note(problem)
            return False
        if found:
            await self._arrived(source, found)
        elif not self.is_closed:
            await self._topics.look(source)
        return True

    async def _arrived(self, source: Source, found: Sequence[Any]) -> None:
        """Hold them for a lease's length before any is handed out: whoever is killed now does so for no longer. What is
        broadcast is done with, and an exclusive subscriber need not wait, since nothing of it expires.
        """
        until = self._clock() + self._deadline
        deliveries = [self._delivery(source, each, until) for each in found]
        at_once = self._mode == "exclusive"
        if at_once:
            self._held.admit(deliveries)
            self._wake.set()
        lost: set[str] = set()
        try:
            lost = await self._tell(deliveries, None if self._mode == "broadcast" else self._deadline)
        except TransportUnavailable as problem:
            log.debug("received nevertheless: %s", problem)
        if at_once:
            self._held.give_up(each for each in deliveries if each.ack_id in lost)
        else:
            self._held.admit(each for each in deliveries if each.ack_id not in lost)
        if self.is_closed:
            await self._give_back(self._held)

    def _delivery(self, source: Source, received: Any, until: float) -> PubsubDelivery:
        message = received.message
        return PubsubDelivery(
            source.topic,
            message.data,
            key_of(message),
            1,
            received.ack_id,
            path=source.path,
            id=message.message_id,
            place=(source.path, message.ordering_key) if message.ordering_key else None,
            served_until=until,
        )

    # Keeping

    async def _keep(self) -> None:
        """Until it is closed."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self._look()
            except EdowError as problem:
                log.debug("not kept, or not given back: %s", problem)
            except Exception:
                log.exception("keeping messages failed in an unexpected way")

    async def _look(self) -> None:
        """Leases and delays that have ended, what nobody wants, and what the service would soon take back."""
        now = self._clock()
        back = [each for each in self._held if each.ends <= now]
        if self._mode == "shared" and self._left_at + UNWANTED_SECONDS <= now:
            back += self._held.ready
        await self._give_back(back)
        if self._mode != "broadcast":
            soon = now + self._deadline / 2
            await self._renew([each for each in self._held if each.served_until < min(each.ends, soon)])

    async def _renew(self, deliveries: Sequence[PubsubDelivery]) -> None:
        """The service leaves them to us anew; those that are not ours any more are gone."""
        until = self._clock() + self._deadline
        lost = await self._tell(deliveries, self._deadline)
        for each in deliveries:
            each.served_until = until
        self._held.give_up(each for each in deliveries if each.ack_id in lost)

    async def _give_back(self, deliveries: Iterable[PubsubDelivery]) -> None:
        """At once, with what stands behind them."""
        await self._tell(self._held.give_up([*deliveries]), 0)

    async def _tell(self, deliveries: Iterable[PubsubDelivery], deadline: int | None) -> set[str]:
        """See `Link.settle`; all at once. TransportUnavailable also for permissions: they may come back."""
        ids: dict[str, list[str]] = {}
        for each in deliveries:
            ids.setdefault(each.path, []).append(each.ack_id)
        requests = [
            self._link.settle(path, some[start : start + MOST_IDS], deadline)
            for path, some in ids.items()
            for start in range(0, len(some), MOST_IDS)
        ]
        try:
            return set().union(*await asyncio.gather(*requests))
        except GoogleAPICallError as problem:
            what = f"{sum(map(len, ids.values()))} messages could not be acknowledged, kept or given back"
            raise TransportUnavailable(str(self._link.error(problem, what))) from problem
