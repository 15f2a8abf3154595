"""Mode `shared`: members of a group compete for messages by claiming them for the length of a lease.

A queue has a head: what lies beyond it nobody has looked at, so a claim reads on from there, however long the queue is.
What lies before it and is not in somebody's hands is listed by the moment at which it is to be delivered.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from edow.errors import Closed, Unavailable
from edow.postgresql import Database
from edow.transport.contract import Delivery, Subscription
from edow.transport.numbered import POLL_SECONDS, NumberedDelivery
from edow.transport.postgresql.guard import guarded
from edow.transport.postgresql.queues import SHIFT, channel

CLAIM_BYTES = 32 * 1024 * 1024  # at most in one claim, or one message
PATIENCE = (0.001, 0.05)  # seconds: first and longest; see `_be_patient`

CLAIM = "SELECT * FROM edow.claim($1, $2, $3, $4, $5, $6)"
LOOK = "SELECT bool_or(anything), min(due) FROM edow.look($1, $2)"
GIVE_BACK = "SELECT edow.give_back($1, $2, $3)"
EXTEND = "SELECT * FROM edow.extend($1, $2, $3)"

Acknowledge = Callable[[Sequence[NumberedDelivery]], Awaitable[None]]


class Claim(NamedTuple):
    """What one claim brought. `more`: there may be more at once; `due`: when something may be, else."""

    deliveries: list[NumberedDelivery]
    more: bool
    due: int | None


class SharedSubscriber:
    """One member of a group. What it holds is given back when it closes."""

    def __init__(
        self,
        database: Database,
        subscription: Subscription,
        queues: Sequence[tuple[str, int]],
        owner: int,
        acknowledge: Acknowledge,
    ) -> None:
        self._database = database
        self._queues = list(queues)
        self._owner = owner
        self._acknowledge = acknowledge
        self._lease_us = int(subscription.lease_seconds * 1_000_000)
        self._watch = database.watch(*(channel(queue) for _, queue in queues))
        self._held: dict[int, NumberedDelivery] = {}
        self._claiming: asyncio.Future[Claim] | None = None
        self._ready: list[NumberedDelivery] = []  # claimed, not handed out yet
        self._more = True
        self._woken = False  # by a notification, and no claim since
        self._patience = 0.0
        self._due: int | None = None
        self._closed = False

    async def receive(self, limit: int, wait_seconds: float) -> list[Delivery]:
        """See the contract."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_seconds
        if self._closed:
            raise Closed("this subscriber is closed: subscribe again")
        unsure = False  # a wait has ended without a notification
        while not self._closed:
            if self._wants_claim() or ((unsure or self._is_due()) and await self._has_anything()):
                await self._claim(limit)
            if self._ready and not self._closed:
                return self._take_ready(limit)
            if self._more:
                continue
            left = deadline - loop.time()
            if left <= 0 or self._closed:
                break
            self._more = self._woken = await self._watch.wait(min(left, self._seconds_to_due(), POLL_SECONDS))
            unsure = not self._more
            if self._more and self._patience:
                await asyncio.sleep(min(left, random.uniform(0, self._patience)))
        return []

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """See the contract."""
        mine = self._let_go(deliveries)
        if mine:
            await self._acknowledge(mine)

    async def nack(self, deliveries: Sequence[Delivery], delay_seconds: float = 0.0) -> None:
        """See the contract."""
        mine = self._let_go(deliveries)
        if mine:
            until = self._database.clock() + int(delay_seconds * 1_000_000) if delay_seconds > 0 else 0
            await self._give_back(mine, until)

    async def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """See the contract."""
        held = self._held
        mine = [each for each in deliveries if isinstance(each, NumberedDelivery) and held.get(each.seq) is each]
        if not mine:
            return list(deliveries)
        seqs = sorted(each.seq for each in mine)
        until = self._database.clock() + self._lease_us
        ours = {seq for (seq,) in await guarded(self._database.write(EXTEND, seqs, self._owner, until))}
        for seq in seqs:
            if seq not in ours:
                held.pop(seq, None)
        kept = {id(each) for each in mine if each.seq in ours}
        return [each for each in deliveries if id(each) not in kept]

    @property
    def is_closed(self) -> bool:
        return self._closed

    async def close(self) -> None:
        """See the contract."""
        if self._closed:
            return
        self._closed = True
        self._watch.close()
        if self._claiming is not None:
            await asyncio.wait([self._claiming])
            try:
                self._finish_claim()
            except Unavailable:
                pass  # then it has brought nothing
        held, self._held = list(self._held.values()), {}
        if held:
            await self._give_back(held, 0)

    def _wants_claim(self) -> bool:
        if self._claiming is not None or self._ready:
            return not self._ready
        return self._watch.take() or self._more

    def _take_ready(self, limit: int) -> list[Delivery]:
        ready: list[Delivery] = [*self._ready[:limit]]
        del self._ready[:limit]
        return ready

    async def _claim(self, limit: int) -> None:
        """A claim goes on when its receiver is cancelled; what it brings is for the next, or is given back."""
        if self._claiming is None:
            self._more = False
            self._claiming = asyncio.ensure_future(self._claim_in_turn(limit))
        await asyncio.wait([self._claiming])
        if not self._closed:  # else `close` gives back what it brings
            self._finish_claim()

    def _finish_claim(self) -> None:
        claiming, self._claiming = self._claiming, None
        if claiming is None:
            return
        try:
            claim = claiming.result()
        except BaseException:
            self._more = True
            raise
        self._more = self._more or claim.more
        self._due = claim.due
        self._ready += claim.deliveries
        self._held.update((each.seq, each) for each in claim.deliveries)
        self._be_patient(self._woken and not claim.deliveries)
        self._woken = False

    def _be_patient(self, in_vain: bool) -> None:
        """Every member is woken for every message. Whoever was not quick enough leaves the next to others for a moment,
        so that many idle members do not keep the server busy.
        """
        shortest, longest = PATIENCE
        if in_vain:
            self._patience = min(max(2 * self._patience, shortest), longest)
        elif self._ready:
            self._patience = 0.0

    async def _claim_in_turn(self, limit: int) -> Claim:
        """A transaction for each queue, because each holds a lock."""
        if len(self._queues) > 1 and not await self._has_anything():
            return Claim([], False, self._due)
        self._queues.append(self._queues.pop(0))  # each topic has its turn at being first
        deliveries: list[NumberedDelivery] = []
        more, dues = False, []
        for topic, queue in list(self._queues):
            if len(deliveries) >= limit:
                more = True
                break
            found, again, due = await self._claim_one(topic, queue, limit - len(deliveries), bool(deliveries))
            deliveries += found
            more = more or again
            dues += [due] if due is not None else []
        return Claim(deliveries, more, min(dues, default=None))

    async def _claim_one(self, topic: str, queue: int, limit: int, keep: bool) -> Claim:
        """`keep`: there is something in our hands already, which must not be lost for the trouble with this one."""
        now = self._database.clock()
        until = now + self._lease_us
        try:
            rows = await guarded(self._database.write(CLAIM, queue, limit, CLAIM_BYTES, self._owner, now, until))
        except Unavailable:
            if not keep:
                raise
            return Claim([], True, None)
        last = rows.pop()
        deliveries = [
            NumberedDelivery(
                topic, body, key.decode() if key is not None else None, times, seq, owner=self._owner, at=at
            )
            for seq, at, times, key, body, _ in rows
        ]
        deliveries.sort(key=lambda each: each.seq)
        return Claim(deliveries, bool(last[2]), last[5])

    async def _give_back(self, deliveries: Sequence[NumberedDelivery], until: int) -> None:
        seqs = sorted(each.seq for each in deliveries)
        await guarded(self._database.write(GIVE_BACK, seqs, self._owner, until))
        self._database.notify({channel(seq >> SHIFT) for seq in seqs})

    def _let_go(self, deliveries: Sequence[Delivery]) -> list[NumberedDelivery]:
        """Those that are in our hands still; they no longer are."""
        held, mine = self._held, []
        for each in deliveries:
            if isinstance(each, NumberedDelivery) and held.get(each.seq) is each:
                del held[each.seq]
                mine.append(each)
        return mine

    async def _has_anything(self) -> bool:
        """Look without claiming, which keeps nobody waiting; also when to look again."""
        queues = [queue for _, queue in self._queues]
        ((found, due),) = await guarded(self._database.fetch(LOOK, queues, self._database.clock()))
        self._due = due
        return bool(found)

    def _is_due(self) -> bool:
        return self._due is not None and self._due <= self._database.clock()

    def _seconds_to_due(self) -> float:
        return POLL_SECONDS if self._due is None else max(0.001, (self._due - self._database.clock()) / 1_000_000)
