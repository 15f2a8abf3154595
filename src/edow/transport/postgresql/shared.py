"""Mode `shared`: how messages are claimed.

A queue has a head: what lies beyond it nobody has looked at, so a claim reads on from there, however long the queue is.
What lies before it and is not in somebody's hands is listed by the moment at which it is to be delivered.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence

from edow.errors import Unavailable
from edow.postgresql import Database
from edow.transport.claiming import Claim, Claiming
from edow.transport.contract import Delivery, Subscription
from edow.transport.guard import guarded
from edow.transport.numbered import SHIFT, NumberedDelivery
from edow.transport.postgresql.queues import channel

CLAIM_BYTES = 32 * 1024 * 1024  # at most in one claim, or one message
PATIENCE = (0.001, 0.05)  # seconds: first and longest; see `_be_patient`

CLAIM = "SELECT * FROM edow.claim($1, $2, $3, $4, $5, $6)"
LOOK = "SELECT bool_or(anything), min(due) FROM edow.look($1, $2)"
GIVE_BACK = "SELECT edow.give_back($1, $2, $3)"
EXTEND = "SELECT * FROM edow.extend($1, $2, $3)"

Acknowledge = Callable[[Sequence[NumberedDelivery]], Awaitable[None]]


class SharedSubscriber(Claiming):
    """One member of a group. What it holds is given back when it closes."""

    def __init__(
        self,
        database: Database,
        subscription: Subscription,
        queues: Sequence[tuple[str, int]],
        owner: int,
        acknowledge: Acknowledge,
    ) -> None:
        watch = database.watch(*(channel(queue) for _, queue in queues))
        super().__init__(subscription, queues, database.clock, watch)
        self._database = database
        self._owner = owner
        self._acknowledge = acknowledge
        self._hurried = False  # here by a notification, and no claim since
        self._patience = 0.0

    async def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """See the contract."""
        mine = self._mine(deliveries)
        if not mine:
            return list(deliveries)
        seqs = sorted(each.seq for each in mine)
        until = self._clock() + self._lease_us
        ours = {seq for (seq,) in await guarded(self._database.write(EXTEND, seqs, self._owner, until))}
        for seq in seqs:
            if seq not in ours:
                self._held.pop(seq, None)
        kept = {id(each) for each in mine if each.seq in ours}
        return [each for each in deliveries if id(each) not in kept]

    async def _settle(self, deliveries: Sequence[NumberedDelivery]) -> None:
        await self._acknowledge(deliveries)

    async def _woken(self, left: float) -> None:
        self._hurried = True
        if self._patience:
            await asyncio.sleep(min(left, random.uniform(0, self._patience)))

    def _begin_claim(self, limit: int) -> asyncio.Future[Claim]:
        return asyncio.ensure_future(self._claim_in_turn(limit))

    def _claimed(self, claim: Claim) -> None:
        self._be_patient(self._hurried and not claim.deliveries)
        self._hurried = False

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
        now = self._clock()
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

    async def _has_anything(self) -> bool:
        queues = [queue for _, queue in self._queues]
        ((found, due),) = await guarded(self._database.fetch(LOOK, queues, self._clock()))
        self._due = due
        return bool(found)
