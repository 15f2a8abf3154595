"""Debounce and batch: several events, one execution. What has come so far is a record, which outlives every process.

For each trigger and execution id there is one record with the events, and one in the index, under the time at which
they are due. Each event's claim is written together with both; the start is written together with the deletion of both.
All are written in the version that was read, so of all processes one adds, and one starts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import msgspec

from edow.background import LONG_SECONDS
from edow.errors import InvalidInput, RecordChanged, StoreUnavailable, Unavailable
from edow.model.execution import Execution
from edow.store.contract import LETTER, Put, Record, RecordFilter, Request, Store
from edow.store.starting import start_of
from edow.trigger.action import ALONE, EVENTS, TRIES, Beside, Claim, Outcome, Plan, Result, digest
from edow.trigger.events import TRIGGERS, Compiled, Event, Trigger
from edow.trigger.poison import SOURCE, Buried, bury
from edow.trigger.tally import Tally
from edow.workflow.naming import MAX_ID, execution_id

log = logging.getLogger("edow.trigger")

PENDING = "pending/"
DUE = "due/"
PAGE = 100
MOST_BYTES = 1024 * 1024  # of the events of one batch: then it is full
SUFFIX = 9  # characters that an execution's id gets beside the key


class Pending(msgspec.Struct, frozen=True):
    """Events that wait. `number`: how many have come; of a debounce only the last is kept."""

    trigger: str
    key: str  # the execution's id without its suffix
    first_at: int
    due_at: int
    number: int
    suffix: str  # from the first event, so that the id is decided with it
    trace: str
    events: list[msgspec.Raw]

    @property
    def record(self) -> str:
        return f"{PENDING}{self.trigger}/{digest(self.key)}"

    @property
    def index(self) -> str:
        return f"{DUE}{self.due_at:020d}/{self.trigger}/{digest(self.key)}"


class Gatherer:
    """Of one process; what it knows is in the store."""

    def __init__(self, store: Store, clock: Callable[[], int], tally: Tally) -> None:
        self._store = store
        self._clock = clock
        self._tally = tally

    async def add(self, compiled: Compiled, events: Sequence[Event], key: str, beside: Beside = ALONE) -> list[Outcome]:
        """Events of one key, in order; what became of each: kept until it is due, or known before.

        Raises InvalidInput for an id that is too long, before anything is written, and RecordChanged if somebody else
        has acted on the letter beside them. Of duplicates alone nothing is written.
        """
        execution_id(key, limit=MAX_ID - SUFFIX)
        for _ in range(TRIES):
            try:
                return await self._add(compiled, events, key, beside)
            except RecordChanged as problem:
                if problem.kind == LETTER:
                    raise
                continue  # another process has added, started, or applied one of the events
        raise StoreUnavailable(f"trigger {compiled.trigger.name!r}: too many others gather for {key!r}; try again")

    async def fire_once(self) -> float:
        """Start what is due; the seconds until something will be, at most LONG_SECONDS. Raises Unavailable."""
        after: str | None = None
        while True:
            now = self._clock()
            records = await self._store.records_list(RecordFilter(EVENTS, DUE, after, limit=PAGE))
            due = [record for record in records if _time_of(record) <= now]
            for record in due:
                await self._try_to_fire(record)
            if len(due) < PAGE:
                later = [_time_of(record) - now for record in records if _time_of(record) > now]
                return min([LONG_SECONDS, *(each / 1_000_000 for each in later)])
            after = due[-1].key

    async def _try_to_fire(self, index: Record) -> None:
        """One that this release cannot read, or that has an error, must not hold up the others."""
        try:
            await self._fire(index)
        except Unavailable:
            raise
        except Exception:
            log.exception("what was gathered under %s was not started; trying again", index.key)

    async def _add(self, compiled: Compiled, events: Sequence[Event], key: str, beside: Beside) -> list[Outcome]:
        now = self._clock()
        claims = [compiled.claim(event, now) for event in events]
        known = await self._store.records_get(EVENTS, [claim.key for claim in claims])
        first = {claim.key: at for at, claim in reversed(list(enumerate(claims)))}
        fresh = [at for at, claim in enumerate(claims) if known[at] is None and first[claim.key] == at]
        outcomes: list[Outcome] = ["gathered" if at in fresh else "duplicate" for at in range(len(events))]
        if not fresh:
            return outcomes
        record_key = f"{PENDING}{compiled.trigger.name}/{digest(key)}"
        [record] = await self._store.records_get(EVENTS, [record_key])
        old = msgspec.json.decode(record.body, type=Pending) if record else None
        puts = [_claimed(claims[at], key) for at in fresh]
        requests: list[Request] = []
        pending = old
        for at in fresh:
            joined = _joined(compiled.trigger, pending, events[at], key, now)
            pending = joined
            if compiled.trigger.batch and _full(compiled.trigger, joined):
                try:
                    requests.append(self._request(compiled.plan, joined))
                    pending = None
                except InvalidInput:  # it becomes a dead letter when it is due, which is now
                    pending = msgspec.structs.replace(joined, due_at=now)
        puts += _moved(old, record.version if record else 0, pending)
        await self._store.records_put([*puts, *beside.puts], now, requests, beside.closed("gathered"))
        for _ in requests:
            self._tally.add(compiled.trigger.name, "fired")
        return outcomes

    async def _fire(self, index: Record) -> None:
        pending_key = PENDING + index.key.split("/", 2)[2]
        name = index.key.split("/")[2]
        [record] = await self._store.records_get(EVENTS, [pending_key])
        [definition] = await self._store.records_get(TRIGGERS, [name])
        pending = msgspec.json.decode(record.body, type=Pending) if record else None
        try:
            if pending is None or record is None or pending.index != index.key:
                await self._drop([Put(EVENTS, index.key, None, index.version)])
                return
            puts = [Put(EVENTS, index.key, None, index.version), Put(EVENTS, record.key, None, record.version)]
            if definition is None:
                await self._poison(pending, "its trigger was deleted", puts)
                return
            plan = Compiled(msgspec.json.decode(definition.body, type=Trigger)).plan
            try:
                request = self._request(plan, pending)
            except InvalidInput as problem:
                await self._poison(pending, str(problem), puts)
                return
            await self._store.records_put(puts, self._clock(), [request])
            self._tally.add(name, "fired")
        except RecordChanged:
            pass  # another process was quicker, or an event has come: then it is due later

    async def _poison(self, pending: Pending, reason: str, puts: Sequence[Put]) -> None:
        """The letter first: if this process dies before the rest, the same letter is written again."""
        body = msgspec.json.encode(pending.events)
        what = Buried(f"{SOURCE}{pending.trigger}", f"trigger {pending.trigger}, {pending.key}", body)
        await bury(self._store, what, reason, self._clock())
        await self._drop(puts)
        self._tally.add(pending.trigger, "poison")

    async def _drop(self, puts: Sequence[Put]) -> None:
        await self._store.records_put(puts, self._clock())

    def _request(self, plan: Plan, pending: Pending) -> Request:
        """Raises InvalidInput, PayloadTooLarge."""
        contexts = [msgspec.json.decode(event) for event in pending.events]
        context = contexts[-1] | {"events": contexts, "key": pending.key, "count": pending.number}
        execution = f"{pending.key}.{pending.suffix}"
        intent = plan.intent(context, execution, pending.trace)
        row = Execution(
            id=execution,
            workflow=plan.action.workflow,
            shard=0,
            input=intent.input or msgspec.Raw(b"{}"),
            trace=pending.trace,
        )
        return start_of(row, (self._store.shards, self._clock()))


def _joined(trigger: Trigger, old: Pending | None, event: Event, key: str, now: int) -> Pending:
    """With one more event."""
    one = msgspec.Raw(msgspec.json.encode(event.context))
    first_at = old.first_at if old else now
    if trigger.debounce:
        longest = trigger.max_wait or 10 * trigger.debounce
        due_at = min(now + round(trigger.debounce * 1_000_000), first_at + round(longest * 1_000_000))
        events = [one]
    else:
        due_at = first_at + round(trigger.batch_wait * 1_000_000)
        events = [*old.events, one] if old else [one]
    return Pending(
        trigger=trigger.name,
        key=key,
        first_at=first_at,
        due_at=due_at,
        number=old.number + 1 if old else 1,
        suffix=old.suffix if old else digest(event.id, str(now))[: SUFFIX - 1],
        trace=old.trace if old else event.trace,
        events=events,
    )


def _full(trigger: Trigger, pending: Pending) -> bool:
    return pending.number >= trigger.batch or sum(map(len, map(bytes, pending.events))) >= MOST_BYTES


def _moved(old: Pending | None, version: int, new: Pending | None) -> list[Put]:
    """What writes the new state in place of the old, if that is still as it was read."""
    either = new or old
    if either is None:
        return []
    body = msgspec.json.encode(new) if new else None
    puts = [Put(EVENTS, either.record, body, version)] if new or old else []
    if old is not None and (new is None or new.index != old.index):
        puts.append(Put(EVENTS, old.index, None))
    if new is not None and (old is None or new.index != old.index):
        puts.append(Put(EVENTS, new.index, b""))
    return puts


def _claimed(claim: Claim, key: str) -> Put:
    return Put(claim.kind, claim.key, msgspec.json.encode(Result("gathered", key)), 0, claim.expires_at, quiet=True)


def _time_of(index: Record) -> int:
    return int(index.key.split("/", 2)[1])
