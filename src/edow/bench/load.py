"""Keeps a system busy: batches of executions, a bounded number of them at once.

How long it took is read from the executions' own rows: from the first start to the last end, by the system's clock.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator, Sequence

import msgspec

from edow.client import Client, Handle
from edow.model.execution import ENDED, Execution
from edow.store.contract import Store
from edow.testing.polling import until
from edow.workflow.definition import Workflow

BATCH = 500
WARM_UP = 2_000
LANES = 10  # batches at once
CHUNK = 500  # rows asked for at once

Progress = Callable[[int, int], None]


class Round(msgspec.Struct, frozen=True):
    """What one round of load came to."""

    executions: int
    seconds: float
    sample: list[str]

    @property
    def per_second(self) -> float:
        return self.executions / self.seconds


def unheard(done: int, total: int) -> None:
    """For rounds nobody looks at."""


class Load:
    """Executions of one workflow that takes a number."""

    def __init__(self, client: Client, store: Store, workflow: Workflow[[int], int], name: str) -> None:
        self._client = client
        self._store = store
        self._workflow = workflow
        self._name = name
        self._rounds = 0

    async def run(self, executions: int, progress: Progress = unheard) -> Round:
        """So many, as fast as they go."""
        self._rounds += 1
        ids = [f"{self._name}-{self._rounds}-{number:09}" for number in range(executions)]
        batches = _batches(ids)
        ended = itertools.count(1)

        async def lane() -> None:
            for batch in batches:
                await self._see_through(batch)
                progress(min(next(ended) * BATCH, executions), executions)

        await asyncio.gather(*(lane() for _ in range(LANES)))
        rows = await self._rows(ids)
        first, last = min(row.started_at for row in rows), max(row.ended_at or 0 for row in rows)
        return Round(executions, (last - first) / 1_000_000, ids[:: max(1, len(ids) // 200)])

    async def keep_up(self) -> None:
        """Until cancelled."""
        while True:
            await self.run(BATCH * LANES)

    async def _see_through(self, ids: Sequence[str]) -> None:
        inputs = [(number,) for number in range(len(ids))]
        handles: list[Handle[int]] = await self._client.start_many(self._workflow, inputs, ids)
        await handles[-1].result()
        left = list(ids)

        async def all_ended() -> bool:
            left[:] = [row.id for row in await self._rows(left) if row.status not in ENDED]
            return not left

        await until(all_ended, every_seconds=0.02)

    async def _rows(self, ids: Sequence[str]) -> list[Execution]:
        found = [await self._store.executions_get(ids[at : at + CHUNK]) for at in range(0, len(ids), CHUNK)]
        return [row for rows in found for row in rows if row is not None]


def _batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """One iterator that all lanes take from."""
    return (ids[at : at + BATCH] for at in range(0, len(ids), BATCH))
