"""What it costs to be watched: the steps a second with everything on, beside those with nothing.

Nothing: no KPIs. Everything: KPIs, Prometheus's port scraped, every hundredth execution traced to a collector, and the
console's overview open. The two take turns, each on a fresh place; all of them share this machine's cores.
"""

from __future__ import annotations

import re
import statistics
from typing import NamedTuple

import msgspec

from edow.bench.cluster import peak_rss_mb
from edow.bench.load import Round
from edow.bench.model import MODULES, Measurement, Options, Place
from edow.bench.onlooker import OVERVIEW_SECONDS, SCRAPE_SECONDS, Collector, Page, Unseen, looking_at
from edow.bench.scenarios.steps import DEFAULT_EXECUTIONS, STEPS
from edow.testing.processes import Fleet, Service, ServiceDied
from edow.testing.stage import Stage

SAMPLED = 0.01
TARGET = "0.90 of the speed unwatched"


class Turn(NamedTuple):
    """One round: steps a second, the largest process, and how many spans there were of it."""

    per_second: float
    peak_rss_mb: float
    spans: int = 0


async def measure(options: Options, place: Place, stage: Stage) -> Measurement:
    executions = options.workflows or DEFAULT_EXECUTIONS
    plain: list[Turn] = []
    watched: list[Turn] = []
    for number in range(options.rounds):
        for turns, take in ((plain, _plain), (watched, _watched))[:: 1 if number % 2 else -1]:
            async with place.another() as fresh:
                turns.append(await take(fresh, executions))
            stage.advance("rounds", len(plain) + len(watched), 2 * options.rounds)
        stage.say(f"round {number + 1}: {plain[-1].per_second:,.0f} steps/s, {watched[-1].per_second:,.0f} watched")
    ratio = statistics.median(turn.per_second / bare.per_second for turn, bare in zip(watched, plain, strict=True))
    speed, most = (statistics.median(turn.per_second for turn in turns) for turns in (watched, plain))
    return Measurement(
        scenario="watched",
        store=place.names[0],
        transport=place.names[1],
        steps_per_second=round(speed, 1),
        workflows_per_second=round(speed / STEPS, 1),
        ceiling_steps_per_second=round(most, 1),
        ratio=round(ratio, 3),
        latency_ms=None,
        peak_rss_mb=max(turn.peak_rss_mb for turn in watched),
        fsync=True,
        details={
            "rounds": options.rounds,
            "executions_per_round": executions,
            "sampled": SAMPLED,
            "spans": sum(turn.spans for turn in watched),
        },
        headline=f"{speed:,.0f} steps/s, {ratio:.2f} of the speed unwatched",
        target=TARGET,
    )


async def _plain(place: Place, executions: int) -> Turn:
    async with Fleet(MODULES, place.store, place.folder, place.transport) as fleet:
        await fleet.spawn("orchestrator", ["-m", "edow.bench.unwatched", *MODULES])
        await fleet.start("worker")
        return Turn(await _loaded(fleet, executions), peak_rss_mb(fleet))


async def _watched(place: Place, executions: int) -> Turn:
    with Collector() as collector:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": str(SAMPLED),
        }
        async with Fleet(MODULES, place.store, place.folder, place.transport, environment) as fleet:
            served = [await fleet.start(role, "--metrics-port", "0") for role in ("orchestrator", "worker")]
            api = await fleet.spawn("api", ["-m", "edow", "api", "--port", "0"])
            for service in (*served, api):
                await fleet.during(service.ready())
            pages = [Page(f"{_url(each)}/metrics", SCRAPE_SECONDS) for each in (*served, api)]
            async with looking_at([Page(_url(api), OVERVIEW_SECONDS), *pages]):
                speed, peak = await _loaded(fleet, executions), peak_rss_mb(fleet)
        if not collector.spans:
            raise Unseen("the collector got no spans")
    return Turn(speed, peak, collector.spans)


async def _loaded(fleet: Fleet, executions: int) -> float:
    """Steps a second, by a client in a process of its own: one that traces cannot stop doing so."""
    for role in ("orchestrator", "worker"):
        for service in fleet.alive(role):
            await fleet.during(service.ready())
    client = await fleet.spawn("client", ["-m", "edow.bench.loader", str(executions)])
    client.expected_to_end = True
    if await fleet.during(client.ended()):
        raise ServiceDied(f"{client} failed:\n{client.tail()}")
    made = msgspec.json.decode(client.log.read_bytes().splitlines()[-1], type=Round)
    return made.per_second * STEPS


def _url(service: Service) -> str:
    """Where it says that it serves."""
    found = re.search(r"http://127\.0\.0\.1:\d+", service.tail())
    if found is None:
        raise ServiceDied(f"{service} serves nothing:\n{service.tail()}")
    return found.group()
