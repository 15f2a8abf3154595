"""Workflows that do nothing, so that what is measured is what it costs to do it durably."""

from __future__ import annotations

import asyncio

import edow


@edow.task
async def nothing(number: int) -> int:
    return number


@edow.workflow
async def no_step(number: int) -> int:
    return number


@edow.workflow
async def one_step(number: int) -> int:
    return await nothing(number)


@edow.workflow
async def three_steps(number: int) -> int:
    await nothing(number)
    await nothing(number)
    return await nothing(number)


@edow.workflow
async def fan_out(width: int) -> int:
    """All at once, then the join."""
    return sum(await asyncio.gather(*(nothing(1) for _ in range(width))))


@edow.workflow
async def loop(rounds: int) -> int:
    """One after the other, in one history."""
    total = 0
    for _ in range(rounds):
        total += await nothing(1)
    return total


@edow.workflow
async def hibernate(days: int) -> None:
    await edow.sleep(days * 86_400)
