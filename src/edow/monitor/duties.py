"""What one process at a time does for all: look at the topics, merge figures, judge objectives, follow incidents."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from edow.errors import TransportUnavailable
from edow.kpi import alert
from edow.kpi.figures import OTHER, Figures
from edow.kpi.incident import Sight
from edow.kpi.waiting import in_vain, unanswered
from edow.model import topics as topics_of
from edow.monitor import alerts, incidents, objectives, reading, topics
from edow.monitor.alerts import Announce, nobody
from edow.monitor.compactor import Compactor
from edow.monitor.thresholds import thresholds
from edow.monitor.workers import Watch
from edow.store.contract import Store
from edow.transport.contract import Transport

SECOND = 1_000_000
LOOK = 5 * SECOND  # between two looks at the topics
MERGE = 30 * SECOND
JUDGE = 15 * SECOND
CALM = 5 * SECOND  # between two looks at who is here, while nothing happens
CALM_LOOK = 10 * SECOND  # and at the topics
INEXACT_LOOK = 15 * SECOND  # where the broker tells only about how much waits: some take money for each question
BUSY = 60 * SECOND  # since the last commit: a longer silence is no work, and workers need not be asked
LETTERS = 600 * SECOND  # over which dead letters are counted
LAG = 30 * SECOND
PATIENCE_SECONDS = 10.0  # with a broker


class Interval:
    """Something to be done every so often."""

    def __init__(self, microseconds: int) -> None:
        self._every = microseconds
        self._last = 0

    def due(self, now: int) -> bool:
        if now < self._last + self._every:
            return False
        self._last = now
        return True


class Duties:
    """Doing it twice, or two doing it at once, changes nothing."""

    def __init__(
        self, store: Store, transport: Transport, topic_names: Callable[[], Iterable[str]], announce: Announce = nobody
    ) -> None:
        """`topic_names`: of the topics that this process knows of."""
        self._store = store
        self._transport = transport
        self._topic_names = topic_names
        self._published: set[str] = set()  # topics to which anybody has published lately
        self._announce = announce
        self._compactor = Compactor(store)
        self._evaluator = objectives.Evaluator(store)
        self._watch = Watch(transport)
        self._judged = True  # there may be what another has kept
        self._merge, self._judge, self._follow = Interval(MERGE), Interval(JUDGE), Interval(CALM)
        self._exact = transport.features.lag  # else incidents are not followed by what waits
        looks = (LOOK, CALM_LOOK) if self._exact else (INEXACT_LOOK, INEXACT_LOOK)
        self._look, self._calm_look = map(Interval, looks)
        self._calm = False  # at the last look nobody had worked for a while, and no incident was open

    async def run_once(self, now: int) -> Figures | None:
        """Everything that is due; what was seen of the topics, if they were looked at. Raises Unavailable."""
        if self._merge.due(now):
            await self._compactor.run_once(now)
        if self._judge.due(now):
            await self.judge(now)
        seen = None
        if not self._calm or self._follow.due(now):
            seen = await self._follow_incidents(now)
        if seen is None and (self._calm_look if self._calm else self._look).due(now):
            seen = await self._see(now)
        return seen

    def served(self, now: int) -> list[str] | None:
        """See `Watch.served`."""
        return self._watch.served(now)

    async def judge(self, now: int) -> None:
        """Open and close alerts."""
        evaluations = await self._evaluator.evaluate(await objectives.objectives(self._store), now)
        if evaluations or self._judged:
            await objectives.keep(self._store, evaluations, now)
        self._judged = bool(evaluations)
        counts = await self._store.counts(now)
        oldest = 0 if counts.inbox_oldest_at is None else now - counts.inbox_oldest_at
        limits = await thresholds(self._store)
        lately = await reading.figures(self._store, now - LETTERS, now)
        said = await incidents.orchestrators(self._store)
        self._published = lately.sent.keys() - {OTHER, topics_of.CONTROL}
        conditions = [
            *alert.burning(evaluations),
            *alert.stuck(counts.overdue, oldest / SECOND, limits),
            *alert.untaken(in_vain(said, now)),
            *alert.dying(lately, limits),
            *alert.lagging(await reading.figures(self._store, now - LAG, now), limits),
            *([] if self._exact else alert.late(unanswered(said, now), limits, now)),
        ]
        await alerts.update(self._store, conditions, now, self._announce)

    async def _follow_incidents(self, now: int) -> Figures | None:
        said = await incidents.orchestrators(self._store)
        await incidents.open_new(self._store, said, now)
        work = any(now - each.progress_at < BUSY or each.unbegun for each in said)
        self._calm = not work
        if work:
            await incidents.open_lost(self._store, await self._watch.call(now), now)
        if not await incidents.open_ones(self._store, now):
            return None
        self._calm = False
        present = [each for each in said if now - each.at <= incidents.PATIENCE]
        seen = await self._see(now) if self._exact else None
        backlog, oldest = (None, None) if seen is None else (await self._backlog(seen, now), _oldest_task(seen, now))
        await incidents.follow_all(self._store, Sight(now, present, backlog, oldest))
        return seen

    async def _backlog(self, seen: Figures, now: int) -> int:
        """Messages and commands that wait."""
        waiting = sum(lag.waiting for lag in seen.lag.values())  # what is in flight is being done
        return waiting + (await self._store.counts(now)).inbox

    async def _see(self, now: int) -> Figures:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await topics.look(self._transport, sorted({*self._topic_names(), *self._published}), now)
        except TimeoutError:
            raise TransportUnavailable(f"no answer within {PATIENCE_SECONDS:g} s") from None


def _oldest_task(seen: Figures, now: int) -> int | None:
    """When the oldest message was published that a worker has not answered yet."""
    ages = [lag.oldest for lag in seen.lag.values() if lag.group == topics_of.WORKERS and lag.oldest is not None]
    return now - max(ages) if ages else None
