"""The commit cycle: take a batch, decide, ONE transaction, publish, acknowledge. While one batch commits, the next is
decided.

What is in memory may be one commit ahead of the store. If that commit turns out to be impossible (a lease was lost),
all that is in memory is forgotten and read again: the store is the truth.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import chain

import msgspec

from edow.errors import TransportUnavailable, Unavailable
from edow.kpi.meter import Meter
from edow.model import inbox, wire
from edow.model.execution import ENDED, Execution
from edow.model.failure import fingerprint
from edow.orchestrator.decider import TICK, Decider, Room, Work
from edow.orchestrator.draft import Draft, Farewell
from edow.orchestrator.edges import Edges
from edow.orchestrator.inputs import Batch, Inputs
from edow.orchestrator.measure import measure
from edow.orchestrator.mind import Mind
from edow.orchestrator.outgoing import Outgoing
from edow.orchestrator.persist import UNASKED, Persistence, unasked
from edow.orchestrator.stats import Stats
from edow.orchestrator.traces import Traces
from edow.store.contract import Commit, DeadLetter, InboxRow, Put, Stored
from edow.transport.contract import Delivery, Subscriber

log = logging.getLogger("edow.orchestrator")

OUTBOX_PAGE = 1000  # messages published at once after a takeover

RENEWING = frozenset({inbox.Start, inbox.Resume})  # commands after which a machine may have to be loaded afresh
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # what decoding foreign bytes may raise


class Sorted(msgspec.Struct):
    """A batch by execution, plus what could not be read."""

    work: Work
    renewed: list[str]  # executions told to start or to resume
    replaced: list[tuple[str, int]]  # and the runs that were replaced
    poison: list[DeadLetter]


class Cycle:
    """One orchestrator's heart. `leases` is read at each commit: shard -> epoch."""

    def __init__(self, edges: Edges, decider: Decider, mind: Mind, inputs: Inputs, patience: float) -> None:
        """`patience`: seconds after which what cannot be published is left to the outbox."""
        self._store, transport, self._now, self._joined = edges
        self._decider = decider
        self._mind = mind
        self._inputs = inputs
        self._committing: asyncio.Task[None] | None = None
        self._ended: list[str] = []  # committed, still in memory
        self._touched: Sequence[str] = ()  # what is decided about them may not be committed yet
        self._published: list[int] = []  # outbox numbers that the broker has; told with the next commit
        self.leases: Mapping[int, int] = {}
        self.subscriber: Subscriber | None = None
        self.traces: Traces | None = None
        self.room = Room(20_000, 256 * 1024 * 1024)
        self.stats = Stats()
        self.meter = Meter()
        self.on_end: Callable[[Execution], Sequence[Put]] | None = None  # of a run that ends: what is committed with it
        self._persist = Persistence(self.stats)
        self._outgoing = Outgoing(self._store, transport, self.stats, patience)

    async def run_once(self, wait_seconds: float) -> bool:
        """Take what has arrived within the wait and see it decided; True if there was anything."""
        batch = await self._inputs.take(wait_seconds)
        if not batch:
            await self._idle()
            return False
        sorted_ = self._sort(batch)
        draft = await self._decide(sorted_)
        draft.dead_letters.extend(sorted_.poison)
        await self.settle()
        self._outgoing.unsuspect(chain(_heard_of(sorted_.work), draft.cancels))  # also what that commit has suspected
        self._touched = draft.touched
        self._committing = asyncio.create_task(self._commit(draft, batch), name="edow-commit")
        return True

    async def settle(self) -> None:
        """Wait until the commit under way is done; raises what it raised. Whoever is cancelled here has not waited."""
        committing = self._committing
        if committing is not None:
            try:
                await asyncio.shield(committing)
            except asyncio.CancelledError:
                if committing.cancelled() and unasked():
                    raise TransportUnavailable(UNASKED) from None
                raise
            finally:
                if committing.done():
                    self._committing = None

    async def abandon(self, leaving: bool = False) -> None:
        """Let the commit under way end, however it ends; then forget everything in memory.

        A commit of which nobody knows whether it was applied is tried until somebody does, for it might be applied
        after all was read again. Only whoever is leaving need not care: his successor has another epoch.
        """
        giving_up = (self._outgoing, self._persist) if leaving else (self._outgoing,)
        for each in giving_up:
            each.give_up()
        try:
            await self.settle()
        except Unavailable as problem:
            log.warning("not finished: %s", problem)
        finally:
            for each in giving_up:
                each.resume()
        await self._mind.call(self._decider.forget)
        self._outgoing.forget_topics()
        self._outgoing.forget_suspects()
        self._published.clear()
        self._ended.clear()

    async def reaches_broker(self, seconds: float) -> bool:
        """Whether messages get through, within so many seconds. Where the store carries them that is its matter."""
        return self._joined or await self._outgoing.reaches_broker(seconds, self._now())

    async def find_lost(self) -> None:
        """For ever: look for attempts that nobody has answered."""
        await self._outgoing.look()

    async def republish(self, shards: Collection[int]) -> None:
        """Publish what the shards' last owner committed and may not have published."""
        while rows := await self._store.outbox_read(shards, OUTBOX_PAGE):
            await self._outgoing.publish([row.message for row in rows])
            await self._store_commit(Commit(leases=self.leases, outbox_done=[row.seq for row in rows]))

    async def _idle(self) -> None:
        await self.settle()
        if self._ended or self._decider.exceeds(self.room):
            await self._mind.call(self._decider.settle, self._take_ended([]), self.room, [])
        if self._published:
            await self._store_commit(Commit(leases=self.leases, outbox_done=self._take_published()))

    def _sort(self, batch: Batch) -> Sorted:
        found = Sorted({}, [], [], [])
        self._sort_commands(batch.commands, found)
        self._sort_results(batch.deliveries, found)
        work = found.work
        for execution in batch.due:
            work.setdefault(execution, []).append(TICK)
        self.stats.inputs += len(batch.commands) + len(batch.deliveries) + len(batch.due)
        return found

    def _sort_commands(self, rows: list[InboxRow], found: Sorted) -> None:
        work = found.work
        for row in rows:
            try:
                command = inbox.decode(row.command)
            except UNREADABLE as problem:
                found.poison.append(self._poison(row.command, f"inbox of {row.execution}", str(problem)))
                continue
            inputs = work.setdefault(row.execution, [])
            if type(command) in RENEWING:
                found.renewed.append(row.execution)
                if isinstance(command, inbox.Start) and command.run > 1 and not command.continued:
                    found.replaced.append((row.execution, command.run - 1))
                    inputs.clear()  # all of it was meant for the run that was replaced
            inputs.append(command)

    def _sort_results(self, deliveries: list[Delivery], found: Sorted) -> None:
        work, decode = found.work, wire.decode_result
        for delivery in deliveries:
            try:
                result = decode(delivery.body)
                ours = result.type == wire.RESULT_TYPE and result.specversion == wire.SPEC_VERSION
                if ours and "\0" not in result.executionid:  # with one, a store would refuse it or take it for another
                    work.setdefault(result.executionid, []).append(result)
                    continue
                reason = f"not a result event: no execution has the id {result.executionid!r}"
            except UNREADABLE as problem:
                reason = f"not a result event: {problem}"
            reason = wire.foreign(delivery.body, wire.RESULT_TYPE) or reason
            found.poison.append(self._poison(delivery.body, delivery.topic, reason))

    def _poison(self, body: bytes, where: str, reason: str) -> DeadLetter:
        self.stats.poison += 1
        return poison_letter(body, where, reason, self._now())

    async def _decide(self, inputs: Sorted) -> Draft:
        decider = self._decider
        farewells = await self._refresh(inputs)
        cold = decider.cold(inputs.work)
        stored = await self._load(cold) if cold else []
        self._inputs.loaded(len(inputs.work), sum(each.size for each in stored))
        pinned = {*inputs.work, *self._touched}
        return await self._mind.call(self._think, (self._take_ended(pinned), pinned), inputs.work, stored, farewells)

    def _think(
        self, ended: tuple[list[str], Collection[str]], work: Work, stored: list[Stored], farewells: list[Farewell]
    ) -> Draft:
        """On the engine thread: forget what may be forgotten, then decide. Going there takes longer than either."""
        self._decider.settle(ended[0], self.room, ended[1])
        return self._decider.decide(work, stored, self._now(), farewells)

    async def _load(self, cold: list[str]) -> list[Stored]:
        """Of executions in our shards only: a commit would not be checked against the leases of any other."""
        stored = await self._store.load(cold)
        ours = [each for each in stored if each.execution.shard in self.leases]
        if len(ours) < len(stored):
            log.warning("dropped what came for %d executions in shards of others", len(stored) - len(ours))
        return ours

    async def _refresh(self, inputs: Sorted) -> list[Farewell]:
        """Machines to be loaded afresh must first see their own last commit in the store."""
        farewells: list[Farewell] = []
        if self._decider.must_refresh(inputs.work, inputs.renewed):
            await self.settle()
            farewells += await self._mind.call(self._decider.refresh, inputs.work, inputs.renewed, self._now())
        said = {(each.row.id, each.row.run) for each in farewells}
        for execution, run in inputs.replaced:
            if (execution, run) not in said and (segments := await self._store.history_get(execution, run)):
                farewells.append(await self._mind.call(self._decider.farewell, execution, run, segments, self._now()))
        return farewells

    def _take_ended(self, pinned: Collection[str]) -> list[str]:
        """What has ended and is committed, but for those pinned, which stay for the next time."""
        ended, self._ended = self._ended, [each for each in self._ended if each in pinned]
        return [each for each in ended if each not in pinned]

    async def _commit(self, draft: Draft, batch: Batch) -> None:
        commit = Commit(
            leases=self.leases,
            appends=draft.appends,
            updates=draft.updates,
            children=draft.children,
            commands=draft.commands,
            inbox_done=[row.seq for row in batch.commands],
            messages=draft.messages,
            outbox_done=self._take_published(),
            acks=batch.deliveries if self._joined else (),
            dead_letters=draft.dead_letters,
            letters_closed=draft.letters_closed,
            heartbeats=draft.heartbeats,
            records=self._told(draft) if draft.ended and self.on_end is not None else (),
        )
        if draft.messages and self._joined:  # else when they are published: one that cannot be made stops no others
            await self._outgoing.ensure(draft.topics)
        began = self._now()
        numbers = await self._store_commit(commit)
        took = self._now() - began
        try:
            await self._carry_out(draft, batch, numbers)
        finally:  # what is committed has happened, whether or not it could be published
            measure(self.meter, draft, batch, took)

    def _told(self, draft: Draft) -> list[Put]:
        assert self.on_end is not None
        ended = [update.execution for update in draft.updates if update.execution.status in ENDED]
        return [put for row in ended for put in self.on_end(row)]

    async def _carry_out(self, draft: Draft, batch: Batch, numbers: list[int]) -> None:
        """Of what is committed."""
        self._inputs.consumed([row.seq for row in batch.commands])
        self._inputs.wake(draft.wakes)
        self._inputs.forget(draft.ended)
        if not self._joined:
            await self._publish(draft, batch, numbers)
        if draft.traced and self.traces is not None:
            self.traces.committed(draft.traced, draft.now, self._now())
        if draft.suspects:
            self._outgoing.suspect(draft.suspects, draft.now)
        self._ended.extend(draft.ended)
        self._count(draft)

    async def _publish(self, draft: Draft, batch: Batch, numbers: list[int]) -> None:
        """Everything here may happen twice: after a crash the outbox is published again, and workers' results are
        deduplicated.
        """
        if draft.messages:
            await self._outgoing.publish(draft.messages)
            self._published.extend(numbers)
        if batch.deliveries and self.subscriber is not None:
            await self.subscriber.ack(batch.deliveries)

    async def _store_commit(self, commit: Commit) -> list[int]:
        numbers: list[int] = []

        async def attempt() -> None:
            nonlocal numbers
            numbers = await self._store.commit(commit)

        await self._persist("commit", attempt)
        return numbers

    def _take_published(self) -> list[int]:
        published, self._published = self._published, []
        return published

    def _count(self, draft: Draft) -> None:
        stats = self.stats
        stats.commits += 1
        stats.duplicates += draft.duplicates
        stats.messages += len(draft.messages)
        stats.ended += len(draft.ended)
        for execution, notice in draft.notices:
            log.warning("execution %s: %s", execution, notice, extra={"execution": execution})


def _heard_of(work: Work) -> Iterator[str]:
    """Keys of steps of which a worker has said something."""
    for execution, inputs in work.items():
        for each in inputs:
            if isinstance(each, wire.ResultEvent):
                yield f"{execution}/{each.run}/{each.step}"


def poison_letter(body: bytes, topic: str, reason: str, now: int) -> DeadLetter:
    """A dead letter for bytes that belong to no execution."""
    topic = topic.replace("\0", "�")  # it may come from anybody, and not every store keeps that
    encoded = base64.b64encode(body[:65_536]).decode()
    failure = {
        "type": "edow.Poison",
        "message": f"{topic}: {reason}",
        "kind": "poison",
        "retryable": False,
    }
    step = f"{topic}@{now}:{blake2b(body, digest_size=6).hexdigest()}"
    return DeadLetter(
        id=f"poison/{step}",
        execution="",
        run=0,
        step=step,
        task="",
        args=msgspec.Raw(msgspec.json.encode({"base64": encoded, "bytes": len(body)})),
        failure=msgspec.Raw(msgspec.json.encode(failure)),
        at=now,
        fingerprint=fingerprint(topic, "edow.Poison", reason),
    )
