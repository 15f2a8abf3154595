"""A process that starts executions: some under ids of its own, some under ids that another wants as well.

Usage: store_child.py FACTORY ADDRESS NAME COUNT [--tell]   (--tell: say each accepted id, one call each)
"""

import asyncio
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from edow.store.contract import Store
from tests.conformance.store_suite import T0, load_factory, start


async def tell(store: Store, name: str, count: int) -> None:
    for number in range(count):
        id = f"{name}-{number}"
        await store.accept([start(store, id)], T0)
        print(id, flush=True)


async def race(store: Store, name: str, count: int) -> None:
    accepted = {"own": 0, "shared": 0}
    for number in range(0, count, 10):
        for kind, prefix in (("own", name), ("shared", "shared")):
            requests = [start(store, f"{prefix}-{n}") for n in range(number, number + 10)]
            answers = await store.accept(requests, T0)
            accepted[kind] += sum(each.outcome == "accepted" for each in answers)
    print(json.dumps(accepted))


async def main(factory: str, address: str, name: str, count: str, *options: str) -> None:
    store = load_factory(factory)(address)
    await store.open()
    await (tell if "--tell" in options else race)(store, name, int(count))
    await store.close()


asyncio.run(main(*sys.argv[1:]))
