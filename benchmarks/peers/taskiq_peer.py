"""taskiq: three tasks one after the other, Redis streams and results (URL in EDOW_REDIS). Not durable workflows."""

from __future__ import annotations

import asyncio
import os
import sys

from load import arguments, measure, process
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

URL = os.environ["EDOW_REDIS"] + "/8"
broker = RedisStreamBroker(URL).with_result_backend(RedisAsyncResultBackend(URL, result_ex_time=600))


@broker.task
async def nothing(number: int) -> int:
    return number


async def load() -> None:
    await broker.startup()

    async def one(number: int) -> int:
        for _ in range(3):
            sent = await nothing.kiq(number)
            number = (await sent.wait_result(check_interval=0.02, timeout=120)).return_value
        return number

    await measure(one, *arguments())
    await broker.shutdown()


def main() -> None:
    os.chdir(os.path.dirname(os.path.abspath(__file__)))
    words = ("-m", "taskiq", "worker", "taskiq_peer:broker", "--workers", "1", "--log-level", "ERROR")
    with process(sys.executable, *words, "--max-async-tasks", "500"):
        asyncio.run(load())


if __name__ == "__main__":
    main()
