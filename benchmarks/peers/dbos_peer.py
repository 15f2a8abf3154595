"""DBOS: a library in the processes that start workflows, with PostgreSQL (the URL is in EDOW_POSTGRES).

As in its own benchmark of local starts: async workflows and steps, several processes (here one per core), a pool of 16
connections each.
"""

from __future__ import annotations

import asyncio
import os
import sys

import psycopg
from dbos import DBOS
from load import arguments, busy, database, idle, report, run, singly

SERVER = os.environ["EDOW_POSTGRES"]
DATABASE = "edow_bench_peers_dbos"
PROCESSES = os.cpu_count() or 1


@DBOS.step()
async def nothing(number: int) -> int:
    return number


@DBOS.workflow()
async def three_steps(number: int) -> int:
    for _ in range(3):
        number = await nothing(number)
    return number


async def load() -> None:
    """One alone in this process, then many in processes that do nothing else."""
    alone = await idle(three_steps)
    seconds, in_flight = arguments()
    words = (sys.executable, __file__, str(seconds), str(in_flight // PROCESSES))
    several = [
        await asyncio.create_subprocess_exec(*words, f"process-{number}", stdout=asyncio.subprocess.PIPE)
        for number in range(PROCESSES)
    ]
    rates = [(await each.communicate())[0] for each in several]
    report(alone, sum(map(float, rates)))


async def load_one() -> None:
    print(await busy(singly(three_steps), *arguments()))


def main() -> None:
    executor = sys.argv[3] if len(sys.argv) > 3 else ""
    if not executor:
        fresh()
    url = database(SERVER, DATABASE)
    settings = {"system_database_url": url, "sys_db_pool_size": 16, "executor_id": executor or "alone"}
    DBOS(config={"name": "peers", "log_level": "ERROR", **settings})
    DBOS.launch()
    try:
        run(load_one() if executor else load())
    finally:
        DBOS.destroy()
    if not executor:
        fresh()


def fresh() -> None:
    with psycopg.connect(SERVER, autocommit=True) as server:
        server.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")


if __name__ == "__main__":
    main()
