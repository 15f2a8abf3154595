"""EDOW, measured as its peers are: by a client that waits for every result. Orchestrator and worker are processes.

Store and transport are in PEERS_STORE and PEERS_TRANSPORT; without them everything is in one SQLite file.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from load import measure, run

from edow.bench.cluster import processes
from edow.bench.model import Place
from edow.bench.workflows import three_steps
from edow.client import Handle

BATCH = 500


async def load(folder: Path) -> None:
    given = os.environ.get("PEERS_STORE"), os.environ.get("PEERS_TRANSPORT")
    async with Place.on(given, folder) as place, processes(place) as cluster:

        async def one(number: int) -> int:
            return await (await cluster.client.start(three_steps, number)).result()

        async def many(first: int, ended: Callable[[], None]) -> None:
            async def see_through(handle: Handle[int]) -> None:
                await handle.result()
                ended()

            handles = await cluster.client.start_many(three_steps, [(first + each,) for each in range(BATCH)])
            await handles[-1].result()  # by then most have ended, and one read finds them
            await asyncio.gather(*map(see_through, handles))

        await cluster.fleet.during(measure(one, many, BATCH))


def main() -> None:
    with tempfile.TemporaryDirectory(dir=os.environ["PEERS_DATA"]) as folder:
        run(load(Path(folder)))


if __name__ == "__main__":
    main()
