"""What leaves for the transport: messages to topics that are made when they are first needed.

A message that the transport refuses for good must not stop those behind it: its execution is told instead. An attempt
whose message the transport has lost is published again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Sequence
from functools import partial

import msgspec

from edow.engine import steps
from edow.errors import InvalidInput, PublishFailed, Unavailable
from edow.model import topics, wire
from edow.model.failure import Failure
from edow.model.message import Message
from edow.model.times import rfc3339
from edow.orchestrator.persist import Persistence
from edow.orchestrator.stats import Stats
from edow.store.contract import Store
from edow.transport.contract import GroupStats, TopicSpec, TopicStats, Transport

log = logging.getLogger("edow.orchestrator")

MOST_SUSPECT_BYTES = 32 * 1024 * 1024  # of attempts that wait to be looked for; those beyond are suspected again


class Suspect(msgspec.Struct, frozen=True):
    """An attempt that nobody has answered for long, and when it was published."""

    id: str  # its step's: execution/run/step
    message: Message
    published_at: int


class Outgoing:
    """The publishing side of a commit cycle. What it raises TransportUnavailable for is in the outbox."""

    def __init__(self, store: Store, transport: Transport, stats: Stats, patience: float) -> None:
        self._store = store
        self._transport = transport
        self._persist = Persistence(stats, patience)
        self._stats = stats
        self.give_up, self.resume = self._persist.give_up, self._persist.resume
        self._topics: set[str] = set()  # known to exist
        self._suspects: dict[str, Suspect] = {}  # by step, also while they are being looked for
        self._suspected = asyncio.Event()
        self._suspected_at = 0

    async def ensure(self, names: Collection[str]) -> None:
        """Code may name task topics that no loaded module has declared."""
        missing = [TopicSpec(name, topics.groups_of(name)) for name in names if name not in self._topics]
        if missing:
            await self._persist("topics", partial(self._transport.ensure, missing))
            self._topics.update(spec.name for spec in missing)

    def forget_topics(self) -> None:
        """Somebody may have deleted one, or a failover has lost it."""
        self._topics.clear()

    def forget_suspects(self) -> None:
        """Their shards may be with somebody else."""
        self._suspects.clear()

    def unsuspect(self, ids: Iterable[str]) -> None:
        """A worker was heard of, or nobody waits any more: from now on they are not published again."""
        if self._suspects:
            for each in ids:
                self._suspects.pop(each, None)

    async def publish(self, messages: Sequence[Message]) -> None:
        """All of them, in order; executions are told of those that the transport does not take."""
        left = [*messages]
        try:
            await self._send(left)
        except InvalidInput:
            self.forget_topics()
            await self._send_or_refuse(left)

    async def _send(self, left: list[Message]) -> None:
        """Those that the broker has leave the list."""
        await self.ensure({message.topic for message in left})
        await self._persist("publish", partial(self._publish, left))

    async def _publish(self, left: list[Message]) -> None:
        try:
            await self._transport.publish(left)
        except PublishFailed as problem:
            if problem.indexes:
                left[:] = [left[index] for index in problem.indexes]
            raise

    async def _send_or_refuse(self, messages: list[Message]) -> None:
        try:
            await self._send(messages)
        except InvalidInput as problem:
            if len(messages) == 1:
                await self._refused(messages[0], problem)
                return
            middle = len(messages) // 2
            await self._send_or_refuse(messages[:middle])
            await self._send_or_refuse(messages[middle:])

    async def reaches_broker(self, seconds: float, now: int) -> bool:
        """Whether the broker takes a message within so many seconds: one that calls nothing off."""
        try:
            async with asyncio.timeout(seconds):
                await self._transport.publish([calling_off([], rfc3339(now))])
        except (Unavailable, TimeoutError) as problem:
            log.warning("the broker cannot be reached: %r", problem)
            return False
        except InvalidInput as problem:
            log.warning("the broker answers, if only this: %s", problem)  # topics are made again before the next read
        return True

    def suspect(self, suspects: Sequence[Suspect], now: int) -> None:
        """These are to be looked for, unless they are already."""
        used = sum(len(each.message.body) for each in self._suspects.values())
        for count, each in enumerate(suspects):
            if used > MOST_SUSPECT_BYTES:
                log.warning("%d unanswered attempts are not looked into; they will be again", len(suspects) - count)
                break
            known = self._suspects.get(each.id)
            if known is None or known.published_at < each.published_at:  # else it is the same attempt
                self._suspects[each.id] = each
                used += len(each.message.body)
        self._suspected_at = now
        self._suspected.set()

    async def look(self) -> None:
        """For ever, beside the commits, which must not wait for a broker that is slow to tell what it has."""
        while True:
            await self._suspected.wait()
            self._suspected.clear()
            suspects = [*self._suspects.values()]
            try:
                if suspects:
                    await self.find_lost(suspects, self._suspected_at)
            finally:
                for each in filter(self._is_suspect, suspects):
                    del self._suspects[each.id]

    async def find_lost(self, suspects: Sequence[Suspect], now: int) -> None:
        """Publish those again that the transport does not have any more; the others wait for their turn there. Which
        of them still matter is known once it has told what it has, for that may take long.
        """
        names = {suspect.message.topic for suspect in suspects}
        try:
            await self.ensure(names)
            lag: dict[str, GroupStats | None] = {}
            if self._transport.features.lag:  # a count that is only about right must not decide
                lag = {stats.topic: _workers(stats) for stats in await self._transport.describe(sorted(names))}
            left = filter(self._is_suspect, suspects)
            lost = [each.message for each in left if _is_lost(each, lag.get(each.message.topic), now)]
            if lost:
                log.warning("publishing %d task events again that the transport has lost", len(lost))
                await self.publish(lost)
                self._stats.republished += len(lost)
                await self._store.count_healed(len(lost))
        except (Unavailable, InvalidInput) as problem:
            self.forget_topics()
            log.warning("unanswered attempts were not looked into: %s; they will be again", problem)

    def _is_suspect(self, suspect: Suspect) -> bool:
        """Still, and not another attempt of its step, nor the same after its shard went and came back."""
        return self._suspects.get(suspect.id) is suspect

    async def _refused(self, message: Message, problem: InvalidInput) -> None:
        log.error("a message to %s was refused: %s", message.topic, problem)
        answer = _answer(message, problem)
        try:
            await self._send([answer] if answer is not None else [])
        except InvalidInput as worse:
            log.error("nor can its execution be told: %s", worse)


def calling_off(keys: list[str], time: str) -> Message:
    """Tells all workers that nobody waits for these steps any more."""
    event = wire.CancelEvent(
        id=f"cancel/{keys[0] if keys else time}",
        source=wire.ORCHESTRATOR,
        type=wire.CANCEL_TYPE,
        specversion=wire.SPEC_VERSION,
        time=time,
        data=keys,
    )
    return Message(topics.CONTROL, wire.encode(event))


def _workers(stats: TopicStats) -> GroupStats | None:
    return next((group for group in stats.groups if group.group == topics.WORKERS), None)


def _is_lost(suspect: Suspect, group: GroupStats | None, now: int) -> bool:
    """Nothing as old is left. It was decided upon a little before it was published. Where the broker does not tell, it
    is held to be lost after so long that it hardly waits in a queue, and then whenever it has become twice as old; a
    worker that runs it would have said so. At every look would be too much: where so many wait that they wait for
    longer than that, more would be published again than is done, and nothing would ever be.
    """
    if group is not None and not group.left:
        return True
    if group is None or group.oldest_at is None:
        looks = (now - suspect.published_at) // steps.LAST_LOOK
        return looks.bit_count() == 1
    return group.oldest_at > suspect.published_at + steps.FIRST_LOOK // 2


def _answer(message: Message, problem: InvalidInput) -> Message | None:
    """What a worker would have said of a task event that could not reach it."""
    try:
        task = wire.decode_task(message.body)
    except msgspec.DecodeError:
        return None
    failure = Failure(
        type="edow.errors.InvalidInput",
        message=f"the task event of step {task.step!r} cannot be published: {problem}",
        retryable=False,
    )
    event = wire.ResultEvent(
        id=f"{task.id}/refused",
        source=wire.ORCHESTRATOR,
        type=wire.RESULT_TYPE,
        specversion=wire.SPEC_VERSION,
        subject=task.subject,
        time=task.time,
        executionid=task.executionid,
        run=task.run,
        step=task.step,
        attempt=task.attempt,
        outcome="failed",
        final=True,
        data=msgspec.Raw(msgspec.json.encode(failure)),
    )
    return Message(task.replytopic, wire.encode(event))
