"""What the schedules of `test_schedules_killed.py` start."""

from __future__ import annotations

import edow


@edow.workflow
async def beat(at: str) -> str:
    return at
