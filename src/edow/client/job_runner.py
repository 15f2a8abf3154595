"""The loop that goes on with bulk jobs: beside every orchestrator and in every API, as many as there are."""

from __future__ import annotations

import logging

import msgspec

from edow.client import jobs
from edow.client.jobs import KIND, Job
from edow.client.stepping import Stepping
from edow.errors import RecordChanged
from edow.store.contract import Record

log = logging.getLogger("edow.client")

BATCH = 100  # executions in one transaction


class JobRunner(Stepping):
    """Takes every bulk job a step further: a batch of executions is told, and the job says so, in one transaction."""

    kind = KIND
    what = "bulk jobs"
    busy_seconds = 0.05

    def _is_over(self, record: Record) -> bool:
        return jobs.of_record(record).ended_at is not None

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
