"""Mode `shared`: how messages are claimed.

A queue has a head: what lies beyond it nobody has looked at, so a claim reads on from there, however long the queue is.
What lies before it and is not in somebody's hands is listed by the moment at which it is to be delivered.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from edow.sqlite import Packed, SqliteFile
from edow.transport.claiming import Claim, Claiming
from edow.transport.contract import Delivery, Subscription
from edow.transport.guard import guarded
from edow.transport.numbered import SHIFT, NumberedDelivery
from edow.transport.sqlite.deliveries import acknowledge
from edow.transport.sqlite.queues import Queues, channel, to_json

Result = TypeVar("Result")

_decode = msgspec.json.Decoder(list[int]).decode

FEW = 16  # messages that are handled at once: see SqliteFile
SCANS = 8  # times that one claim reads on when all it found must wait for an earlier message of its key


class Found(NamedTuple):
    """A message that may be claimed, or (blocked) that must be passed over."""

    seq: int
    times: int
    key: str | None
    blocked: int


class Claimer:
    """The statements of `shared`, for all subscribers of a transport."""

    def __init__(self, queues: Queues) -> None:
        self.sql = sql = queues.sql
        self._due = Packed(Found, "seq, times, key, blocked", ("body",), sql["due_source"])
        self._new = Packed(Found, "seq, times, key, blocked", ("body",), sql["new_source"])

    def claim(self, connection: sqlite3.Connection, queue: int, limit: int, lease: Lease) -> Claim:
        """Take up to `limit` messages, first those that come again."""
        parameters: dict[str, object] = {"queue": queue, "now": lease.now, "limit": limit}
        taken, _ = _as_many_as_fit(self._due, connection, parameters)
        more = len(taken) == limit
        if not more:
            new, more = self._look(connection, queue, limit - len(taken))
            taken += new
        if taken:
            self._hold(connection, queue, taken, lease)
        (due,) = (None,) if more else connection.execute(self.sql["next_due"], (queue,)).fetchone()
        deliveries = [
            NumberedDelivery(lease.topic, body or b"", found.key, found.times + 1, found.seq, owner=lease.owner)
            for found, (body,) in taken
        ]
        return Claim(deliveries, more, due)

    def _hold(self, connection: sqlite3.Connection, queue: int, taken: Sequence[Taken], lease: Lease) -> None:
        seqs = to_json([found.seq for found, _ in taken])
        connection.execute(
            self.sql["claim"], {"queue": queue, "seqs": seqs, "until": lease.until, "owner": lease.owner}
        )

    def _look(self, connection: sqlite3.Connection, queue: int, limit: int) -> tuple[list[Taken], bool]:
        """Read on from the head. True: not at the end yet."""
        taken: list[Taken] = []
        for _ in range(SCANS):
            wanted = limit - len(taken)
            rows, most = _as_many_as_fit(self._new, connection, {"queue": queue, "limit": wanted})
            if rows:
                connection.execute(self.sql["head_set"], (rows[-1][0].seq - (queue << SHIFT), queue))
            taken += [row for row in rows if not row[0].blocked]
            if len(rows) < most:
                return taken, False
            if len(taken) >= limit or most < wanted:
                break
        return taken, True


Taken = tuple[Found, list[bytes | None]]


class Lease(NamedTuple):
    """Whose claim, of which topic, until when."""

    owner: int
    topic: str
    now: int
    until: int


def _as_many_as_fit(
    packed: Packed[Found], connection: sqlite3.Connection, parameters: dict[str, object]
) -> tuple[list[Taken], int]:
    """The rows, and how many there could have been: fewer than asked for when they are too many bytes together."""
    limit = parameters["limit"]
    assert isinstance(limit, int)
    while True:
        try:
            return packed.rows(connection, {**parameters, "limit": limit}), limit
        except sqlite3.DataError:
            if limit <= 1:
                raise
            limit //= 2


class SharedSubscriber(Claiming):
    """One member of a group. What it holds is given back when it closes."""

    def __init__(
        self,
        file: SqliteFile,
        claimer: Claimer,
        subscription: Subscription,
        queues: Sequence[tuple[str, int]],
        identity: tuple[int, Callable[[], int]],
    ) -> None:
        self._owner, clock = identity
        super().__init__(subscription, queues, clock, file.watch(*(channel(queue) for _, queue in queues)))
        self._file = file
        self._claimer = claimer
        self._quiet = False  # the last claim brought little

    async def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """See the contract."""
        mine = self._mine(deliveries)
        lost = [each for each in deliveries if each not in mine] if len(mine) < len(deliveries) else []
        if mine:
            gone = set(await self._write(lambda connection: self._extend(connection, mine)))
            for each in mine:
                if each.seq in gone:
                    lost.append(each)
                    self._held.pop(each.seq, None)
        return lost

    async def _settle(self, deliveries: Sequence[NumberedDelivery]) -> None:
        await self._write(
            lambda connection: acknowledge(connection, self._claimer.sql, deliveries),
            after=self._file.notify,
            small=len(deliveries) <= FEW,
        )

    def _begin_claim(self, limit: int) -> asyncio.Future[Claim]:
        now = self._clock()
        self._queues.append(self._queues.pop(0))  # each topic has its turn at being first
        queues = list(self._queues)
        return asyncio.ensure_future(
            self._write(lambda connection: self._claim_in_turn(connection, queues, limit, now), small=self._quiet)
        )

    def _claimed(self, claim: Claim) -> None:
        self._quiet = len(claim.deliveries) <= FEW

    def _claim_in_turn(
        self, connection: sqlite3.Connection, queues: Sequence[tuple[str, int]], limit: int, now: int
    ) -> Claim:
        deliveries: list[NumberedDelivery] = []
        more, due = False, None
        for topic, queue in queues:
            if len(deliveries) >= limit:
                more = True
                break
            lease = Lease(self._owner, topic, now, now + self._lease_us)
            claim = self._claimer.claim(connection, queue, limit - len(deliveries), lease)
            deliveries += claim.deliveries
            more = more or claim.more
            due = min((each for each in (due, claim.due) if each is not None), default=None)
        return Claim(deliveries, more, due)

    def _extend(self, connection: sqlite3.Connection, deliveries: Sequence[NumberedDelivery]) -> set[int]:
        """The numbers of those that are somebody else's now."""
        seqs = [each.seq for each in deliveries]
        parameters = {"seqs": to_json(seqs), "owner": self._owner, "until": self._clock() + self._lease_us}
        if connection.execute(self._claimer.sql["extend"], parameters).rowcount == len(seqs):
            return set()
        (owned,) = connection.execute(self._claimer.sql["owned"], parameters).fetchone()
        return set(seqs) - set(_decode(owned))

    async def _give_back(self, deliveries: Sequence[NumberedDelivery], until: int) -> None:
        parameters = {
            "seqs": to_json([each.seq for each in deliveries]),
            "owner": self._owner,
            "until": until,
        }
        channels = {channel(each.seq >> SHIFT) for each in deliveries}
        await self._write(
            lambda connection: connection.execute(self._claimer.sql["give_back"], parameters).rowcount,
            after=lambda _: self._file.notify(channels),
        )

    async def _has_anything(self) -> bool:
        now, sql = self._clock(), self._claimer.sql["anything"]
        queues = list(self._queues)
        rows = await guarded(
            self._file.read(
                lambda connection: [
                    connection.execute(sql, {"queue": queue, "now": now}).fetchone() for _, queue in queues
                ]
            )
        )
        self._due = min((due for _, due in rows if due is not None), default=None)
        return any(found for found, _ in rows)

    async def _write(
        self,
        function: Callable[[sqlite3.Connection], Result],
        after: Callable[[Result], None] | None = None,
        *,
        small: bool = False,
    ) -> Result:
        """Claims and acknowledgements need not wait for the disk: what is lost with it is delivered again."""
        return await guarded(self._file.write(function, disk="later", small=small, after=after))
