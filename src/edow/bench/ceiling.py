"""Measures the ceiling next to a scenario, in two processes or in one, on a store of its own on the same disk."""

from __future__ import annotations

import asyncio

from edow.app import System
from edow.bench.bare import Bare, Traffic, answer
from edow.bench.model import MODULES, Place
from edow.testing.processes import Fleet


async def ceiling(place: Place, traffic: Traffic) -> float:
    """Steps per second through the bare store, by two processes."""
    async with (
        place.another() as own,
        Fleet(MODULES, own.store, own.folder, own.transport) as fleet,
        System(own.store, own.transport) as system,
    ):
        peer = await fleet.spawn("peer", ["-m", "edow.bench.peer", str(traffic.batch)])
        await peer.ready()
        seconds = await fleet.during(Bare(system, traffic).run())
        await peer.kill()
    return traffic.executions * traffic.steps / seconds


async def ceiling_in_one_process(place: Place, traffic: Traffic) -> float:
    """The same with both sides on one event loop."""
    async with place.another() as own, System(own.store, own.transport) as system:
        sides = answering, asking = (
            asyncio.create_task(answer(system, traffic.batch)),
            asyncio.create_task(Bare(system, traffic).run()),
        )
        try:
            await asyncio.wait(sides, return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                answering.result()  # it ends only by failing, and the other side would wait for ever
            seconds = asking.result()
        finally:
            for side in sides:
                side.cancel()
            await asyncio.gather(*sides, return_exceptions=True)
    return traffic.executions * traffic.steps / seconds
