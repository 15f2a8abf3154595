"""A real process that goes on with bulk jobs and kills itself at one persisted boundary. Run by `test_jobs.py`."""

from __future__ import annotations

import asyncio
from typing import cast

from edow.app import System, now
from edow.client.job_runner import JobRunner
from edow.store.contract import Store
from edow.testing.boundaries import BoundaryStore, Countdown


def run(url: str, crash_at: int) -> None:
    asyncio.run(main(url, crash_at))


async def main(url: str, crash_at: int) -> None:
    async with System(url) as system:
        runner = JobRunner(cast(Store, BoundaryStore(system.store, Countdown(crash_at))), now)
        while await runner.run_once():
            pass
