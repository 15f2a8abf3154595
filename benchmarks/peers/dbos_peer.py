"""DBOS: a library in the process that asks, with PostgreSQL (the URL is in EDOW_POSTGRES)."""

from __future__ import annotations

import asyncio
import os

from dbos import DBOS
from load import arguments, measure


@DBOS.step()
async def nothing(number: int) -> int:
    return number


@DBOS.workflow()
async def three_steps(number: int) -> int:
    for _ in range(3):
        number = await nothing(number)
    return number


async def load() -> None:
    async def one(number: int) -> int:
        return await three_steps(number)

    await measure(one, *arguments())


def main() -> None:
    server = os.environ["EDOW_POSTGRES"].rpartition("/")[0]
    DBOS(config={"name": "peers", "system_database_url": f"{server}/peers_dbos", "log_level": "ERROR"})
    DBOS.launch()
    try:
        asyncio.run(load())
    finally:
        DBOS.destroy()


if __name__ == "__main__":
    main()
