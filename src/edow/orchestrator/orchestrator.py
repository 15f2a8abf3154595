"""The orchestrator process: holds shards, runs the commit cycle for them, and keeps house.

Three loops: the cycle itself, the lease keeper, and the housekeeper (far timers, reconciling, retention). When the
set of shards changes, everything in memory is dropped and read again for the new set; that costs milliseconds and
happens rarely.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence

from edow.background import kept
from edow.engine import guard
from edow.engine.limits import Limits
from edow.errors import Bug, InvalidInput, LeaseLost, TransportUnavailable, Unavailable
from edow.kpi.incident import Out
from edow.kpi.meter import Meter
from edow.model import topics
from edow.model.execution import Execution
from edow.orchestrator.config import OrchestratorConfig
from edow.orchestrator.cycle import Cycle
from edow.orchestrator.decider import Decider, Room
from edow.orchestrator.edges import Edges
from edow.orchestrator.housekeeping import Housekeeper
from edow.orchestrator.inputs import Inputs
from edow.orchestrator.leases import Leases
from edow.orchestrator.mind import Mind
from edow.orchestrator.persist import UNASKED, unasked
from edow.orchestrator.stats import Stats
from edow.orchestrator.traces import Traces
from edow.store.contract import Put
from edow.telemetry.spans import Span
from edow.transport.contract import Subscription, TopicSpec
from edow.workflow.registry import Registry

log = logging.getLogger("edow.orchestrator")

WAIT_SECONDS = 1.0
PAUSE_SECONDS = 0.2  # after trouble
LEAVE_SECONDS = 15.0  # at most, to finish what is under way


class Orchestrator:
    """Start and stop are idempotent. `ready` is set once it serves its shards (or waits for some)."""

    def __init__(
        self,
        edges: Edges,
        registry: Registry,
        config: OrchestratorConfig,
        emit: Callable[[Sequence[Span]], None] | None = None,
    ) -> None:
        """`emit` gets the spans of executions that are traced."""
        self._store, self._transport, now, _ = edges
        self._now = now
        self._registry = registry
        self._config = config
        self._leases = Leases(edges.store, config, now)
        limits, horizon_us = Limits(history_events=config.history_limit), int(config.horizon * 1_000_000)
        self._decider = Decider(registry, limits, edges.store.shards, horizon_us)
        self._mind = Mind(config.compute_limit, lambda: self._decider.current)
        self._inputs = Inputs(edges.store, config.batch, config.batch_bytes, now)
        self._cycle = Cycle(edges, self._decider, self._mind, self._inputs, config.lease_ttl)
        self._cycle.room = Room(config.hot, config.hot_bytes)
        if emit is not None:
            self._cycle.traces = Traces(edges.store, emit, edges.transport.features.name)
        self._housekeeper = Housekeeper(edges, self._cycle, self._inputs, config)
        self._owned: Mapping[int, int] = {}
        self._changed = asyncio.Event()
        self._renewing = asyncio.Lock()
        self._aside = False  # the broker cannot be reached from here: others shall have our shards
        self._closing: asyncio.Task[None] | None = None
        self._running: asyncio.Task[None] | None = None
        self.ready = asyncio.Event()

    @property
    def stats(self) -> Stats:
        """Counters since start."""
        return self._cycle.stats

    @property
    def meter(self) -> Meter:
        """What it measures of its work."""
        return self._cycle.meter

    def measure_with(self, meter: Meter) -> None:
        """From now on that one is told, instead of its own."""
        self._cycle.meter = meter

    @property
    def topic_names(self) -> list[str]:
        """All topics that it knows of."""
        return [spec.name for spec in self._topics()]

    @property
    def shards(self) -> Mapping[int, int]:
        """Shards held now, with their epochs."""
        return self._cycle.leases

    async def out(self) -> Out:
        """Attempts that nobody has answered, of the executions in memory."""
        return await self._mind.ask(self._decider.out, self._now()) if self._mind.running else Out()

    @property
    def slow_computations(self) -> int:
        """How often workflow code passed the compute limit without yielding."""
        return self._mind.slow

    def tell_ends(self, on_end: Callable[[Execution], Sequence[Put]]) -> None:
        """From now on, what `on_end` gives for a run that ends is written in the commit that ends it."""
        self._cycle.on_end = on_end

    async def start(self) -> None:
        """Begin. Raises StoreUnavailable or TransportUnavailable when either cannot be reached."""
        if self._running is not None:
            return
        self.ready.clear()
        await self._transport.ensure(self._topics())
        self._mind.start(guard.install)
        self._owned = await self._leases.run_once()
        self._running = asyncio.create_task(self._run(), name="edow-orchestrator")

    async def stop(self) -> None:
        """Finish the commit under way, give the shards back. Nothing is lost: what was not finished goes on
        elsewhere.
        """
        running, self._running = self._running, None
        if running is None:
            return
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        self._mind.stop()

    async def wait(self) -> None:
        """Until it stops; raises if it has stopped because of a bug."""
        running = self._running
        if running is None:
            return
        await asyncio.wait([running])
        problem = None if running.cancelled() else running.exception()
        if problem is not None:
            raise Bug(f"the orchestrator has stopped: {_innermost(problem)!r}") from problem

    def _topics(self) -> list[TopicSpec]:
        tasks = {task.policy.topic for task in self._registry.tasks.values()} | {"default"}
        names = [*map(topics.task_topic, sorted(tasks)), *map(topics.result_topic, range(self._store.shards))]
        return [TopicSpec(name, topics.groups_of(name)) for name in (*names, topics.DEAD, topics.CONTROL)]

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_insist(self._keep_leases()), name="edow-leases")
                group.create_task(_insist(self._housekeeper.run()), name="edow-housekeeper")
                group.create_task(_insist(self._serve()), name="edow-serve")
                group.create_task(kept(self._cycle.find_lost, "the search for lost task events"), name="edow-lost")
                if self._cycle.traces is not None:
                    group.create_task(_insist(self._cycle.traces.run()), name="edow-traces")
        finally:
            await self._leave()

    async def _leave(self) -> None:
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                await self._end_shards(leaving=True)
                await self._closed()
                await self._leases.release()
        except (Unavailable, TimeoutError) as problem:
            log.warning("leases not given back, they will expire: %r", problem)

    async def _keep_leases(self) -> None:
        while True:
            await asyncio.sleep(self._leases.interval)
            await self._renew()

    async def _renew(self) -> None:
        async with self._renewing:
            if self._aside:
                return
            try:
                owned = await self._leases.run_once()
            except Unavailable as problem:
                log.warning("leases not renewed: %s", problem)
                if not self._leases.expired:
                    return
                owned = {}
            if owned != self._owned:
                self._owned = owned
                self._changed.set()
        if not owned:
            self._let_go()  # a commit that waits for the store must not keep results from whoever has the shards now

    async def _serve(self) -> None:
        """Serve one set of shards until it changes, for ever."""
        while True:
            self._changed.clear()
            owned = self._owned
            try:
                await self._begin_shards(owned)
                self.ready.set()
                await self._serve_shards(owned)
            except LeaseLost as problem:
                log.warning("%s; going on with the shards that are left", problem)
                await self._renew()
            except TransportUnavailable as problem:
                log.warning("%s; reading everything again", problem)
                await self._end_shards()
                await self._reach_broker()
            except asyncio.CancelledError:
                if not unasked():
                    raise
                log.warning("%s; reading everything again", UNASKED)
            except (Unavailable, InvalidInput) as problem:  # the latter: a topic was deleted, or a right was taken away
                log.warning("%s; reading everything again", problem)
            await self._end_shards()
            if not self._changed.is_set():
                await asyncio.sleep(PAUSE_SECONDS)

    async def _reach_broker(self) -> None:
        """Until the broker can be reached. If that takes long, others get our shards: they may reach it."""
        began = time.monotonic()
        while not await self._cycle.reaches_broker(self._config.lease_ttl):
            if not self._aside and time.monotonic() - began >= self._config.lease_ttl:
                await self._stand_aside()
            await asyncio.sleep(PAUSE_SECONDS)
        if self._aside:
            self._aside = False
            await self._renew()

    async def _stand_aside(self) -> None:
        async with self._renewing:
            self._aside, self._owned, self._cycle.leases = True, {}, {}
            try:
                await self._leases.release()
            except Unavailable as problem:
                log.warning("leases not given back, they will expire: %s", problem)

    async def _serve_shards(self, owned: Mapping[int, int]) -> None:
        if not owned:
            await self._changed.wait()
        while not self._changed.is_set():
            await self._cycle.run_once(WAIT_SECONDS)
            if (problem := self._inputs.failed) is not None and not self._changed.is_set():
                raise problem

    async def _begin_shards(self, owned: Mapping[int, int]) -> None:
        await self._closed()
        self._cycle.leases = owned
        if not owned:
            return
        self.stats.takeovers += len(owned)
        self.meter.serves(self._now())
        await self._transport.ensure(self._topics())  # also what somebody has deleted meanwhile
        subscriber = await self._transport.subscribe(
            Subscription(
                topics=tuple(topics.result_topic(shard) for shard in sorted(owned)),
                group=topics.ORCHESTRATORS,
                mode="exclusive",
                member=self._config.name,
            )
        )
        self._cycle.subscriber = subscriber
        await self._cycle.republish(owned)
        self._inputs.start(owned, subscriber)
        await self._housekeeper.look_ahead()

    async def _end_shards(self, leaving: bool = False) -> None:
        await self._inputs.stop()
        await self._cycle.abandon(leaving)
        self._inputs.clear()  # the last commit may have asked for wake-ups
        self._let_go()

    def _let_go(self) -> None:
        """Hand back what was received. A broker that cannot be reached keeps nobody waiting but who would read on."""
        subscriber, self._cycle.subscriber = self._cycle.subscriber, None
        if subscriber is not None:
            self._closing = asyncio.create_task(subscriber.close(), name="edow-close")

    async def _closed(self) -> None:
        closing = self._closing
        if closing is not None:
            try:
                await asyncio.shield(closing)
            finally:
                if closing.done():
                    self._closing = None


async def _insist(duty: Coroutine[object, object, None]) -> None:
    """It goes on for ever. A group takes no notice of a member that ends as cancelled, so that becomes a bug."""
    try:
        await duty
    except asyncio.CancelledError:
        if unasked():
            raise Bug(UNASKED) from None
        raise


def _innermost(problem: BaseException) -> BaseException:
    while isinstance(problem, BaseExceptionGroup):
        problem = problem.exceptions[0]
    return problem
