"""`/health`: whether this process answers, reaches its store, and whether executions make progress.

Served to everybody, for probes have no tokens: so it tells numbers alone, and looks at most once a second.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec

from edow.api.backend import Backend
from edow.api.routes import allows
from edow.errors import Unavailable
from edow.kpi.waiting import InVain, in_vain
from edow.monitor.incidents import orchestrators
from edow.store.contract import Counts, Lease

SECOND = 1_000_000
OLD_INBOX_SECONDS = 10.0  # a command that nobody has taken for so long is not on its way, it is stuck
LOOK_EVERY_SECONDS = 1.0


class Alive(msgspec.Struct, frozen=True):
    live: bool


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """`progressing`: whatever can go on does. An idle system makes progress, also without orchestrators."""

    live: bool
    ready: bool
    progressing: bool
    problems: list[str]
    inbox: int = 0
    inbox_oldest_seconds: float = 0.0
    overdue: int = 0  # running executions that should have been looked at more than 10 seconds ago
    healed: int = 0  # how often the reconciler has found one that was stuck
    dead_letters: int = 0
    orchestrators: int = 0
    shards: int = 0
    shards_held: int = 0


class HealthCheck:
    """Looks at the store, and remembers for a second what it saw: anybody may ask, and looking costs the store."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._looking = asyncio.Lock()
        self._seen: tuple[float, Health] | None = None

    async def look(self) -> Health:
        """What is true now, or was a second ago."""
        async with self._looking:
            if self._seen is None or time.monotonic() - self._seen[0] > LOOK_EVERY_SECONDS:
                self._seen = time.monotonic(), await self._look()
            return self._seen[1]

    async def _look(self) -> Health:
        now = time.time_ns() // 1000
        try:
            await self._backend.open()
            store = self._backend.store
            counts = await store.counts(now)
            leases = await store.leases_hold("edow api", 0, now, now)  # wants none: this only looks
            said = await orchestrators(store)
        except Unavailable as problem:
            return Health(live=True, ready=False, progressing=False, problems=[type(problem).__name__])
        return judge(counts, leases, store.shards, now, in_vain(said, now))


def judge(counts: Counts, leases: Sequence[Lease], shards: int, now: int, waits: InVain | None = None) -> Health:
    """Pure: from what was seen to what is wrong."""
    held = [lease for lease in leases if lease.until > now]
    oldest = 0.0 if counts.inbox_oldest_at is None else max(0, now - counts.inbox_oldest_at) / SECOND
    problems = []
    if oldest > OLD_INBOX_SECONDS:
        problems.append(f"a command has waited for {oldest:.0f} s for an orchestrator")
    if counts.overdue:
        problems.append(f"{counts.overdue} running executions are overdue")
    if not held and counts.by_status.get("running", 0):
        problems.append("executions are running, and no orchestrator is alive")
    if waits is not None:
        problems.append(f"tasks have waited for {waits.seconds:.0f} s, and no worker takes them")
    return Health(
        live=True,
        ready=True,
        progressing=not problems,
        problems=problems,
        inbox=counts.inbox,
        inbox_oldest_seconds=round(oldest, 3),
        overdue=counts.overdue,
        healed=counts.healed,
        dead_letters=counts.dead_letters,
        orchestrators=len({lease.owner for lease in held}),
        shards=shards,
        shards_held=len(held),
    )


Checked = NamedDependency[HealthCheck]


@get("/health/live", tags=["health"], summary="Does this process answer?", **allows("public"))
async def check_live() -> Alive:
    """For a liveness probe: a process that answers need not be restarted, whatever else is wrong."""
    return Alive(live=True)


@get(
    "/health/ready",
    tags=["health"],
    summary="Can this process serve requests?",
    **allows("public", also={503: ResponseSpec(Health, description="The store does not answer.")}),
)
async def check_ready(check: Checked) -> Response[Health]:
    """For a readiness probe: whether the store answers."""
    found = await check.look()
    return Response(found, status_code=200 if found.ready else 503)


@get(
    "/health",
    tags=["health"],
    summary="Do executions make progress?",
    **allows("public", also={503: ResponseSpec(Health, description="Not ready, or something makes no progress.")}),
)
async def check_health(check: Checked) -> Response[Health]:
    """For a monitor: 503 when the store does not answer, or when something waits that nobody takes."""
    found = await check.look()
    return Response(found, status_code=200 if found.ready and found.progressing else 503)


ROUTES = (check_live, check_ready, check_health)
