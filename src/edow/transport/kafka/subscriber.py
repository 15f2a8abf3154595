"""A subscriber: hands out what its readers have ready, and sees to it that nothing handed out is forgotten."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Iterable, Iterator, Sequence
from itertools import count, islice

from confluent_kafka import KafkaError

from edow.errors import Closed, EdowError, InvalidInput, TransportUnavailable
from edow.transport.contract import Delivery
from edow.transport.kafka.partition import KafkaDelivery, Partition, Place, Progress, fair
from edow.transport.kafka.problems import log, translate
from edow.transport.kafka.reader import Plan, Reader


class KafkaSubscriber:
    """Of any mode, with a consumer for each plan. `lease_seconds` None: nothing expires. `prefetch` as in Settings.
    `doing`: what an error message begins with.
    """

    def __init__(self, plans: Iterable[Plan], lease_seconds: float | None, prefetch: int, doing: str) -> None:
        self.is_closed = False
        self._lease_seconds = lease_seconds
        self._prefetch = prefetch
        self._doing = doing
        self._loop = asyncio.get_running_loop()
        self._leases: dict[KafkaDelivery, float] = {}  # until when; the first to end comes first
        self._delayed: list[tuple[float, int, KafkaDelivery]] = []
        self._serial = count()
        self._woken = asyncio.Event()
        self._trouble: EdowError | None = None
        self._readers = [Reader(plan, self) for plan in plans]

    async def settle(self, seconds: float) -> None:
        """Until each reader has had partitions; at most for this long. Raises InvalidInput for what will never work."""
        deadline = self._loop.time() + seconds
        while not all(reader.settled for reader in self._readers) and self._loop.time() < deadline:
            await self._wait(deadline)
            if self._trouble is not None:
                raise self._trouble

    async def receive(self, limit: int, wait_seconds: float) -> list[Delivery]:
        """See the contract."""
        if self.is_closed:
            raise Closed("this subscriber is closed: subscribe again")
        deadline = self._loop.time() + wait_seconds
        while not self.is_closed:
            now = self._loop.time()
            due = self._bring_back(now)
            if taken := self._hand_out(limit, now):
                return [*taken]
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
            each.partition.done(each)
            if each.partition.leaving:
                self._wake_readers()
        self._woken.set()  # what waited behind them may be ready

    async def nack(self, deliveries: Sequence[Delivery], delay_seconds: float = 0.0) -> None:
        """See the contract."""
        self._give_back(self._ours(deliveries), self._loop.time() + delay_seconds)

    async def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """See the contract."""
        if self._lease_seconds is None:
            return []
        until = self._loop.time() + self._lease_seconds
        kept = self._ours(deliveries)
        for each in kept:
            self._leases.pop(each, None)
            self._leases[each] = until
        held = set[Delivery](kept)
        return [each for each in deliveries if each not in held]

    async def close(self) -> None:
        """See the contract."""
        if not self.is_closed:
            self.is_closed = True
            self._woken.set()
            await asyncio.gather(*(reader.close() for reader in self._readers))

    def progress(self) -> Iterator[tuple[str, Place, Progress]]:
        """How far it is, by group and partition: newer than what the brokers were told."""
        for reader in self._readers:
            if reader.plan.tracked and not self.is_closed:
                for place, partition in reader.partitions.items():
                    yield reader.plan.group, place, partition.progress()

    # -- Hub --

    def room(self) -> int:
        """See `edow.transport.kafka.reader.Hub`."""
        return self._prefetch - sum(len(partition.ready) for partition in self._partitions())

    def wake(self) -> None:
        """See `edow.transport.kafka.reader.Hub`."""
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

    def _partitions(self) -> list[Partition]:
        return [partition for reader in self._readers for partition in reader.partitions.values()]

    async def _wait(self, deadline: float) -> None:
        """Until something happens, or this moment has come."""
        self._woken.clear()
        try:
            async with asyncio.timeout_at(deadline):
                await self._woken.wait()
        except TimeoutError:
            pass

    def _hand_out(self, limit: int, now: float) -> list[KafkaDelivery]:
        partitions = self._partitions()
        first = next(self._serial) % max(1, len(partitions))  # each has its turn at being first
        taken = fair(partitions[first:] + partitions[:first], limit)
        if taken and self._lease_seconds is not None:
            self._leases.update(dict.fromkeys(taken, now + self._lease_seconds))
        if taken and 2 * self.room() >= self._prefetch:
            self._wake_readers()
        return taken

    def _ours(self, deliveries: Iterable[Delivery]) -> list[KafkaDelivery]:
        """Those that are in the hands they were given to."""
        return [
            each
            for each in dict.fromkeys(deliveries)
            if isinstance(each, KafkaDelivery) and not each.partition.gone and each.partition.holds(each)
        ]

    def _give_back(self, deliveries: Sequence[KafkaDelivery], due: float) -> None:
        """They come before everything that is ready, at that moment."""
        for each in deliveries:
            self._leases.pop(each, None)
            if (copy := each.partition.give_back(each)) is not None:
                heapq.heappush(self._delayed, (due, next(self._serial), copy))
        self._woken.set()

    def _bring_back(self, now: float) -> float:
        """Whatever is due: leases that have run out, delays that are over. When the next will be."""
        expired = []
        for each, until in self._leases.items():
            if until > now:
                break
            expired.append(each)
        for each in expired:
            del self._leases[each]
        self._give_back(self._ours(expired), now)
        due = []
        while self._delayed and self._delayed[0][0] <= now:
            due.append(heapq.heappop(self._delayed)[2])
        for each in reversed(due):
            if not each.partition.gone:
                each.partition.ready.appendleft(each)
        following = [*islice(self._leases.values(), 1), *(entry[0] for entry in self._delayed[:1])]
        return min(following, default=float("inf"))

    def _wake_readers(self) -> None:
        for reader in self._readers:
            reader.wake()
