"""A worker: receives task events, has them run, answers with result events. Everything here runs on the caller's loop.

It promises that nothing is acknowledged before its answer is with the broker, and that a stop finishes or hands back
what was begun. It keeps nothing of its own: whatever it forgets by dying is delivered again to another worker.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial

import msgspec

from edow.background import kept
from edow.errors import Closed, EdowError, Unavailable
from edow.model import topics, wire
from edow.model.times import rfc3339
from edow.telemetry.spans import Span
from edow.transport.contract import Delivery, Subscriber, Subscription, TopicSpec, Transport
from edow.worker.attempt import Attempt
from edow.worker.attempt import Lane as AnyLane
from edow.worker.config import WorkerConfig
from edow.worker.floor import Floor
from edow.worker.intake import Intake, Patience
from edow.worker.lane import PAUSE_SECONDS, Lane
from edow.worker.mailbox import Mailbox
from edow.worker.processes import ProcessRunner
from edow.worker.publisher import Answered, Publisher
from edow.worker.reports import Reporter
from edow.worker.runner import Kind, Runner
from edow.worker.task_loop import AsyncRunner
from edow.worker.threads import ThreadRunner
from edow.worker.traces import AttemptTraces
from edow.workflow.registry import Registry

KINDS: tuple[Kind, ...] = ("async", "thread", "process")
CLOSE_SECONDS = 1.0  # for threads and processes to end, once their tasks have
FLUSH_SECONDS = 5.0  # for the last answers to reach the broker
MOST_TOLD = 50  # attempts, in answer to a roll call
CLOCKS_APART_US = 5_000_000  # that other machines' clocks may be ahead of ours, or behind

log = logging.getLogger("edow.worker")


def now_us() -> int:
    return time.time_ns() // 1_000


def _task(loop: Callable[[], Coroutine[None, None, None]], name: str) -> asyncio.Task[None]:
    return asyncio.create_task(kept(loop, name), name=name)


class WorkerStats(msgspec.Struct, frozen=True):
    """A snapshot. `zombies`: threads and task loops that were left behind, still stuck."""

    running: int
    waiting: int
    unpublished: int
    received: int
    ended: int
    published: int
    zombies: int


class Worker:
    """`start` and `stop` are idempotent; a stopped worker can be started again."""

    def __init__(
        self,
        transport: Transport,
        registry: Registry,
        config: WorkerConfig | None = None,
        clock: Callable[[], int] = now_us,
        emit: Callable[[Sequence[Span]], None] | None = None,
    ) -> None:
        """`emit` gets the spans of attempts that are traced."""
        self.config = config or WorkerConfig()
        self._transport = transport
        self._tasks = dict(registry.tasks)
        self._clock = clock
        self._emit = emit
        self._lanes: list[Lane] = []
        self._control: Subscriber | None = None
        self._loops: list[asyncio.Task[None]] = []
        self._receiving: list[asyncio.Task[None]] = []
        self._runners: dict[Kind, Runner] = {}
        self._idle = asyncio.Event()
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        self._stopping: asyncio.Task[None] | None = None
        self._started = False
        self._started_at = 0
        self._called = False  # somebody wants to know who is there
        self._left = False

    # ── start ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        if self._started:
            return
        self._started = True
        self._started_at = self._clock()
        self._hurry.clear()
        self._called = self._left = False
        try:
            await self._start()
        except BaseException:
            self._started = False
            await self._close()
            raise
        log.info("worker %s takes tasks from %s", self.config.name, ", ".join(sorted(self._topics())) or "no topic")

    async def _start(self) -> None:
        lanes = self._topics_by_kinds()
        await self._ensure([topic for names in lanes.values() for topic in names])
        self._build()
        for kinds, names in lanes.items():
            subscriber = await self._transport.subscribe(self._subscription(tuple(names)))
            self._lanes.append(Lane(subscriber, kinds, self._floor, self.config, partial(self._ensure, names)))
        if self._transport.features.broadcast:
            subscription = Subscription(topics=(topics.CONTROL,), group="", mode="broadcast", member=self.config.name)
            self._control = await self._transport.subscribe(subscription)
            self._floor.hears_since = rfc3339(self._clock() + CLOCKS_APART_US)
        for runner in self._runners.values():
            runner.start()
        self._receiving = [_task(lane.run, "edow-receive") for lane in self._lanes]
        self._loops = [
            *self._receiving,
            _task(self._publisher.run, "edow-publish"),
            _task(self._tick_loop, "edow-ticks"),
            _task(self._renew_loop, "edow-leases"),
        ]
        if self._control is not None:
            self._loops.append(_task(partial(self._control_loop, self._control), "edow-control"))

    def _build(self) -> None:
        config, loop = self.config, asyncio.get_running_loop()
        ended = Mailbox[Attempt](loop, self._returned)
        self._runners = {
            "async": AsyncRunner(config, ended),
            "thread": ThreadRunner(config, ended),
            "process": ProcessRunner(config, ended, self._tasks.values()),
        }
        features = self._transport.features
        emit, name = self._emit, config.name
        traces = None if emit is None else AttemptTraces(emit, features.name, name, config.group)
        self._reporter = Reporter(name, self._clock, features.max_message_bytes, traces)
        self._publisher = Publisher(self._transport, self._acknowledge, config.batch)
        patience = Patience(round(config.unknown_task_patience_seconds * 1_000_000))
        intake = Intake(self._tasks, config.max_deliveries, patience)
        self._floor = Floor(config, intake, self._runners, self._reporter, self._publisher, self._clock)
        beats = Mailbox[Attempt](loop, self._floor.pulse.beats)
        self._floor.on_beat = lambda attempt: beats.put((attempt,))
        self._floor.on_room = self._room
        self._floor.on_begin = self._wake.set

    def _topics(self) -> dict[str, set[Kind]]:
        """Every topic to read, with the kinds of the tasks that are expected there."""
        found: dict[str, set[Kind]] = {topics.task_topic(name): set() for name in self.config.topics}
        for task in self._tasks.values():
            topic = topics.task_topic(task.policy.topic)
            if not self.config.topics or topic in found:
                found.setdefault(topic, set()).add(task.kind)
        return found

    def _topics_by_kinds(self) -> dict[tuple[Kind, ...], list[str]]:
        """A lane for each. A topic that no task here declares may bring any of them (`with_options(topic=...)`)."""
        lanes: dict[tuple[Kind, ...], list[str]] = {}
        for topic, kinds in sorted(self._topics().items()):
            lanes.setdefault(tuple(kind for kind in KINDS if kind in kinds) or KINDS, []).append(topic)
        return lanes

    async def _ensure(self, names: Sequence[str]) -> None:
        specs = [TopicSpec(name, (self.config.group,)) for name in names]
        specs.append(TopicSpec(topics.DEAD, (topics.ORCHESTRATORS,)))
        if self._transport.features.broadcast:
            specs.append(TopicSpec(topics.CONTROL, ()))
        await self._transport.ensure(specs)

    def _subscription(self, names: tuple[str, ...]) -> Subscription:
        config = self.config
        return Subscription(topics=names, group=config.group, member=config.name, lease_seconds=config.lease_seconds)

    # ── loops ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _tick_loop(self) -> None:
        """Timeouts, heartbeats and the watch over the task loop; rests while nothing runs."""
        while True:
            if self._floor.busy:
                try:
                    self._floor.tick()
                except Exception:
                    log.exception("keeping the time of attempts failed in an unexpected way")
                await asyncio.sleep(self.config.tick_seconds)
            else:
                self._wake.clear()
                await self._wake.wait()

    async def _renew_loop(self) -> None:
        """Every third of a lease, for whatever has not been renewed since a sixth of one."""
        lease = self.config.lease_seconds
        while self._transport.features.lease_extension:
            await asyncio.sleep(lease / 3)
            try:
                await self.renew_once(lease / 6)
            except Closed:
                return
            except Exception:
                log.exception("renewing leases failed in an unexpected way")

    async def renew_once(self, age_seconds: float) -> None:
        """Renew the leases of what was received or renewed longer ago than this."""
        before = time.monotonic() - age_seconds
        for lane in self._lanes:  # one after the other, and each looks what is held by then
            due = [held for held in self._floor.held if held.renewed_at <= before and held.deliveries]
            if mine := [held for held in due if held.lane is lane]:
                await lane.renew(mine)

    async def _control_loop(self, subscriber: Subscriber) -> None:
        while True:
            try:
                if self._listen(await subscriber.receive(self.config.batch, 30.0)):
                    await self._answer_the_roll()
            except Closed:
                return
            except Unavailable as error:
                log.warning("cannot hear of cancellations, next try in %.1f s: %s", PAUSE_SECONDS, error)
                await asyncio.sleep(PAUSE_SECONDS)
            except Exception:
                log.exception("hearing of cancellations failed in an unexpected way")
                await asyncio.sleep(PAUSE_SECONDS)

    def _listen(self, deliveries: Sequence[Delivery]) -> bool:
        """Whether somebody calls the roll."""
        called = False
        for delivery in deliveries:
            try:
                event = wire.decode_cancel(delivery.body)
            except (msgspec.MsgspecError, ValueError) as error:
                log.error("ignored bytes on topic %s that are no cancellation: %s", delivery.topic, error)
                continue
            if event.type == wire.CANCEL_TYPE:
                self._floor.cancel(event.data)
            called |= event.type == wire.ROLL_CALL_TYPE
        return called

    async def _answer_the_roll(self) -> None:
        """Whoever called may be gone by now. A broker that takes no message which nobody gets (RabbitMQ) takes it for a
        topic that we have ensured without groups, and our results do not wait behind it.
        """
        try:
            if not self._called:
                await self._transport.ensure([TopicSpec(topics.ROLL, ())])
        except EdowError as error:
            log.warning("cannot answer a roll call, perhaps the next: %s", error)
            return
        if not self._left:
            self._called = True
            self._publisher.add(self._reporter.present(self._presence()))

    def _presence(self) -> wire.Presence:
        stats = self.stats()
        return wire.Presence(
            startedat=rfc3339(self._started_at),
            topics=sorted(self._topics()),
            running=stats.running,
            waiting=stats.waiting,
            unpublished=stats.unpublished,
            ended=stats.ended,
            stuck=stats.zombies,
            busy=[
                wire.Busy(
                    executionid=attempt.event.executionid,
                    run=attempt.event.run,
                    step=attempt.event.step,
                    task=attempt.event.subject,
                    attempt=attempt.number,
                    kind=attempt.task.kind,
                    startedat=rfc3339(attempt.started_at),
                )
                for attempt in self._floor.longest(MOST_TOLD)
            ],
        )

    # ── what the parts call ───────────────────────────────────────────────────────────────────────────────────────────

    def _returned(self, attempts: Sequence[Attempt]) -> None:
        self._floor.returned(attempts)

    def _room(self) -> None:
        for lane in self._lanes:
            lane.room.set()
        if not self._floor.busy:
            self._idle.set()

    async def _acknowledge(self, answered: Sequence[Answered]) -> None:
        by_lane: dict[AnyLane, list[Delivery]] = {}
        for answer in answered:
            self._floor.forget(answer)
            by_lane.setdefault(answer.lane, []).extend(answer.deliveries)
        for lane in self._lanes:
            if deliveries := by_lane.get(lane):
                await lane.ack(deliveries)
        self._room()

    # ── stop ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def stop(self, grace_seconds: float | None = None) -> None:
        """Finish what runs within the grace, hand back the rest. Called again with a grace of 0, it stops waiting."""
        if not self._started:
            return
        grace = self.config.grace_seconds if grace_seconds is None else grace_seconds
        if grace <= 0:
            self._hurry.set()
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(grace), name="edow-stop")
        await asyncio.shield(self._stopping)

    async def _stop(self, grace: float) -> None:
        floor = self._floor
        floor.close()
        self._room()  # wakes lanes that wait for room
        handing_back = asyncio.create_task(self._return_handed_back())
        await self._until_idle(grace, hurry=True)
        if floor.busy:
            log.warning("worker %s stops with %d tasks running; they are handed back", self.config.name, floor.running)
            floor.stop_all()
            await self._until_idle(self.config.cancel_grace_seconds, hurry=False)
            floor.abandon_all()
        self._left = True
        if self._called:
            self._publisher.add(
                self._reporter.present(wire.Presence(startedat=rfc3339(self._started_at), leaving=True))
            )
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                await self._publisher.flushed()
        except TimeoutError:
            log.error("%d answers could not be published before the end; their tasks run again", len(self._publisher))
        handing_back.cancel()
        try:
            await self._close()  # gives back whatever was not acknowledged
        finally:
            self._started = False
            self._stopping = None
        log.info("worker %s has stopped", self.config.name)

    async def _until_idle(self, seconds: float, *, hurry: bool) -> None:
        """Until nothing runs, the time is over, or somebody is in a hurry."""
        waits = [asyncio.create_task(self._wait_idle())]
        if hurry:
            waits.append(asyncio.create_task(self._wait_hurry()))
        await asyncio.wait(waits, timeout=max(0.0, seconds), return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    async def _wait_idle(self) -> None:
        while self._floor.busy:
            self._idle.clear()
            await self._idle.wait()

    async def _wait_hurry(self) -> None:
        await self._hurry.wait()

    async def _return_handed_back(self) -> None:
        """What has not begun goes to another worker while others finish, once we cannot receive it again."""
        handed_back = self._floor.take_handed_back()
        if handed_back:
            await asyncio.wait(self._receiving)
        for lane in self._lanes:
            await lane.nack([delivery for held in handed_back if held.lane is lane for delivery in held.deliveries])

    async def _close(self) -> None:
        subscribers = [lane.subscriber for lane in self._lanes]
        for subscriber in (*subscribers, *([self._control] if self._control else [])):
            try:
                await subscriber.close()
            except Exception as error:  # whatever it is, everything else is to be ended all the same
                kind = type(error).__name__
                log.warning("a subscription could not be closed, its leases will run out: %s: %s", kind, error)
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        runners = list(self._runners.values())
        await asyncio.gather(*(asyncio.to_thread(runner.close, CLOSE_SECONDS) for runner in runners))
        self._lanes, self._control, self._loops, self._receiving, self._runners = [], None, [], [], {}

    # ── what is seen ──────────────────────────────────────────────────────────────────────────────────────────────────

    def stats(self) -> WorkerStats:
        if not self._runners:
            return WorkerStats(0, 0, 0, 0, 0, 0, 0)
        return WorkerStats(
            running=self._floor.running,
            waiting=self._floor.waiting,
            unpublished=len(self._publisher),
            received=sum(lane.received for lane in self._lanes),
            ended=self._floor.ended,
            published=self._publisher.published,
            zombies=sum(runner.zombies for runner in self._runners.values()),
        )
