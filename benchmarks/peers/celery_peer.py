"""Celery: a chain of three tasks, Redis for messages and results (the URL is in EDOW_REDIS). Not durable workflows."""

from __future__ import annotations

import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor

from celery import Celery, chain
from load import arguments, measure, process

app = Celery("celery_peer", broker=os.environ["EDOW_REDIS"] + "/9", backend=os.environ["EDOW_REDIS"] + "/9")
app.conf.update(worker_prefetch_multiplier=50, task_acks_late=True, result_expires=600)


@app.task
def nothing(number: int) -> int:
    return number


async def load() -> None:
    def run(number: int) -> int:
        answer = chain(nothing.s(number), nothing.s(), nothing.s()).apply_async()
        return int(answer.get(timeout=120, interval=0.005))

    executions, in_flight = arguments()
    with ThreadPoolExecutor(in_flight) as waiting:

        async def one(number: int) -> int:
            return await asyncio.get_running_loop().run_in_executor(waiting, run, number)

        await measure(one, executions, in_flight)


def main() -> None:
    worker = (sys.executable, "-m", "celery", "-A", "celery_peer", "worker", "-c", "2", "--loglevel=ERROR")
    os.chdir(os.path.dirname(os.path.abspath(__file__)))
    with process(*worker, "--without-gossip", "--without-mingle", "--without-heartbeat"):
        asyncio.run(load())


if __name__ == "__main__":
    main()
