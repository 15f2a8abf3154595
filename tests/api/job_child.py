"""A real process that goes on with bulk jobs and kills itself at one persisted boundary. Run by `test_jobs.py`.

usage: job_child.py STORE CRASH_AT
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

from edow.app import System, now
from edow.client.job_runner import JobRunner
from edow.store.contract import Store
from edow.testing.boundaries import BoundaryStore, Countdown


async def main(url: str, crash_at: int) -> None:
    async with System(url) as system:
        runner = JobRunner(cast(Store, BoundaryStore(system.store, Countdown(crash_at))), now)
        while await runner.run_once():
            pass


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
