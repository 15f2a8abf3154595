"""The second process of the ceiling: `python -m edow.bench.peer BATCH`, on EDOW_STORE and EDOW_TRANSPORT. It ends when
it is told to.
"""

from __future__ import annotations

import sys

from edow.app import System
from edow.bench.bare import answer
from edow.cli.session import run_async


async def main(batch: int) -> None:
    async with System() as system:
        print("peer: ready", flush=True)  # as Service.ready expects it
        await answer(system, batch)


if __name__ == "__main__":
    run_async(main(int(sys.argv[1])))
