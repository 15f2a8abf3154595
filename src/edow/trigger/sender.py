"""The loop of outgoing webhooks, in every orchestrator's process: knows the endpoints, and sends what is due."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from edow.background import LONG_SECONDS, SHORT_SECONDS, Background
from edow.errors import InvalidInput, NotFound, RecordChanged, Unavailable
from edow.model.execution import Execution
from edow.store.contract import Commit, Put, Record, RecordFilter, Store
from edow.trigger import given_up, outgoing, references, signatures
from edow.trigger.addresses import Network
from edow.trigger.outgoing import DUE, ENDPOINTS, MESSAGES, OUTGOING, Endpoint, Sending
from edow.trigger.post import Posted, post
from edow.trigger.tally import Tally
from edow.trigger.watching import on_records

log = logging.getLogger("edow.trigger")

PAGE = 200
PAGES = 5  # looked at together, if nothing of them can be sent now; the next look goes on behind them
AT_ONCE = 32  # sent at the same time,
FOR_ONE = 8  # and to one endpoint whose last attempt did not take long;
FOR_SLOW = 16  # to others one at a time, and to all of those together so many
SLOW_SECONDS = 5.0
RESTS = (1.0, 60.0)  # of an endpoint that does not answer: first and longest
MOST = 1000


class Rest(NamedTuple):
    """Of an endpoint: no attempt before then, in microseconds; and how long that was."""

    seconds: float = 0.0
    until: int = 0


class Sender:
    """Start and stop are idempotent. To be started before the orchestrator whose ends it writes down."""

    def __init__(self, store: Store, clock: Callable[[], int], process: str, allowed: Sequence[Network] = ()) -> None:
        """`allowed`: networks that webhooks may be sent to beside the internet."""
        self._store = store
        self._clock = clock
        self._allowed = tuple(allowed)
        self._endpoints: dict[str, Endpoint] = {}
        self._sending: dict[str, asyncio.Task[None]] = {}
        self._busy: Counter[str] = Counter()
        self._quick: set[str] = set()  # endpoints whose last attempt did not take long,
        self._slow: dict[str, Rest] = {}  # or did; the others have not been tried
        self._behind: str | None = None  # what is due goes on there: before it is more than could be sent
        self._background = Background(("edow-endpoints", self._look_forever), ("edow-webhooks", self._send_forever))
        self.tally = Tally(store, clock, "endpoints", process)

    def ended(self, row: Execution) -> list[Put]:
        """What belongs into the commit of this end."""
        try:
            return outgoing.of_end(row, list(self._endpoints.values()), self._clock())
        except Exception:  # whatever it is, the end itself must be stored
            log.exception("execution %s: its end is told to no endpoint", row.id)
            return []

    def announced(self, type: str, data: object, id: str) -> list[Put]:
        """What tells every endpoint: a part of the transaction of whatever it tells of."""
        return [put for name in self._endpoints for put in outgoing.message(name, type, data, self._clock(), id)]

    async def start(self) -> None:
        """Read the endpoints, then begin. Raises Unavailable."""
        await self.look_once()
        self._background.start()
        await self.tally.start()

    async def stop(self) -> None:
        """What is being sent is given up; it is sent again later."""
        await self._background.stop()
        for task in self._sending.values():
            task.cancel()
        await asyncio.gather(*self._sending.values(), return_exceptions=True)
        await self.tally.stop()

    async def look_once(self) -> int:
        """Read the endpoints; how many there are."""
        records = await self._store.records_list(RecordFilter(OUTGOING, ENDPOINTS, limit=MOST))
        found = [msgspec.json.decode(record.body, type=Endpoint) for record in records]
        self._endpoints = {endpoint.name: endpoint for endpoint in found}
        self._quick &= set(self._endpoints)
        self._slow = {name: rest for name, rest in self._slow.items() if name in self._endpoints}
        return len(found)

    async def send_once(self) -> float:
        """Begin to send what is due, as much as may be sent at once; the seconds until there may be more."""
        for _ in range(PAGES):
            now = self._clock()
            records = await self._store.records_list(RecordFilter(OUTGOING, DUE, self._behind, limit=PAGE))
            due = [record for record in records if _time_of(record) <= now]
            under_way = len(self._sending)
            await self._begin_all(due)
            if len(due) < PAGE:
                again, self._behind = self._behind is not None, None
                later = [(_time_of(record) - now) / 1_000_000 for record in records if _time_of(record) > now]
                return 0.0 if again else min([SHORT_SECONDS if due else LONG_SECONDS, *later])
            if len(self._sending) >= AT_ONCE:
                break
            self._behind = due[-1].key
            if len(self._sending) > under_way:
                break
        return SHORT_SECONDS

    async def _begin_all(self, due: Sequence[Record]) -> None:
        messages = await self._store.records_get(OUTGOING, [MESSAGES + _id_of(record) for record in due])
        for index, record in zip(due, messages, strict=True):
            if len(self._sending) >= AT_ONCE:
                return
            await self._begin(index, record)

    async def settle(self) -> None:
        """Until what is being sent has been answered."""
        while self._sending:
            await asyncio.wait(list(self._sending.values()))

    async def _begin(self, index: Record, record: Record | None) -> None:
        sending = msgspec.json.decode(record.body, type=Sending) if record else None
        old = Put(OUTGOING, index.key, None, index.version)
        try:
            if sending is None or record is None or sending.index != index.key:
                await self._store.records_put([old], self._clock())
                return
            following = outgoing.next_attempt(sending, self._clock())
            if following is not None and not self._has_room(sending.endpoint):
                return
            if sending.endpoint not in self._endpoints:  # it may have been made a moment ago
                await self.look_once()
            if following is None or sending.endpoint not in self._endpoints:
                why = "its endpoint was deleted" if following is not None else "it was not taken for days"
                await self._give_up(sending, why, [old, Put(OUTGOING, record.key, None, record.version)])
                return
            body = Put(OUTGOING, record.key, msgspec.json.encode(following), record.version)
            await self._store.records_put([old, body, Put(OUTGOING, following.index, b"", 0)], self._clock())
        except RecordChanged:
            return  # another process sends it
        self._busy[sending.endpoint] += 1
        task = asyncio.create_task(self._send(following), name=f"edow-webhook-{sending.id}")
        self._sending[sending.id] = task
        task.add_done_callback(lambda _: self._finished(sending))

    def _has_room(self, endpoint: str) -> bool:
        """Those that hold a place until the time is up take turns, and leave some for the others."""
        if endpoint in self._quick:
            return self._busy[endpoint] < FOR_ONE
        if endpoint in self._slow:
            slow = sum(count for name, count in self._busy.items() if name in self._slow)
            if slow >= FOR_SLOW or self._slow[endpoint].until > self._clock():
                return False
        return not self._busy[endpoint]

    def _learn(self, endpoint: str, posted: Posted) -> None:
        """A refusal at once holds up nobody; one that answers late is not kept waiting, either."""
        rest = self._slow.pop(endpoint, Rest())
        self._quick.discard(endpoint)
        if posted.seconds < SLOW_SECONDS:
            self._quick.add(endpoint)
        else:
            first, longest = RESTS
            seconds = 0.0 if posted.status else min(max(first, 2 * rest.seconds), longest)
            self._slow[endpoint] = Rest(seconds, self._clock() + round(seconds * 1_000_000))

    def _finished(self, sending: Sending) -> None:
        self._sending.pop(sending.id, None)
        self._busy[sending.endpoint] -= 1
        self._busy += Counter()  # only those that are

    async def _send(self, sending: Sending) -> None:
        """`sending` as it is after this attempt."""
        endpoint = self._endpoints[sending.endpoint]
        try:
            keys = _keys(endpoint, self._clock())
        except (NotFound, InvalidInput) as problem:
            log.error("endpoint %s: %s", endpoint.name, problem)
            self.tally.add(endpoint.name, "failed_attempt", detail=f"{sending.type}: no secret could be read")
            return
        headers = outgoing.headers(sending, keys, self._clock() // 1_000_000)
        posted = await post(endpoint.url, headers, bytes(sending.body), self._allowed)
        self._learn(endpoint.name, posted)
        try:
            await self._settle(sending, posted)
        except Unavailable as problem:  # it is sent again, under the same id
            log.warning("endpoint %s: what became of %s was not written: %s", endpoint.name, sending.id, problem)

    async def _settle(self, sending: Sending, posted: Posted) -> None:
        gone = [Put(OUTGOING, sending.key, None), Put(OUTGOING, sending.index, None)]
        if posted.delivered:
            await self._store.records_put(gone, self._clock())
            self.tally.add(sending.endpoint, "delivered", detail=sending.type)
            return
        self.tally.add(
            sending.endpoint, "failed_attempt", detail=f"{sending.type}: {posted.problem or posted.status}"[:200]
        )
        log.warning("endpoint %s: attempt %d: %s", sending.endpoint, sending.attempts, posted.problem)
        if posted.hopeless:
            await self._give_up(sending, "the receiver wants nothing more (410)", gone)
        elif posted.retry_after and (at := self._clock() + posted.retry_after * 1_000_000) > sending.due_at:
            later = msgspec.structs.replace(sending, due_at=at)
            await self._store.records_put([gone[1], *later.puts()], self._clock())

    async def _give_up(self, sending: Sending, why: str, gone: Sequence[Put]) -> None:
        """What is to be sent becomes a letter, in one transaction."""
        letter = given_up.letter_of(sending, why, self._clock())
        await self._store.commit(Commit(leases={}, dead_letters=[letter], records=gone))
        self.tally.add(sending.endpoint, "dead_letter", detail=f"{sending.type}: {why}")

    async def _look_forever(self) -> None:
        await on_records(self._store, self.look_once, "endpoints were not looked at", lambda _: LONG_SECONDS)

    async def _send_forever(self) -> None:
        await on_records(self._store, self._send_some, "webhooks were not sent", lambda seconds: max(seconds, 0.05))

    async def _send_some(self) -> float:
        """What is answered makes room for the next at once."""
        seconds = await self.send_once()
        if not self._sending:
            return seconds
        seconds = min(seconds, SHORT_SECONDS)
        await asyncio.wait(list(self._sending.values()), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return 0.0


def _keys(endpoint: Endpoint, now: int) -> list[bytes]:
    """Of its secrets and of those that retire, as far as these are still there. Raises NotFound, InvalidInput."""
    keys = [signatures.standard_key(references.read(secret)) for secret in endpoint.secrets]
    for each in endpoint.retiring:
        if each.until > now:
            try:
                keys.append(signatures.standard_key(references.read(each.secret)))
            except (NotFound, InvalidInput) as problem:
                log.warning("endpoint %s: signed without the old secret: %s", endpoint.name, problem)
    return keys


def _time_of(index: Record) -> int:
    return int(index.key.split("/", 2)[1])


def _id_of(index: Record) -> str:
    return index.key.split("/", 2)[2]
