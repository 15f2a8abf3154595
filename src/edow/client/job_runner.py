"""The loop that goes on with bulk jobs: beside every orchestrator and in every API, as many as there are."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from edow.client import jobs
from edow.client.jobs import KIND, Job
from edow.errors import InvalidInput, RecordChanged, Unavailable
from edow.store.contract import Record, RecordFilter, Store

log = logging.getLogger("edow.client")

BATCH = 100  # executions in one transaction
BUSY_SECONDS = 0.05  # between two steps, while a job may take one
IDLE_SECONDS = 1.0


class JobRunner:
    """Start and stop are idempotent; `run_once` takes every job a step further, for those who drive it themselves.

    A step belongs to whoever writes the job's record first; the others have done nothing.
    """

    def __init__(self, store: Store, clock: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name="edow-jobs")

    async def stop(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def run_once(self) -> int:
        """How many jobs are not over. Raises Unavailable."""
        records = await self._store.records_list(RecordFilter(KIND))
        unfinished = [each for each in records if jobs.of_record(each).ended_at is None]
        for record in unfinished:
            await self._advance(record)
        return len(unfinished)

    async def _run(self) -> None:
        while True:
            try:
                busy = await self.run_once()
            except (Unavailable, InvalidInput) as problem:
                log.warning("bulk jobs were not gone on with: %s; they will be", problem)
                busy = 0
            await asyncio.sleep(BUSY_SECONDS if busy else IDLE_SECONDS)

    async def _advance(self, record: Record) -> None:
        job, now = jobs.of_record(record), self._clock()
        if now < job.next_at:
            return
        limit = max(1, min(BATCH, int(job.rate)))
        page = await self._store.executions_list(job.match.where(job.created_at, limit, job.cursor))
        commands = [each for row in page.executions if (each := jobs.command(job, row)) is not None]
        count = len(page.executions)
        after = msgspec.structs.replace(
            job,
            cursor=page.cursor,
            handled=job.handled + count,
            skipped=job.skipped + count - len(commands),
            next_at=now + int(count / job.rate * 1_000_000),
        )
        if page.cursor is None:
            after = msgspec.structs.replace(after, state="completed", ended_at=now)
        try:
            answers = await self._store.records_put([jobs.put(after, record.version)], now, commands)
        except RecordChanged as problem:
            log.debug("job %s was gone on with by somebody else: %s", job.id, problem)
            return
        if late := sum(each.outcome != "accepted" for each in answers):
            await self._skipped(after, late)

    async def _skipped(self, job: Job, late: int) -> None:
        """These ended between being read and being told. A count, and lost if this process dies right here."""
        [record] = await self._store.records_get(KIND, [job.id])
        if record is None:
            return
        now = jobs.of_record(record)
        corrected = msgspec.structs.replace(now, skipped=now.skipped + late)
        try:
            await self._store.records_put([jobs.put(corrected, record.version)], self._clock())
        except RecordChanged as problem:
            log.debug("job %s counts %d executions as told that had ended: %s", job.id, late, problem)
