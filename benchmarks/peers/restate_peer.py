"""Restate: its server (from npm) with its own storage, and a Python service behind it.

The server runs with its defaults (24 partitions, up to 1,000 invocations at once). The service is served by Hypercorn
with the production settings of Restate's manual and one worker per core.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import aiohttp
import restate
from load import Process, free_port, measure, process, ready, run

SETTINGS = """
bind = "127.0.0.1:{port}"
workers = {workers}
worker_class = "uvloop"
h2_max_concurrent_streams = 2147483647
keep_alive_max_requests = 2147483647
keep_alive_timeout = 2147483647
"""

three_steps = restate.Service("three_steps")


async def nothing(number: int) -> int:
    return number


@three_steps.handler()
async def execute(ctx: restate.Context, number: int) -> int:
    for _ in range(3):
        number = await ctx.run_typed("nothing", nothing, number=number)
    return number


app = restate.app([three_steps])


async def load(folder: Path) -> None:
    node, ingress, admin, service = (free_port() for _ in range(4))
    environment = {
        "RESTATE_BIND_ADDRESS": f"127.0.0.1:{node}",
        "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress}",
        "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
        "RESTATE_DISABLE_TELEMETRY": "true",
    }
    settings = folder / "hypercorn.toml"
    settings.write_text(SETTINGS.format(port=service, workers=os.cpu_count() or 1))
    server = (os.environ["PEERS_RESTATE_SERVER"], "--base-dir", str(folder), "--no-logo", "--log-filter", "error")
    hypercorn = (sys.executable, "-m", "hypercorn", "--config", str(settings), "restate_peer:app")
    with (
        process("restate-server", *server, environment=environment) as one,
        process("restate-service", *hypercorn) as other,
    ):
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            await register(session, f"http://127.0.0.1:{admin}", f"http://127.0.0.1:{service}", one, other)
            url = f"http://127.0.0.1:{ingress}/three_steps/execute"

            async def one_execution(number: int) -> None:
                async with session.post(url, json=number) as answer:
                    answer.raise_for_status()
                    await answer.read()

            await measure(one_execution)


async def register(session: aiohttp.ClientSession, admin: str, service: str, *processes: Process) -> None:
    async def registered() -> bool:
        try:
            async with session.post(f"{admin}/deployments", json={"uri": service}) as answer:
                return answer.ok
        except aiohttp.ClientError:
            return False

    await ready(registered, *processes)


def main() -> None:
    with tempfile.TemporaryDirectory(dir=os.environ["PEERS_DATA"]) as folder:
        run(load(Path(folder)))


if __name__ == "__main__":
    main()
