"""What all peers have in common: so many executions of three steps that do nothing, at most so many at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator

STEPS = 3
WARM_UP = 20


async def measure(one: Callable[[int], Awaitable[object]], executions: int, in_flight: int) -> None:
    """Run `one` for every number, after a warm-up, and print the figures as one JSON object."""
    await _all(one, WARM_UP, in_flight, -WARM_UP)
    began = time.perf_counter()
    milliseconds = await _all(one, executions, in_flight, 0)
    seconds = time.perf_counter() - began
    milliseconds.sort()
    figures = {
        "steps_per_second": round(STEPS * executions / seconds, 1),
        "workflows_per_second": round(executions / seconds, 1),
        "p50_ms": round(milliseconds[len(milliseconds) // 2], 2),
    }
    print(json.dumps(figures), flush=True)


async def _all(one: Callable[[int], Awaitable[object]], count: int, in_flight: int, first: int) -> list[float]:
    room = asyncio.Semaphore(in_flight)
    taken: list[float] = []

    async def run(number: int) -> None:
        async with room:
            began = time.perf_counter()
            await one(number)
            taken.append((time.perf_counter() - began) * 1000)

    async with asyncio.TaskGroup() as group:
        for number in range(first, first + count):
            group.create_task(run(number))
    return taken


def arguments() -> tuple[int, int]:
    """Executions, and how many at once, from the command line."""
    return int(sys.argv[1]), int(sys.argv[2])


@contextlib.contextmanager
def process(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server or worker beside the load, killed with all of its own processes at the end. It speaks to stderr."""
    running = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=sys.stderr, start_new_session=True)
    try:
        yield running
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
