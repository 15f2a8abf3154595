"""What reaches the orchestrator: results from the transport, commands from the inbox, moments from the clock.

Three sources fill buffers that are bounded in number and in bytes; `take` hands over whatever has arrived. Nothing here
decides or consumes: a row stays in the store and a delivery stays unacknowledged until the commit that acted on it.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Generic, TypeVar

import msgspec

from edow.errors import TransportUnavailable
from edow.model.portions import portions
from edow.orchestrator.persist import UNASKED
from edow.store.contract import InboxRow, Store
from edow.transport.contract import Delivery, Subscriber

Input = TypeVar("Input")

IDLE_POLL_SECONDS = 1.0  # longest receive
POLL_SECONDS = 3.0  # between two looks at the inbox, of which we are told: see `transport.numbered`
FIRST = 100  # inputs of a kind in the first batch, when all is to be loaded and nobody knows how much that is
SWEEP = 1000  # wake-ups that mean nothing any more are kept until there are so many


class Batch(msgspec.Struct):
    """Inputs that will be decided and committed together."""

    deliveries: list[Delivery]
    commands: list[InboxRow]
    due: list[str]

    def __bool__(self) -> bool:
        return bool(self.deliveries or self.commands or self.due)


class Buffer(Generic[Input]):
    """Inputs that wait, in their order. `size` tells the bytes of one."""

    def __init__(self, size: Callable[[Input], int], limit: int, most_bytes: int) -> None:
        self._size = size
        self._limit = limit
        self._most_bytes = most_bytes
        self._inputs: list[Input] = []
        self._bytes = 0

    def __bool__(self) -> bool:
        return bool(self._inputs)

    @property
    def full(self) -> bool:
        """Whether a batch could be filled with them."""
        return len(self._inputs) >= self._limit or self._bytes >= self._most_bytes

    def add(self, inputs: Sequence[Input]) -> int:
        """How many bytes they are."""
        self._inputs.extend(inputs)
        size = sum(map(self._size, inputs))
        self._bytes += size
        return size

    def take(self, most: int) -> list[Input]:
        """The oldest, `most` of them and as many bytes as a batch may have; one of them in any case."""
        inputs = self._inputs[:most]
        if self._bytes > self._most_bytes:
            inputs = next(portions(inputs, self._size, most, self._most_bytes))
        self._inputs = self._inputs[len(inputs) :]
        self._bytes -= sum(map(self._size, inputs))
        return inputs

    def clear(self) -> None:
        self._inputs.clear()
        self._bytes = 0


class Inputs:
    """The three sources behind one event. `limit` bounds each buffer and each batch, `most_bytes` what of either kind
    is in them, and about what a batch makes us load.
    """

    def __init__(self, store: Store, limit: int, most_bytes: int, now: Callable[[], int]) -> None:
        self._store = store
        self._limit = limit
        self._most_bytes = most_bytes
        self._most = min(limit, FIRST)  # of each kind in the next batch
        self._now = now
        self._ready = asyncio.Event()
        self._room = asyncio.Event()
        self._deliveries: Buffer[Delivery] = Buffer(lambda each: len(each.body), limit, most_bytes)
        self._commands: Buffer[InboxRow] = Buffer(lambda each: len(each.command), limit, most_bytes)
        self._taken: set[int] = set()
        self._wakes: list[tuple[int, str]] = []
        self._wake_at: dict[str, int] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._pumps: list[asyncio.Task[None]] = []

    def start(self, shards: Collection[int], subscriber: Subscriber) -> None:
        """Begin to read for these shards."""
        self._room.set()
        self._pumps = [
            asyncio.create_task(self._pump_results(subscriber), name="edow-results"),
            asyncio.create_task(self._pump_inbox(tuple(shards)), name="edow-inbox"),
        ]

    async def stop(self) -> None:
        """Forget everything read and not consumed; it will be read again by whoever comes next."""
        pumps, self._pumps = self._pumps, []
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        self.clear()

    def clear(self) -> None:
        """Forget all of it."""
        self._deliveries.clear()
        self._commands.clear()
        self._taken.clear()
        self._wakes.clear()
        self._wake_at.clear()
        self._most = min(self._limit, FIRST)
        self._ready.clear()
        if self._alarm is not None:
            self._alarm.cancel()

    @property
    def failed(self) -> BaseException | None:
        """Why a pump has stopped, if one has."""
        for pump in self._pumps:
            if pump.done():
                return TransportUnavailable(UNASKED) if pump.cancelled() else pump.exception()
        return None

    async def take(self, wait_seconds: float) -> Batch:
        """Whatever has arrived, at once; else the first arrivals within `wait_seconds`."""
        if not self._ready.is_set():
            try:
                async with asyncio.timeout(wait_seconds):
                    await self._ready.wait()
            except TimeoutError:
                pass
        self._ready.clear()
        most = self._most
        deliveries, commands, due = self._deliveries.take(most), self._commands.take(most), self._take_due(most)
        if self._deliveries or self._commands:
            self._ready.set()
        self._room.set()
        return Batch(deliveries, commands, due)

    def loaded(self, executions: int, size: int) -> None:
        """A batch about so many executions made us load `size` bytes of their histories. How large a history is, nobody
        knows before; so the next batch is smaller after one that was too much, and soon as large as ever.
        """
        if size > self._most_bytes:
            self._most = max(1, executions * self._most_bytes // size)
        elif 2 * size <= self._most_bytes:
            self._most = min(2 * self._most, self._limit)

    def consumed(self, seqs: Iterable[int]) -> None:
        """These inbox rows are gone from the store."""
        self._taken.difference_update(seqs)

    def wake(self, wakes: Iterable[tuple[int, str]]) -> None:
        """Look at each execution at its time; the earliest request for an execution counts."""
        known = self._wake_at
        for at, execution in wakes:
            if known.get(execution, at + 1) > at:
                known[execution] = at
                heapq.heappush(self._wakes, (at, execution))
        if len(self._wakes) > 2 * len(known) + SWEEP:
            self._wakes = [wake for wake in self._wakes if known.get(wake[1]) == wake[0]]
            heapq.heapify(self._wakes)
        self._arm()

    def knows(self, execution: str) -> bool:
        """Whether a wake-up for it is in memory already."""
        return execution in self._wake_at

    def forget(self, executions: Iterable[str]) -> None:
        """They have ended; nobody needs to look at them again."""
        for execution in executions:
            self._wake_at.pop(execution, None)

    def _take_due(self, most: int) -> list[str]:
        now = self._now()
        due: list[str] = []
        while self._wakes and self._wakes[0][0] <= now and len(due) < most:
            at, execution = heapq.heappop(self._wakes)
            if self._wake_at.get(execution) == at:
                del self._wake_at[execution]
                due.append(execution)
        self._arm()
        return due

    def _arm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._wakes:
            delay = max(0, self._wakes[0][0] - self._now()) / 1_000_000
            self._alarm = asyncio.get_running_loop().call_later(delay, self._ready.set)

    async def _pump_results(self, subscriber: Subscriber) -> None:
        while True:
            deliveries = await subscriber.receive(self._limit, IDLE_POLL_SECONDS)
            if deliveries:
                self._deliveries.add(deliveries)
                self._ready.set()
                await self._wait_for_room()

    async def _pump_inbox(self, shards: tuple[int, ...]) -> None:
        watch = self._store.watch("inbox")
        try:
            while True:
                rows = await self._store.inbox_read(shards, self._taken, self._limit, self._most_bytes)
                size = self._commands.add(rows)
                if rows:
                    self._taken.update(row.seq for row in rows)
                    self._ready.set()
                    await self._wait_for_room()
                if len(rows) < self._limit and size < self._most_bytes:  # what is committed from here on is told
                    await watch.wait(POLL_SECONDS)
        finally:
            watch.close()

    async def _wait_for_room(self) -> None:
        """Reading on pauses while a full batch is waiting to be decided."""
        while self._deliveries.full or self._commands.full:
            self._room.clear()
            await self._room.wait()
