"""Drives the demo: starts processes and executions, kills, replaces, redrives, and measures what comes of it.

Recovery is the time from `kill -9` to the next progress of any execution: a longer history of the pipeline, or another
order ended, read from the store every few milliseconds. Knows the application's modules, but takes no part in their
work.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import NamedTuple

import msgspec

from edow.address import Address
from edow.app import System, load_registry
from edow.bench.latency import latency_of, steps_of
from edow.client import Client, Handle
from edow.demo import documents, effects, samples, shop
from edow.demo.documents import Report
from edow.demo.model import Options, Outcome, Result
from edow.demo.orders import Confirmation, fulfil
from edow.demo.proof import prove
from edow.errors import InvalidInput
from edow.model.execution import ENDED, Execution
from edow.model.failure import Failure
from edow.store.contract import DeadLetter, DeadLetterFilter, Store
from edow.testing.folders import working_folder
from edow.testing.polling import until
from edow.testing.processes import Fleet, Role, Service
from edow.testing.scratch import scratch
from edow.testing.stage import Stage

MODULES = ("edow.demo.documents", "edow.demo.orders")
LIBRARY = "library"
WORKERS = 2
TICK_SECONDS = 0.1

# The kills come when so many of the documents have been indexed.
WORKER_DIES_AT = 0.15
ORCHESTRATOR_DIES_AT = 0.45


async def run(options: Options, stage: Stage) -> Outcome:
    """The whole demo. Raises InvalidInput, ServiceDied, and TimeoutError after the options' deadline."""
    if not options.source.is_dir():
        raise InvalidInput(f"--input {str(options.source)!r} is not a folder; name one that holds .py files")
    async with working_folder("edow-demo-", options.keep) as folder, AsyncExitStack() as stack:
        samples.write(folder / "samples")
        effects.create(folder / "effects.db", shop.opening_stock())
        applied = stack.enter_context(closing(effects.Effects(folder / "effects.db")))
        part = scratch((options.store, options.transport), folder, MODULES, keep=options.keep)
        store, transport = await stack.enter_async_context(part)
        environment = {effects.DATABASE: str(folder / "effects.db")}
        system = await stack.enter_async_context(System(store, transport))
        client = await stack.enter_async_context(Client(store=system.store))
        fleet = await stack.enter_async_context(Fleet(MODULES, store, folder, transport, environment))
        show = Show(options, stage, Backstage(client, system.store, fleet, applied, folder, str(Address(store))))
        async with asyncio.timeout(options.deadline_seconds):
            return await fleet.during(show.run())


class Backstage(NamedTuple):
    """What the show needs, opened and closed around it."""

    client: Client
    store: Store
    fleet: Fleet
    applied: effects.Effects
    folder: Path
    place: str


