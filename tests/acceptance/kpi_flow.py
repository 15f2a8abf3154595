"""What the processes of `test_kpis` run."""

from __future__ import annotations

import edow


@edow.task
async def count(number: int) -> int:
    return number


@edow.workflow
async def counted(number: int) -> int:
    return await count(number) + await count(number)
