"""Celery: a chain of three tasks, Redis for messages and results (the URL is in EDOW_REDIS). No durable workflows.

Set up for many short tasks as its guide to optimizing says: one worker process per core, a large prefetch multiplier.
"""

from __future__ import annotations

import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor

from celery import Celery, chain
from load import measure, process, ready, run

PREFIX = os.environ.setdefault("PEERS_CELERY_PREFIX", f"edow-bench-celery-{os.getpid()}-")

app = Celery("celery_peer", broker=os.environ["EDOW_REDIS"], backend=os.environ["EDOW_REDIS"])
app.conf.update(
    worker_prefetch_multiplier=128,
    task_acks_late=True,
    result_expires=600,
    broker_transport_options={"global_keyprefix": PREFIX},
    result_backend_transport_options={"global_keyprefix": PREFIX},
    broker_connection_retry_on_startup=True,
)


@app.task
def nothing(number: int) -> int:
    return number


def execute(number: int) -> int:
    return int(chain(nothing.s(number), nothing.s(), nothing.s()).apply_async().get(timeout=60))


async def load() -> None:
    words = ("worker", "-c", str(os.cpu_count() or 1), "--loglevel=ERROR", "--without-gossip", "--without-mingle")
    with (
        process("celery-worker", sys.executable, "-m", "celery", "-A", "celery_peer", *words) as worker,
        ThreadPoolExecutor(int(sys.argv[2])) as waiting,
    ):

        async def one(number: int) -> int:
            return await asyncio.get_running_loop().run_in_executor(waiting, execute, number)

        async def answered() -> bool:
            return bool(await asyncio.to_thread(app.control.ping, timeout=0.5))

        await ready(answered, worker)
        await measure(one)


def main() -> None:
    try:
        run(load())
    finally:
        client = app.backend.client
        for key in client.scan_iter(f"{PREFIX}*", count=10_000):
            client.unlink(key)


if __name__ == "__main__":
    main()
