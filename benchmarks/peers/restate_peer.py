"""Restate: its server (from npm) with its own storage, one service process behind it."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile

import aiohttp
import restate
from load import arguments, measure, process

SERVICE = "127.0.0.1:19080"
INGRESS = "http://127.0.0.1:8080"
ADMIN = "http://127.0.0.1:9070"


def application() -> object:
    """What hypercorn serves."""
    service = restate.Service("three_steps")

    async def nothing(number: int) -> int:
        return number

    @service.handler()
    async def run(ctx: restate.Context, number: int) -> int:
        for _ in range(3):
            number = await ctx.run_typed("nothing", nothing, number=number)
        return number

    return restate.app([service])


async def load() -> None:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        await register(session)

        async def one(number: int) -> None:
            async with session.post(f"{INGRESS}/three_steps/run", json=number) as answer:
                answer.raise_for_status()
                await answer.read()

        await measure(one, *arguments())


async def register(session: aiohttp.ClientSession) -> None:
    while True:
        try:
            async with session.post(f"{ADMIN}/deployments", json={"uri": f"http://{SERVICE}"}) as answer:
                if answer.ok:
                    return
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(0.3)


def main() -> None:
    bin_folder, here = os.path.dirname(sys.executable), os.path.dirname(os.path.abspath(__file__))
    with (
        tempfile.TemporaryDirectory() as folder,
        process(os.environ["PEERS_RESTATE_SERVER"], "--base-dir", folder, "--log-filter", "error"),
        process(os.path.join(bin_folder, "hypercorn"), "restate_peer:app", "--bind", SERVICE, "--root-path", here),
    ):
        asyncio.run(load())


app = application() if __name__ != "__main__" else None

if __name__ == "__main__":
    main()
