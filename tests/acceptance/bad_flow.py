"""What the processes of `test_bad_brokers` run."""

from __future__ import annotations

import edow


@edow.task(retry=2)
async def length(text: str) -> int:
    return len(text)


@edow.task(retry=2)
async def text(size: int) -> str:
    return "x" * size


@edow.task(retry=2, key=lambda number: f"key-{number % 3}")
async def double(number: int) -> int:
    return 2 * number


@edow.workflow
async def works(number: int) -> int:
    return await double(number)


@edow.workflow
async def sends(size: int) -> int:
    return await length("x" * size)


@edow.workflow
async def receives(size: int) -> int:
    return len(await text(size))
