"""Modes `exclusive` and `broadcast`: reading on from a position kept in memory, claiming nothing.

Exclusive: a new subscriber begins with the oldest message that was not acknowledged, so nothing needs to be given
back. Broadcast: it begins behind the newest.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from edow.errors import Closed
from edow.sqlite import Packed, SqliteFile
from edow.transport.again import Again
from edow.transport.contract import Delivery
from edow.transport.numbered import POLL_SECONDS, NumberedDelivery, done
from edow.transport.sqlite.deliveries import acknowledge
from edow.transport.sqlite.guard import guarded
from edow.transport.sqlite.queues import SHIFT, Queues, bounds, channel, to_json


class Row(NamedTuple):
    """A message's scalars."""

    seq: int
    key: str | None


class Ranges:
    """The statement of both modes, for all subscribers of a transport."""

    def __init__(self, queues: Queues) -> None:
        self.sql: Mapping[str, str] = queues.sql
        self._packed = Packed(Row, "seq, key", ("body",), queues.sql["ranges_source"])

    def read(
        self, connection: sqlite3.Connection, ranges: Sequence[tuple[int, int]], limit: int
    ) -> list[tuple[Row, list[bytes | None]]]:
        """Messages in the ranges, in order; fewer than `limit` when they are too many bytes together."""
        while True:
            try:
                return self._packed.rows(connection, {"ranges": to_json(ranges), "limit": limit})
            except sqlite3.DataError:
                if limit <= 1:
                    raise
                limit //= 2


class Cursor:
    """A subscriber of either mode. `positions`: topic by queue, and after which message to begin."""

    def __init__(
        self,
        file: SqliteFile,
        ranges: Ranges,
        positions: Mapping[int, tuple[str, int]],
        broadcast: bool,
        now: Callable[[], int],
    ) -> None:
        self._file = file
        self._ranges = ranges
        self._topics = {queue: topic for queue, (topic, _) in positions.items()}
        self._after = {queue: after for queue, (_, after) in positions.items()}
        self._broadcast = broadcast
        self._now = now
        self._watch = file.watch(*(channel(queue) for queue in positions))
        self._more = True
        self._again = Again[NumberedDelivery]()
        self._closed = False

    async def receive(self, limit: int, wait_seconds: float) -> list[Delivery]:
        """See the contract."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_seconds
        if self._closed:
            raise Closed("this subscriber is closed: subscribe again")
        while not self._closed:
            again = self._again.take(self._now(), limit)
            if again:
                return [*again]
            if self._watch.take() or self._more:
                if deliveries := await self._read(limit):
                    return deliveries
                if self._more:
                    continue
            left = deadline - loop.time()
            if left <= 0 or self._closed:
                break
            due = self._again.due
            delay = POLL_SECONDS if due is None else max(0.0, due - self._now()) / 1_000_000
            await self._watch.wait(min(left, POLL_SECONDS, delay))
            self._more = True  # also without a wake-up: reading costs less than a message that nobody looks for
        return []

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """See the contract."""
        mine = [each for each in deliveries if isinstance(each, NumberedDelivery)]
        if self._broadcast or not mine:
            return
        await guarded(
            self._file.write(lambda connection: acknowledge(connection, self._ranges.sql, mine), disk="later")
        )
        done(mine)

    async def nack(self, deliveries: Sequence[Delivery], delay_seconds: float = 0.0) -> None:
        """See the contract."""
        if self._broadcast or self._closed:
            return
        due = self._now() + int(delay_seconds * 1_000_000)
        for delivery in deliveries:
            if isinstance(delivery, NumberedDelivery) and not delivery.done:
                delivery.cursor = self
                self._again.put(delivery, due)
        self._watch.poke()

    async def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Nothing expires here."""
        return []

    @property
    def is_closed(self) -> bool:
        return self._closed

    async def close(self) -> None:
        """See the contract."""
        self._closed = True
        self._watch.close()

    def poke(self) -> None:
        """A message that others wait behind was acknowledged. Any thread."""
        self._watch.poke()

    async def _read(self, limit: int) -> list[Delivery]:
        self._more = False
        ranges = [(after, bounds(queue)[1]) for queue, after in self._after.items()]
        try:
            rows = await guarded(
                self._file.read(lambda connection: self._ranges.read(connection, ranges, limit), brief=True)
            )
        except BaseException:
            self._more = True
            raise
        if self._closed:
            return []
        if rows:
            self._more = True
            first = next(iter(self._after))  # each topic has its turn at being first
            self._after[first] = self._after.pop(first)
        deliveries: list[Delivery] = []
        for row, (body,) in rows:
            queue = row.seq >> SHIFT
            self._after[queue] = row.seq
            delivery = NumberedDelivery(self._topics[queue], body or b"", row.key, 1, row.seq)
            if not self._again.holds_back(delivery):
                deliveries.append(delivery)
        return deliveries
