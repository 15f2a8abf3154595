"""What the pages read: the store, the transport and the leases, each shared by all open pages.

Reads only. A broker or database that is away is told as such, and costs a page no more than that.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

import msgspec

from edow.cli import findings
from edow.cli.findings import Finding
from edow.client import Client
from edow.console.masking import Masking
from edow.console.shared import Shared
from edow.errors import EdowError, InvalidInput, NotFound
from edow.kpi.incident import Presence
from edow.model import history, topics
from edow.model.execution import ENDED, Execution, Status
from edow.model.history import AnyEvent
from edow.monitor.incidents import orchestrators
from edow.monitor.roll import Roll
from edow.store.contract import Counts, DeadLetter, DeadLetterFilter, ExecutionFilter, Lease, Page, Store
from edow.transport.contract import GroupStats, TopicStats, Transport
from edow.workflow.registry import Registry

SAMPLES = 300  # kept for the charts
RATES_SECONDS = 10.0  # over which rates are told


def now_us() -> int:
    return time.time_ns() // 1000


class Sample(msgspec.Struct, frozen=True):
    """How things stood at a moment. `lag` None: the broker does not tell."""

    at: int
    ended: int
    failed: int
    open: int
    lag: int | None


class Carried(msgspec.Struct, frozen=True):
    """What the transport tells; or why it does not: a problem, or that it never does."""

    topics: list[TopicStats]
    problem: str = ""
    silence: str = ""
    at: float = 0.0  # seconds, of a clock that never goes back

    @property
    def lag(self) -> int | None:
        """Messages that wait for a worker or an orchestrator."""
        if self.problem or self.silence:
            return None
        return sum(group.waiting for topic in self.topics for group in topic.groups)

    @property
    def in_flight(self) -> int | None:
        known = [group.in_flight for topic in self.topics for group in topic.groups if group.in_flight is not None]
        return sum(known) if known else None

    @property
    def oldest_at(self) -> int | None:
        known = [group.oldest_at for topic in self.topics for group in topic.groups if group.oldest_at is not None]
        return min(known, default=None)


class Look:
    """Everything that pages read goes through here. `transport` None: the console knows the store alone."""

    def __init__(
        self,
        store: Store,
        client: Client,
        transport: Transport | None = None,
        registry: Registry | None = None,
        masking: Masking | None = None,
    ) -> None:
        self.store = store
        self.client = client
        self.transport = transport
        self.registry = registry or Registry()
        self.masking = masking or Masking()
        self.roll = None if transport is None else Roll(transport, "console")
        self.shared = Shared()
        self.samples: deque[Sample] = deque(maxlen=SAMPLES)
        self._described: deque[Carried] = deque(maxlen=8)
        self._workflows: set[str] = set(self.registry.workflows)

    # ── the system ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def counts(self) -> Counts:
        return await self.shared.get("counts", lambda: self.store.counts(now_us()))

    async def leases(self) -> list[Lease]:
        async def read() -> list[Lease]:
            now = now_us()
            return await self.store.leases_hold("edow console", 0, now, now)  # wants none: this only looks

        return await self.shared.get("leases", read)

    async def present(self) -> list[Presence]:
        """What orchestrators say of themselves."""
        return await self.shared.get("present", lambda: orchestrators(self.store))

    async def carried(self) -> Carried:
        return await self.shared.get("topics", self._describe)

    def before(self, latest: Carried) -> tuple[dict[tuple[str, str], GroupStats], float]:
        """What the transport told some seconds before, by topic and group, and how long before: for rates."""
        earlier = next((each for each in self._described if 0 < latest.at - each.at < RATES_SECONDS), None)
        if earlier is None:
            return {}, 0.0
        by_group = {(topic.topic, group.group): group for topic in earlier.topics for group in topic.groups}
        return by_group, latest.at - earlier.at

    async def findings(self) -> list[Finding]:
        """What `edow doctor` would say, as far as it can be said once a second."""
        counts, leases, carried = await self.counts(), await self.leases(), await self.carried()
        now = now_us()
        found = [
            findings.orchestrators(leases, self.store.shards, counts.by_status.get("running", 0), now),
            findings.progress(counts),
            findings.takers(await self.present(), now),
            findings.inbox(counts, now),
            findings.dead_letters(counts),
        ]
        if carried.problem:
            return [*found, Finding("transport", "warn", carried.problem)]
        if carried.silence:
            return [*found, Finding("workers", "ok", carried.silence)]
        tasks = [topic for topic in carried.topics if topic.topic.startswith(topics.task_topic(""))]
        return [*found, *findings.lag(tasks, now)]

    async def sample(self) -> Sample:
        """How things stand, kept for the charts."""
        counts, carried = await self.counts(), await self.carried()
        latest = self.samples[-1] if self.samples else None
        now = now_us()
        if latest is not None and now - latest.at < 900_000:
            return latest
        by = counts.by_status
        made = Sample(
            at=now,
            ended=sum(by.get(status, 0) for status in ENDED),
            failed=by.get("failed", 0),
            open=by.get("running", 0) + by.get("parked", 0),
            lag=carried.lag,
        )
        self.samples.append(made)
        return made

    async def _describe(self) -> Carried:
        if self.transport is None:
            return Carried([], "this console was started without a transport")
        if not self.transport.features.waiting:
            name = self.transport.features.name
            return Carried([], silence=f"{name} does not tell what waits, its own monitoring does; see tasks")
        try:
            found = Carried(await self.transport.describe(self._topics()), at=time.monotonic())
        except InvalidInput:
            return Carried([], "the topics are not there yet; an orchestrator makes them")
        except EdowError as problem:
            return Carried([], str(problem))
        self._described.append(found)
        return found

    def _topics(self) -> list[str]:
        names = sorted({task.policy.topic for task in self.registry.tasks.values()} | {"default"})
        results = [topics.result_topic(shard) for shard in range(self.store.shards)]
        return [*map(topics.task_topic, names), *results, topics.DEAD]

    # ── executions ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def page(self, where: ExecutionFilter) -> Page:
        page = await self.shared.get(("page", msgspec.json.encode(where)), lambda: self.client.page(where))
        if len(self._workflows) < 1000:
            self._workflows.update(row.workflow for row in page.executions)
        return page

    def workflows(self) -> list[str]:
        """Names seen so far, for people to choose from."""
        return sorted(self._workflows)

    async def newest(self, status: Status, limit: int) -> list[Execution]:
        return (await self.page(ExecutionFilter(status=[status], limit=limit))).executions

    async def execution(self, id: str) -> Execution:
        return await self.shared.get(("execution", id), lambda: self.client.get(id).describe())

    async def history(self, id: str, run: int) -> list[AnyEvent]:
        """Raises NotFound."""

        async def read() -> list[AnyEvent]:
            segments = await self.store.history_get(id, run)
            if not segments:
                raise NotFound(f"execution {id!r} has no history of run {run}")
            return [event for segment in segments for event in history.decoder.decode(segment)]

        return await self.shared.get(("history", id, run), read)

    async def letters(self, where: DeadLetterFilter) -> Sequence[DeadLetter]:
        key = ("letters", msgspec.json.encode(where))
        return await self.shared.get(key, lambda: self.store.dead_letters_list(where))