class Show:
    """One performance. Each method is one thing that happens on it."""

    def __init__(self, options: Options, stage: Stage, backstage: Backstage) -> None:
        self._options = options
        self._stage = stage
        self._client, self._store, self._fleet, self._applied, self._folder, self._place = backstage
        self._folders = [str(self._folder / "samples"), str(options.source)]
        self._paths = [path for each in self._folders for path in documents.python_files(each)]
        self._orders = shop.make_orders(options.orders)
        self._ids = [LIBRARY, *(order.id for order in self._orders)]
        self._registry = load_registry(MODULES)
        self._letters: set[str] = set()
        self._redriven = 0
        self._ended = 0
        self._killed: dict[Role, int] = {"worker": 0, "orchestrator": 0}
        self._recoveries: list[float] = []

    async def run(self) -> Outcome:
        began = time.perf_counter()
        await self._start_services()
        library, orders = await self._start_executions()
        ticker = asyncio.create_task(self._tick())
        try:
            await self._kill_when("worker", WORKER_DIES_AT)
            await self._kill_when("orchestrator", ORCHESTRATOR_DIES_AT)
            redriving = asyncio.create_task(self._keep_redriving())
            confirmations = await asyncio.gather(*map(self._count, orders))
            report = await library.result()
            redriving.cancel()
            await asyncio.gather(redriving, return_exceptions=True)
        finally:
            ticker.cancel()
            await asyncio.gather(ticker, return_exceptions=True)
        seconds = time.perf_counter() - began
        return await self._outcome(report, confirmations, seconds)

    # ── begin ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _start_services(self) -> None:
        started = [await self._start("orchestrator"), *[await self._start("worker") for _ in range(WORKERS)]]
        self._stage.say("started " + ", ".join(map(str, started)))

    async def _start(self, role: Role) -> Service:
        share = max(1, (os.cpu_count() or 1) // WORKERS)
        return await self._fleet.start(role, *(["--processes", str(share)] if role == "worker" else []))

    async def _start_executions(self) -> tuple[Handle[Report], list[Handle[Confirmation]]]:
        library = await self._client.start(documents.index_library.with_options(id=LIBRARY), self._folders)
        self._stage.say(f"one execution indexes {len(self._paths):,} files of {self._options.source}")
        ids = [order.id for order in self._orders]
        orders = await self._client.start_many(fulfil, [(order,) for order in self._orders], ids)
        self._stage.say(f"{len(orders)} orders go through payment, screening, stock and shipment")
        return library, orders

    async def _count(self, order: Handle[Confirmation]) -> Confirmation:
        confirmation = await order.result()
        self._ended += 1
        return confirmation

    async def _tick(self) -> None:
        """Keep what people see up to date."""
        while True:
            self._stage.advance("documents", self._applied.count("index"), len(self._paths))
            self._stage.advance("orders", self._ended, len(self._orders))
            await asyncio.sleep(TICK_SECONDS)

    # ── kill ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _kill_when(self, role: Role, share: float) -> None:
        """Wait for its moment, kill one, replace it, and measure until something goes on."""

        async def its_moment() -> bool:
            return self._applied.count("index") >= share * len(self._paths) or await self._idle()

        await until(its_moment)
        victim = self._fleet.alive(role)[-1]
        await victim.kill()
        began = time.perf_counter()
        before = await self._progress()
        self._killed[role] += 1
        self._stage.say(f"kill -9 {victim}", "bad")
        replacement = await self._start(role)
        if role == "orchestrator":
            await self._redrive()  # kept in the inbox until there is an orchestrator again
        await until(lambda: self._went_on(before))
        self._recoveries.append(time.perf_counter() - began)
        self._stage.say(f"started {replacement}; work goes on {self._recoveries[-1]:.2f} s after the kill", "good")

    async def _went_on(self, before: tuple[int, int]) -> bool:
        return await self._progress() != before or await self._idle()

    async def _progress(self) -> tuple[int, int]:
        """How often the pipeline has been advanced, and how many orders have ended."""
        segments = await self._store.history_get(LIBRARY, 1)
        return len(segments), len([row for row in await self._order_rows() if row.status in ENDED])

    async def _order_rows(self) -> list[Execution]:
        rows = await self._store.executions_get(self._ids[1:])
        return [row for row in rows if row is not None]

    async def _idle(self) -> bool:
        """Nothing is left to do but to redrive, so that no progress can be expected."""
        waiting = len(await self._new_letters())
        if not waiting or self._applied.count("index") + waiting < len(self._paths):
            return False
        return all(row.status in ENDED for row in await self._order_rows())

    # ── redrive ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _new_letters(self) -> list[DeadLetter]:
        """Parked, and not redriven yet."""
        parked = await self._client.dead_letters(DeadLetterFilter(task=documents.index_file.name))
        return [letter for letter in parked if letter.id not in self._letters]

    async def _keep_redriving(self) -> None:
        while True:
            await self._redrive()
            await asyncio.sleep(TICK_SECONDS)

    async def _redrive(self) -> None:
        """Once more, decoding leniently."""
        found = await self._new_letters()
        for letter in found:
            self._stage.say(f"dead letter after {letter.attempts} attempts: {_told(letter)}", "loud")
        if found:
            self._letters.update(letter.id for letter in found)
            self._redriven += await self._client.redrive(
                [letter.id for letter in found], lenient, registry=self._registry
            )
            self._stage.say(f'redriven with errors="replace": {len(found)}', "good")

    # ── end ───────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _outcome(self, report: Report, confirmations: Sequence[Confirmation], seconds: float) -> Outcome:
        steps = steps_of([await self._client.history(execution) for execution in self._ids])
        proof = prove(self._applied, self._paths, self._orders, confirmations)
        result = Result(
            documents=report.files,
            orders=len(confirmations),
            compensated=sum(each.state == "refunded" for each in confirmations),
            dead_letters=len(self._letters),
            redriven=self._redriven,
            workers_killed=self._killed["worker"],
            orchestrators_killed=self._killed["orchestrator"],
            recovery_seconds=round(max(self._recoveries), 3),
            effects_lost=proof.lost,
            effects_applied_twice=proof.twice,
            steps_per_second=steps.per_second,
            latency_ms=latency_of(steps.milliseconds(), p99=False),
        )
        return Outcome(
            result=result,
            report=report,
            seconds=seconds,
            steps=len(steps.spans),
            discrepancies=proof.discrepancies,
            kept=self._folder if self._options.keep else None,
            store=self._place,
        )


def lenient(letter: DeadLetter) -> dict[str, object]:
    """The arguments of a redrive: the same file, decoded whatever it holds."""
    return {**msgspec.json.decode(letter.args, type=dict[str, object]), "errors": "replace"}


def _told(letter: DeadLetter) -> str:
    failure = msgspec.json.decode(letter.failure, type=Failure)
    path = msgspec.json.decode(letter.args, type=dict[str, str])["path"]
    return f"{Path(path).name}: {failure.type}: {failure.message[:80]}"
