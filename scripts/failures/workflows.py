"""What the executions do; orchestrators and workers load this module."""

from __future__ import annotations

import asyncio

import edow
from scripts.failures.ledger import add_once

SIGNALS = ("first", "second")
STEPS = 3

RETRY = edow.Retry(attempts=1000, initial="50ms", maximum="1s")  # the database that effects go to is what fails


@edow.task(retry=RETRY)
async def add(key: str) -> None:
    await add_once(key)


@edow.workflow
async def course(name: str) -> int:
    """Three steps and, between them, two signals: what they bring is the result."""
    total = 0
    await add(f"{name}:0")
    for number, signal in enumerate(SIGNALS, start=1):
        total += await edow.wait_signal(signal, int)
        await add(f"{name}:{number}")
    return total


@edow.workflow
async def fan_out(name: str, width: int) -> int:
    """Many at once, after the same two signals."""
    total = sum([await edow.wait_signal(signal, int) for signal in SIGNALS])
    await asyncio.gather(*(add(f"{name}:{number}") for number in range(width)))
    return total
