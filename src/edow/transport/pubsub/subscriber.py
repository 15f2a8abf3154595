"""One subscriber: asks for messages, hands them out, and keeps what it holds for as long as it lives.

It asks only while somebody receives, and what it then does not hand out for a while it gives back, so that no member
sits on messages that others could work on. Unary pulls, not a stream: a stream takes whatever the service sends, and a
pull is the one way to read that keeps a key with one batch at a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from math import ceil, inf
from typing import Any

from google.api_core.exceptions import GatewayTimeout, GoogleAPICallError, NotFound

from edow.errors import Closed, EdowError, TransportUnavailable
from edow.transport.contract import Delivery, Subscription
from edow.transport.pubsub.envelope import key_of
from edow.transport.pubsub.hands import Hands, PubsubDelivery
from edow.transport.pubsub.link import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, Link, is_transient
from edow.transport.pubsub.options import PubsubOptions
from edow.transport.pubsub.queue import MOST_PULLED, Queue

MOST_DEADLINE_SECONDS = 600  # that the service leaves a message to one subscriber at a time
UNWANTED_SECONDS = 1.0  # with nobody receiving; what is held and not handed out then goes to others
LOOK_SECONDS = 5.0  # at the latest, whatever there is to do
PAUSE_SECONDS = 0.5  # between attempts to keep or give back
CLOSE_SECONDS = 2.0  # for giving back at the end; what the service does not hear of it takes back by itself

log = logging.getLogger("edow.transport.pubsub")


class PubsubSubscriber:
    """See `edow.transport.contract.Subscriber`. Modes shared and exclusive; `listener` has the third."""

    def __init__(self, link: Link, options: PubsubOptions, subscription: Subscription) -> None:
        self._link = link
        self._options = options
        self._shared = subscription.mode == "shared"
        self._lease = subscription.lease_seconds
        self._deadline = min(MOST_DEADLINE_SECONDS, max(1, ceil(subscription.lease_seconds)))
        self._patience = min(self._deadline, options.timeout_seconds)  # with requests that are worth little later
        self._hands = Hands(self._shared, self._deadline)
        self._queues: list[Queue] = []
        self._wake = asyncio.Event()  # something may be received
        self._look = asyncio.Event()  # something is to be kept or given back sooner than was thought
        self._pulling: set[asyncio.Task[None]] = set()  # of the pulls, those that may be cancelled
        self._keeper: asyncio.Task[None] | None = None
        self._problem: EdowError | None = None
        self._left_at: float | None = 0.0  # None: somebody receives
        self._closed = False

    @property
    def has_ended(self) -> bool:
        """Closed, and nothing asked for any more."""
        return self._closed and not any(queue.pulls for queue in self._queues)

    def begin(self, queues: Sequence[Queue]) -> None:
        self._queues = list(queues)
        self._keeper = asyncio.create_task(self._keep(), name="edow-pubsub-keep")

    async def receive(self, limit: int, wait_seconds: float) -> list[Delivery]:
        """See the contract. Raises TransportUnavailable when the subscription is gone or may not be read."""
        loop = asyncio.get_running_loop()
        end = loop.time() + wait_seconds
        if self._closed:
            raise Closed("this subscriber is closed: subscribe again")
        self._left_at = None
        try:
            while not self._closed:
                self._wake.clear()
                taken = self._take(limit)
                self._ask(limit)
                if taken:
                    return taken
                if self._problem is not None:
                    problem, self._problem = self._problem, None
                    raise problem
                left = end - loop.time()
                if left <= 0:
                    break
                await _wait(self._wake, left)
            return []
        finally:
            self._left_at = loop.time()
            self._stir()

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """See the contract. What fails may be acknowledged again."""
        mine = self._hands.mine(deliveries)
        for each in mine:
            each.state = "settling"
        try:
            await self._tell(mine, lambda queue, ids: queue.acknowledge(ids))
        except GoogleAPICallError as problem:
            raise self._link.unavailable(problem, f"{len(mine)} messages could not be acknowledged") from problem
        finally:
            # Only now may the next of a key go on: what was not acknowledged comes again, and before it.
            for each in mine:
                if each.state == "settling":
                    each.state = "handed"
        self._hands.done(mine)
        self._stir()

    async def nack(self, deliveries: Sequence[Delivery], delay_seconds: float = 0.0) -> None:
        """See the contract. The delay is kept here, since Pub/Sub knows none for a single message."""
        mine = self._hands.mine(deliveries)
        due = asyncio.get_running_loop().time() + delay_seconds
        if not self._shared:
            for each in mine:
                self._hands.again(each, due)
        elif delay_seconds > 0:
            for each in mine:
                each.state, each.due = "delayed", due
        elif mine:
            await self._give_back(mine)
        self._look.set()

    async def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """See the contract. In mode exclusive nothing expires. A lease that has just ended goes on, too, if nobody has
        noticed and the service has left us the message.
        """
        if not self._shared:
            return []
        now = asyncio.get_running_loop().time()
        mine = [each for each in self._hands.mine(deliveries) if max(each.until, each.served_until) > now]
        kept = set(map(id, mine))
        try:
            lost = await self._renew(mine)
        except GoogleAPICallError as problem:
            raise self._link.unavailable(problem, f"{len(mine)} leases could not be extended") from problem
        for each in mine:
            each.until = now + self._lease
        return [each for each in deliveries if id(each) not in kept or id(each) in lost]

    async def close(self) -> None:
        """See the contract."""
        if self._closed:
            return
        self._closed = True
        self._wake.set()
        await self._stop_keeping()
        held = [each for each in self._hands if each.state != "settling"]
        try:
            await self._give_back(held, CLOSE_SECONDS)
        except EdowError as problem:
            log.debug("%d messages could not be given back, their leases will run out: %s", len(held), problem)
        if self.has_ended:
            self._release()

    async def end(self) -> None:
        """After `close`: also what is still asked for. Until then it is waited for: a request that is cancelled may
        be given messages all the same, and they would be nobody's for as long as the subscription's deadline.
        """
        for task in self._pulling:
            task.cancel()
        for seconds in (CLOSE_SECONDS, None):
            if tasks := [task for queue in self._queues for task in queue.pulls]:
                _, late = await asyncio.wait(tasks, timeout=seconds)
                for task in late:
                    task.cancel()

    # What differs in a listener

    def _take(self, limit: int) -> list[Delivery]:
        until = asyncio.get_running_loop().time() + self._lease if self._shared else inf
        return [*self._hands.take(limit, until)]

    async def _arrived(self, queue: Queue, found: Sequence[Any]) -> None:
        """Hold them for a lease's length before any is handed out: whoever is killed now does so for no longer."""
        now = asyncio.get_running_loop().time()
        deliveries = [self._delivery(queue, each, now + self._deadline) for each in found]
        ids = [each.ack_id for each in deliveries]
        lost: set[str] = set()
        try:
            if not self._closed:
                lost = await queue.modify(ids, self._deadline, self._patience)
        except GoogleAPICallError as problem:
            log.debug("%d messages were received and their deadline could not be set: %s", len(ids), problem)
        self._hands.admit(each for each in deliveries if each.ack_id not in lost)
        if self._closed:
            await self._give_back(deliveries)

    # Asking

    def _ask(self, limit: int) -> None:
        """As many requests as may be under way, each for its share of what may be held. In mode exclusive for all of
        it, since nobody else waits for these messages, and the next of a key come only when all of a batch are done.
        """
        half = max(1, self._options.prefetch // 2)
        if self._hands.waiting >= half:
            return
        most = min(MOST_PULLED, max(1, half // (self._options.pulls * len(self._queues))))
        if self._shared:
            most = min(limit, most)
        for queue in self._queues:
            while len(queue.pulls) < self._options.pulls:
                task = asyncio.create_task(self._pull(queue, most), name="edow-pubsub-pull")
                queue.pulls.add(task)
                self._pulling.add(task)
                task.add_done_callback(partial(self._pulled, queue))

    async def _pull(self, queue: Queue, most: int) -> None:
        """One request, or a pause after one that failed."""
        task = asyncio.current_task()
        assert task is not None
        try:
            found = await self._asked(queue, most)
            self._pulling.discard(task)  # cancelled now, they would be nobody's until their deadline
            if found:
                await self._arrived(queue, found)
        except Closed:
            pass
        except EdowError as problem:
            self._problem = problem

    def _pulled(self, queue: Queue, task: asyncio.Task[None]) -> None:
        self._pulling.discard(task)
        queue.pulls.discard(task)
        self._wake.set()
        self._stir()
        if self.has_ended:
            self._release()

    async def _asked(self, queue: Queue, most: int) -> Sequence[Any]:
        try:
            found = await queue.pull(most)
        except GatewayTimeout:
            return ()
        except NotFound as problem:
            if not await queue.remake():
                await self._pause(queue)
                raise TransportUnavailable(f"{queue.path} is gone: it was deleted, or its topic was") from problem
            return ()
        except GoogleAPICallError as problem:
            if not is_transient(problem):
                await self._pause(queue)
                raise self._link.unavailable(problem, f"{queue.path} cannot be read") from problem
            self._link.is_away(problem)
            await self._pause(queue)
            return ()
        queue.pause = FIRST_PAUSE_SECONDS
        self._link.is_back()
        return found

    async def _pause(self, queue: Queue) -> None:
        await asyncio.sleep(queue.pause)
        queue.pause = min(2 * queue.pause, LONGEST_PAUSE_SECONDS)

    def _delivery(self, queue: Queue, received: Any, served_until: float) -> PubsubDelivery:
        message = received.message
        return PubsubDelivery(
            queue.topic,
            message.data,
            key_of(message),
            1,
            received.ack_id,
            queue=queue,
            id=message.message_id,
            place=(queue.number, message.ordering_key) if message.ordering_key and self._options.ordering else None,
            served_until=served_until,
        )

    # Keeping

    def _stir(self) -> None:
        """Something may be received; and if nobody comes for it, it is to be given back in time."""
        if self._hands.is_ready:
            self._wake.set()
            if self._left_at is not None:
                self._look.set()

    async def _keep(self) -> None:
        while True:
            self._look.clear()
            try:
                await _wait(self._look, await self._keep_once())
            except Closed:
                return
            except (GoogleAPICallError, EdowError) as problem:
                log.debug("messages could not be kept or given back: %s", problem)
                await asyncio.sleep(PAUSE_SECONDS)
            except Exception:
                log.exception("keeping messages failed in an unexpected way")
                await asyncio.sleep(PAUSE_SECONDS)

    async def _keep_once(self) -> float:
        """What has to be done now. Answers when to look again."""
        now = asyncio.get_running_loop().time()
        back: list[PubsubDelivery] = []
        unwanted_at = inf
        if self._shared and self._left_at is not None and self._hands.is_ready:
            unwanted_at = self._left_at + UNWANTED_SECONDS
            if unwanted_at <= now:
                back, unwanted_at = self._hands.unwanted(), inf
        plan = self._hands.plan(now, LOOK_SECONDS)
        if self._shared:
            back += plan.ended + plan.due
        else:
            for each in plan.due:
                self._hands.let_again(each)
                self._wake.set()
        if back:
            await self._give_back(back, self._patience)
        if plan.renew:
            await self._renew([each for each in plan.renew if each.state != "gone"])
        return max(0.0, min(plan.at, unwanted_at) - now)

    async def _renew(self, deliveries: Sequence[PubsubDelivery]) -> set[int]:
        """The service leaves them to us anew. Those that it says are not ours, by identity."""
        until = asyncio.get_running_loop().time() + self._deadline
        gone = await self._tell(deliveries, lambda queue, ids: queue.modify(ids, self._deadline, self._patience))
        for each in deliveries:
            each.served_until = until
        lost = [each for each in deliveries if each.ack_id in gone]
        self._hands.give_up(lost)
        return set(map(id, lost))

    async def _give_back(self, deliveries: Iterable[PubsubDelivery], seconds: float | None = None) -> None:
        """At once, with what stands behind them."""
        given = self._hands.give_up(deliveries)
        given.sort(key=lambda each: each.serial)
        try:
            await self._tell(given, lambda queue, ids: queue.modify(ids, 0, seconds))
        except GoogleAPICallError as problem:
            raise self._link.unavailable(problem, f"{len(given)} messages could not be given back") from problem

    async def _tell(
        self, deliveries: Sequence[PubsubDelivery], tell: Callable[[Queue, list[str]], Awaitable[set[str]]]
    ) -> set[str]:
        """One request for each subscription, all at once."""
        ids: dict[int, list[str]] = {}
        for each in deliveries:
            ids.setdefault(each.queue.number, []).append(each.ack_id)
        answers = await asyncio.gather(*(tell(self._queues[number], some) for number, some in ids.items()))
        return set().union(*answers)

    def _release(self) -> None:
        """Once; nothing is asked for any more."""
        for queue in self._queues:
            queue.close()

    async def _stop_keeping(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
