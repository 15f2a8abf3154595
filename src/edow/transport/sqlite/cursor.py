"""Modes `exclusive` and `broadcast`: reading on from a position kept in memory, claiming nothing.

Exclusive: a new subscriber begins with the oldest message that was not acknowledged, so nothing needs to be given
back. Broadcast: it begins behind the newest.
"""

from __future__ import annotations

import asyncio
import heapq
import sqlite3
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import NamedTuple

from edow.errors import Closed
from edow.sqlite import Packed, SqliteFile
from edow.transport.contract import Delivery
from edow.transport.sqlite.deliveries import SqliteDelivery, acknowledge
from edow.transport.sqlite.guard import guarded
from edow.transport.sqlite.queues import SHIFT, Queues, bounds, channel, to_json

POLL_SECONDS = 1.0  # safety net behind pushed wake-ups


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
        self._again = _Again()
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
                return again
            if self._watch.take() or self._more:
                if deliveries := await self._read(limit):
                    return deliveries
                if self._more:
                    continue
            left = deadline - loop.time()
            if left <= 0 or self._closed:
                break
            due = self._again.seconds(self._now())
            await self._watch.wait(min(left, POLL_SECONDS, due))
            self._more = True  # also without a wake-up: reading costs less than a message that nobody looks for
        return []

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """See the contract."""
        mine = [each for each in deliveries if isinstance(each, SqliteDelivery)]
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
            if isinstance(delivery, SqliteDelivery) and not delivery.done:
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
            delivery = SqliteDelivery(self._topics[queue], body or b"", row.key, 1, row.seq)
            if not self._again.holds_back(delivery):
                deliveries.append(delivery)
        return deliveries


class _Again:
    """What was not acknowledged and is to be delivered again, and what must stay behind it."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, SqliteDelivery]] = []
        self._first: dict[tuple[str, str], SqliteDelivery] = {}
        self._behind: dict[tuple[str, str], deque[SqliteDelivery]] = {}
        self._serial = count()

    def put(self, delivery: SqliteDelivery, due: int) -> None:
        """A later delivery of a copy, so that the one handed out before means nothing any more."""
        again = SqliteDelivery(
            delivery.topic, delivery.body, delivery.key, delivery.count + 1, delivery.token, cursor=delivery.cursor
        )
        delivery.done = True
        if delivery.key is not None:
            place = (delivery.topic, delivery.key)
            first = self._first.get(place)
            if first is not None and not first.done and first.seq < again.seq:
                self._behind.setdefault(place, deque()).append(again)
                return
            self._first[place] = again
        heapq.heappush(self._heap, (due, next(self._serial), again))

    def holds_back(self, delivery: SqliteDelivery) -> bool:
        """Whether an earlier message of its key must be acknowledged first; then it is kept here."""
        if delivery.key is None or not self._first:
            return False
        place = (delivery.topic, delivery.key)
        if place not in self._first:
            return False
        self._behind.setdefault(place, deque()).append(delivery)
        return True

    def take(self, now: int, limit: int) -> list[Delivery]:
        """What may be delivered now."""
        if not self._heap and not self._first:
            return []
        for place in [place for place, first in self._first.items() if first.done]:
            self._release(place)
        taken: list[Delivery] = []
        while self._heap and self._heap[0][0] <= now and len(taken) < limit:
            taken.append(heapq.heappop(self._heap)[2])
        return taken

    def seconds(self, now: int) -> float:
        """Until something may be delivered."""
        return max(0.0, (self._heap[0][0] - now) / 1_000_000) if self._heap else POLL_SECONDS

    def _release(self, place: tuple[str, str]) -> None:
        del self._first[place]
        waiting = self._behind.pop(place, None)
        if waiting:
            following = min(waiting, key=lambda each: each.seq)
            waiting.remove(following)
            self._first[place] = following
            if waiting:
                self._behind[place] = waiting
            heapq.heappush(self._heap, (0, next(self._serial), following))


def done(deliveries: Sequence[SqliteDelivery]) -> None:
    """They were acknowledged: what waited behind them may go on. Any thread."""
    for delivery in deliveries:
        delivery.done = True
        if delivery.cursor is not None:
            delivery.cursor.poke()
