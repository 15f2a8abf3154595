"""The second process of the ceiling: `python -m edow.bench.peer STORE BATCH`. It ends when it is told to."""

from __future__ import annotations

import sys

from edow.app import System
from edow.bench.bare import answer
from edow.cli.session import run_async


async def main(store: str, batch: int) -> None:
    async with System(store) as system:
        print("peer: ready", flush=True)  # as Service.ready expects it
        await answer(system, batch)


if __name__ == "__main__":
    run_async(main(sys.argv[1], int(sys.argv[2])))
