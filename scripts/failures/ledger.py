"""The table in which effects are counted: in the database that the executions are in, which fails with them.

`edow.once` keeps its own ledger beside it; what the two say must agree.
"""

from __future__ import annotations

import os
from functools import lru_cache

import asyncpg
import msgspec

import edow
from edow.postgresql.pool import Pool

LEDGER = "EDOW_FAILURES_LEDGER"  # the database's URL, for the tasks
CONNECTIONS = 8  # of each worker
TIMEOUT = 30.0

SCHEMA = """
CREATE SCHEMA failures;
CREATE TABLE failures.effects (
    key text PRIMARY KEY,
    times integer NOT NULL DEFAULT 1,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""
ADD = "INSERT INTO failures.effects (key) VALUES ($1) ON CONFLICT (key) DO UPDATE SET times = effects.times + 1"
READ = "SELECT key, times, extract(epoch FROM at)::float8 FROM failures.effects"
COUNT = "SELECT count(*) FROM failures.effects"
NOTED = "SELECT count(*) FROM edow_effects"


class Effect(msgspec.Struct, frozen=True):
    """How often it was applied, and when first, in seconds since 1970."""

    times: int
    at: float


@lru_cache
def _pool(url: str) -> Pool:
    return Pool(lambda: asyncpg.connect(url, timeout=5.0, command_timeout=TIMEOUT), CONNECTIONS)


async def add_once(key: str) -> None:
    """For the task that calls. A key belongs to one step of one execution, so that more than one is one too many."""
    async with _pool(os.environ[LEDGER]).take() as database, edow.once(database) as first:
        if first:
            await database.execute(ADD, key)


class Ledger:
    """For whoever counts."""

    def __init__(self, url: str) -> None:
        self._pool = Pool(lambda: asyncpg.connect(url, timeout=5.0, command_timeout=TIMEOUT), 1)

    async def create(self) -> None:
        async with self._pool.take() as database:
            await database.execute(SCHEMA)

    async def count(self) -> int:
        async with self._pool.take() as database:
            return int(await database.fetchval(COUNT))

    async def noted(self) -> int:
        """How many effects `edow.once` has in its own ledger."""
        async with self._pool.take() as database:
            return int(await database.fetchval(NOTED))

    async def read(self) -> dict[str, Effect]:
        async with self._pool.take() as database:
            return {key: Effect(times, at) for key, times, at in await database.fetch(READ)}

    async def close(self) -> None:
        await self._pool.close()
