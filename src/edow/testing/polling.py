"""Waiting for what can only be seen by looking: the state of other processes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

EVERY_SECONDS = 0.01


async def until(seen: Callable[[], Awaitable[bool]], every_seconds: float = EVERY_SECONDS) -> None:
    """Return as soon as `seen()` answers true; looks first, then rests."""
    while True:
        if await seen():
            return
        await asyncio.sleep(every_seconds)
