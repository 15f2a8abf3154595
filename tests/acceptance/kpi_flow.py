"""What the processes of `test_kpis` run."""

from __future__ import annotations

from pathlib import Path

import edow
from edow.testing.polling import until


@edow.task
async def count(number: int) -> int:
    return number


@edow.task
async def gate(path: str) -> bool:
    """Is at it until there is such a file."""

    async def opened() -> bool:
        return Path(path).exists()

    await until(opened)
    return True


@edow.workflow
async def gated(path: str) -> bool:
    return await gate(path)


@edow.workflow
async def counted(number: int) -> int:
    return await count(number) + await count(number)
