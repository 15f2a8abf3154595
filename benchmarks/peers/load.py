"""What all programs here have in common: a load of three-step executions, and the figures that it comes to.

A program is called with the seconds to measure and how many executions to keep in flight. Its last line of output is
its figures; an error is the last line of its stderr. Where servers and workers write their logs is in PEERS_LOGS.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvloop

STEPS = 3
IDLE_SECONDS = 2.0
IDLE_WARM_UP = 5
WARM_UP_SECONDS = 3.0
START_SECONDS = 60.0
END_SECONDS = 30.0

One = Callable[[int], Awaitable[object]]
Many = Callable[[int, Callable[[], None]], Awaitable[object]]
Process = subprocess.Popen[bytes]


def run(work: Coroutine[Any, Any, None]) -> None:
    uvloop.run(work)


async def measure(one: One, many: Many | None = None, size: int = 1) -> None:
    """Print what `one`, the execution of this number, does: alone on an idle system, then many at once.

    `many`, where given, starts `size` executions from this number on together, as the client offers it, and calls
    for each that has ended.
    """
    seconds, in_flight = arguments()
    report(await idle(one), await busy(many or singly(one), seconds, in_flight, size))


def singly(one: One) -> Many:
    async def many(number: int, ended: Callable[[], None]) -> None:
        await one(number)
        ended()

    return many


def arguments() -> tuple[float, int]:
    """Seconds under load, and how many executions at once."""
    return float(sys.argv[1]), int(sys.argv[2])


def report(idle: float, per_second: float) -> None:
    """Milliseconds for one alone, and executions a second under load."""
    print(json.dumps({"steps_per_second": round(STEPS * per_second, 1), "idle_p50_ms": round(idle, 2)}), flush=True)


async def idle(one: One) -> float:
    """The median time of one execution, in milliseconds, with nothing else going on."""
    numbers = itertools.count(-1, -1)
    for _ in range(IDLE_WARM_UP):
        await one(next(numbers))
    taken, until = [], time.perf_counter() + IDLE_SECONDS
    while (began := time.perf_counter()) < until:
        await one(next(numbers))
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


async def busy(many: Many, seconds: float, in_flight: int, size: int = 1) -> float:
    """Executions a second in a window of time, after a warm-up and before the load stops: the steady rate."""
    numbers, count, stopping = itertools.count(1, size), 0, False

    def ended() -> None:
        nonlocal count
        count += 1

    async def lane() -> None:
        while not stopping:
            await many(next(numbers), ended)

    async def window() -> float:
        nonlocal stopping
        await asyncio.sleep(WARM_UP_SECONDS)
        before, began = count, time.perf_counter()
        await asyncio.sleep(seconds)
        rate = (count - before) / (time.perf_counter() - began)
        stopping = True
        return rate

    async with asyncio.timeout(WARM_UP_SECONDS + seconds + END_SECONDS), asyncio.TaskGroup() as group:
        for _ in range(max(1, in_flight // size)):
            group.create_task(lane())
        measured = group.create_task(window())
    return measured.result()


@contextlib.contextmanager
def process(name: str, *words: str, environment: dict[str, str] | None = None) -> Iterator[Process]:
    """A server or worker beside the load, killed at the end; run.py kills what it leaves in this program's group."""
    log = Path(os.environ["PEERS_LOGS"]) / f"{name}.log"
    with log.open("wb") as output:
        running = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **(environment or {})},
            cwd=Path(__file__).parent,
        )
    try:
        yield running
    finally:
        running.kill()
        running.wait()


async def ready(check: Callable[[], Awaitable[bool]], *beside: Process) -> None:
    """Until `check` is true; ends this program when one of the processes has ended, or after a minute."""
    until = time.monotonic() + START_SECONDS
    while not await check():
        for each in beside:
            if (code := each.poll()) is not None:
                sys.exit(f"error: {Path(str(each.args[0])).name} ended with code {code} before it was ready")
        if time.monotonic() > until:
            sys.exit(f"error: nothing answered within {START_SECONDS:.0f} s")
        await asyncio.sleep(0.1)


def free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])


def database(url: str, name: str) -> str:
    """The same server, another database."""
    return urlsplit(url)._replace(path=f"/{name}").geturl()
