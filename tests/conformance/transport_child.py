"""A process that receives messages and then does nothing with them, for ever: it is there to be killed.

Usage: transport_child.py FACTORY ADDRESS TOPIC GROUP COUNT LEASE_SECONDS
"""

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from edow.transport.contract import Subscription
from tests.conformance.transport_suite import load_factory, take


async def main(factory: str, address: str, topic: str, group: str, numbers: tuple[int, float]) -> None:
    count, lease_seconds = numbers
    transport = load_factory(factory)(address)
    await transport.open()
    subscriber = await transport.subscribe(Subscription(topics=(topic,), group=group, lease_seconds=lease_seconds))
    held = await take(subscriber, count)
    print(f"received {len(held)}", flush=True)
    await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:5], (int(sys.argv[5]), float(sys.argv[6]))))
