"""taskiq: a pipeline of three tasks, Redis streams and results (the URL is in EDOW_REDIS). No durable workflows.

Its broker that acknowledges, its own package for chains, one worker process per core, uvloop.
"""

from __future__ import annotations

import os
import sys

from load import measure, process, run
from redis.asyncio import Redis
from taskiq_pipelines import Pipeline, PipelineMiddleware
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

URL = os.environ["EDOW_REDIS"]
PREFIX = os.environ.setdefault("PEERS_TASKIQ_PREFIX", f"edow-bench-taskiq-{os.getpid()}")
POLL_SECONDS = 0.005  # how often a caller looks for its result

results = RedisAsyncResultBackend(URL, result_ex_time=600, prefix_str=PREFIX)
broker = RedisStreamBroker(URL, queue_name=PREFIX, consumer_id="0").with_result_backend(results)
broker.add_middlewares(PipelineMiddleware())


@broker.task("nothing")  # by default the name is the module's, which differs between the two programs
async def nothing(number: int) -> int:
    return number


async def execute(number: int) -> int:
    sent = await Pipeline(broker, nothing).call_next(nothing).call_next(nothing).kiq(number)
    return (await sent.wait_result(check_interval=POLL_SECONDS, timeout=30)).return_value


async def load() -> None:
    words = ("-m", "taskiq", "worker", "taskiq_peer:broker", "--workers", str(os.cpu_count() or 1))
    with process("taskiq-worker", sys.executable, *words, "--max-async-tasks", "500", "--log-level", "ERROR"):
        await broker.startup()
        try:
            await measure(execute)
        finally:
            await broker.shutdown()
            async with Redis.from_url(URL) as redis:
                async for key in redis.scan_iter(f"*{PREFIX}*", count=10_000):
                    await redis.unlink(key)


if __name__ == "__main__":
    run(load())
