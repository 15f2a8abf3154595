"""What the live demo runs besides the orders: documents in portions, so that there is always a fan-out to look at."""

from __future__ import annotations

import asyncio

import edow
from edow.demo.documents import index_file


@edow.workflow
async def index_portion(paths: list[str]) -> int:
    """Fan out, join; the number of tokens."""
    return sum(await asyncio.gather(*(index_file(path) for path in paths)))
