"""A subscriber: hands out what its shares have ready, and sees to it that nothing handed out is forgotten."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import count

from confluent_kafka import KafkaError

from edow.errors import Closed, EdowError, InvalidInput, TransportUnavailable
from edow.transport.contract import Delivery
from edow.transport.kafka.feed import Feed, Plan
from edow.transport.kafka.partition import KafkaDelivery, Partition, Place, Progress, fair
from edow.transport.kafka.problems import log, translate
from edow.transport.kafka.share import Rules, Share

FLUSH_SECONDS = 3.0


class KafkaSubscriber:
    """Of any mode. `lease_seconds` None: nothing expires. `doing`: what an error message begins with."""

    def __init__(self, rules: Rules, lease_seconds: float | None, doing: str) -> None:
        self._rules = rules
        self._lease_seconds = lease_seconds
        self._doing = doing
        self._loop = asyncio.get_running_loop()
        self._shares: list[Share] = []
        self._feeds: list[Feed] = []
        self._queue: deque[Partition] = deque()  # those with something ready
        self._leases: dict[KafkaDelivery, float] = {}  # until when; the first to end comes first
        self._delayed: list[tuple[float, int, KafkaDelivery]] = []
        self._serial = count()
        self._woken = asyncio.Event()
        self._trouble: EdowError | None = None
        self._closed = False

    def add(self, plan: Plan, topics: Mapping[str, str], starts: Mapping[Place, Progress], name: str) -> None:
        """Read with one more consumer; `topics` and `starts` as in Share."""
        share = Share(self, self._rules, topics, starts)
        self._shares.append(share)
        self._feeds.append(Feed(plan, share, name))

    async def settle(self, seconds: float) -> None:
        """Until each share has had partitions; at most for this long. Raises InvalidInput for what will never work."""
        deadline = self._loop.time() + seconds
        while not all(share.settled for share in self._shares) and self._loop.time() < deadline:
            await self._wait(deadline)
            if self._trouble is not None:
                raise self._trouble

    async def receive(self, limit: int, wait_seconds: float) -> list[Delivery]:
        """See the contract."""
        if self._closed:
            raise Closed("this subscriber is closed: subscribe again")
        deadline = self._loop.time() + wait_seconds
        while not self._closed:
            now = self._loop.time()
            due = self._bring_back(now)
            if self._queue:
                return self._hand_out(limit, now)
            if self._trouble is not None:
                trouble, self._trouble = self._trouble, None
                raise TransportUnavailable(str(trouble)) from trouble
            if now >= deadline:
                break
            await self._wait(min(deadline, due))
        return []

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """See the contract."""
        for each in self._ours(deliveries):
            self._leases.pop(each, None)
            if each.partition.done(each):
                self.offer(each.partition)
            if each.partition.leaving:
                self._wake_feeds()

    async def nack(self, deliveries: Sequence[Delivery], delay_seconds: float = 0.0) -> None:
        """See the contract."""
        self._give_back(self._ours(deliveries), self._loop.time() + delay_seconds if delay_seconds > 0 else 0.0)

    async def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """See the contract."""
        if self._lease_seconds is None:
            return []
        until = self._loop.time() + self._lease_seconds
        kept = set()
        for each in self._ours(deliveries):
            self._leases.pop(each, None)
            self._leases[each] = until
            kept.add(each)
        return [each for each in deliveries if each not in kept]

    async def flush(self) -> None:
        """When the broker knows how far we are, if it is there at all."""
        if self._closed or not self._rules.tracked:
            return
        waiting = [share.flush() for share in self._shares]
        self._wake_feeds()
        await asyncio.wait(waiting, timeout=FLUSH_SECONDS)

    @property
    def is_closed(self) -> bool:
        return self._closed

    async def close(self) -> None:
        """See the contract."""
        if self._closed:
            return
        self._closed = True
        self._woken.set()
        await asyncio.gather(*(feed.close() for feed in self._feeds))

    # -- Hub --

    def offer(self, partition: Partition) -> None:
        """It has something to hand out."""
        if not partition.leaving and not partition.offered:
            partition.offered = True
            self._queue.append(partition)
            self._woken.set()

    def withdraw(self, partition: Partition) -> None:
        """See `edow.transport.kafka.share.Hub`."""
        if partition.offered:
            partition.offered = False
            self._queue.remove(partition)
        if partition.gone:
            self._leases = {each: until for each, until in self._leases.items() if each.partition is not partition}
            self._delayed = [entry for entry in self._delayed if entry[2].partition is not partition]
            heapq.heapify(self._delayed)

    def ready(self) -> int:
        """How many messages can be handed out now."""
        return sum(len(partition.ready) for partition in self._queue)

    def settled(self) -> None:
        """A share has had partitions."""
        self._woken.set()

    def troubled(self, error: KafkaError) -> None:
        """What will never work without somebody's doing is told whoever receives next; the rest passes by itself."""
        trouble = translate(error, self._doing)
        if isinstance(trouble, InvalidInput):
            self._trouble = trouble
            self._woken.set()
        else:
            log.debug("%s", trouble)

    # -- its own --

    async def _wait(self, deadline: float) -> None:
        """Until something happens, or this moment has come."""
        self._woken.clear()
        try:
            async with asyncio.timeout_at(deadline):
                await self._woken.wait()
        except TimeoutError:
            pass

    def _hand_out(self, limit: int, now: float) -> list[Delivery]:
        taken = fair(self._queue, limit)
        if self._lease_seconds is not None:
            self._leases.update(dict.fromkeys(taken, now + self._lease_seconds))
        if 2 * self.ready() <= self._rules.prefetch:
            self._wake_feeds()
        return [*taken]

    def _ours(self, deliveries: Iterable[Delivery]) -> list[KafkaDelivery]:
        """Those that are in the hands they were given to."""
        return [
            each
            for each in dict.fromkeys(deliveries)
            if isinstance(each, KafkaDelivery) and not each.partition.gone and each.partition.holds(each)
        ]

    def _give_back(self, deliveries: Sequence[KafkaDelivery], due: float) -> None:
        again = []
        for each in deliveries:
            self._leases.pop(each, None)
            if (copy := each.partition.give_back(each)) is not None:
                again.append(copy)
        if due:
            for each in again:
                heapq.heappush(self._delayed, (due, next(self._serial), each))
            self._woken.set()
        else:
            self._restore(again)

    def _restore(self, deliveries: Sequence[KafkaDelivery]) -> None:
        """They come before everything that is ready."""
        for each in reversed(deliveries):
            if not each.partition.gone:
                each.partition.ready.appendleft(each)
                self.offer(each.partition)

    def _bring_back(self, now: float) -> float:
        """Whatever is due: leases that have run out, delays that are over. When the next will be."""
        while self._delayed and self._delayed[0][0] <= now:
            self._restore([heapq.heappop(self._delayed)[2]])
        expired = []
        for each, until in self._leases.items():
            if until > now:
                break
            expired.append(each)
        for each in expired:
            del self._leases[each]
        self._give_back(self._ours(expired), 0.0)
        return min(self._next_lease(), self._delayed[0][0] if self._delayed else float("inf"))

    def _next_lease(self) -> float:
        return next(iter(self._leases.values()), float("inf"))

    def _wake_feeds(self) -> None:
        for feed in self._feeds:
            feed.wake()
