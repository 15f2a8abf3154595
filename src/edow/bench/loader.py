"""A client of its own process: `python -m edow.bench.loader EXECUTIONS`, on EDOW_STORE. Prints its Round as JSON.

Where the environment names a collector, its starts are traced as those of any client are.
"""

from __future__ import annotations

import sys

import msgspec

from edow.app import System
from edow.bench.load import WARM_UP, Load
from edow.bench.workflows import three_steps
from edow.cli.session import run_async
from edow.cli.tracing import traced
from edow.client import Client


async def main(executions: int) -> None:
    with traced("bench"):
        async with System() as system, Client(store=system.store) as client:
            load = Load(client, system.store, three_steps, "bench")
            await load.run(min(WARM_UP, executions))
            made = await load.run(executions)
    sys.stdout.write(msgspec.json.encode(made).decode() + "\n")


if __name__ == "__main__":
    run_async(main(int(sys.argv[1])))
