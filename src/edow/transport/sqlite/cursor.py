"""Modes `exclusive` and `broadcast`: how messages are read."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from edow.sqlite import Packed, SqliteFile
from edow.transport.contract import Delivery
from edow.transport.guard import guarded
from edow.transport.numbered import SHIFT, NumberedDelivery, bounds, done
from edow.transport.reading import Reading
from edow.transport.sqlite.deliveries import acknowledge
from edow.transport.sqlite.queues import Queues, channel, to_json


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


class Cursor(Reading):
    """A subscriber of either mode. `positions`: topic by queue, and after which message to begin."""

    def __init__(
        self,
        file: SqliteFile,
        ranges: Ranges,
        positions: Mapping[int, tuple[str, int]],
        broadcast: bool,
        clock: Callable[[], int],
    ) -> None:
        super().__init__(positions, broadcast, clock, file.watch(*(channel(queue) for queue in positions)))
        self._file = file
        self._ranges = ranges

    async def _settle(self, deliveries: Sequence[NumberedDelivery]) -> None:
        await guarded(
            self._file.write(lambda connection: acknowledge(connection, self._ranges.sql, deliveries), disk="later")
        )
        done(deliveries)

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
