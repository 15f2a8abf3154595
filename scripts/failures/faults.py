"""What goes wrong in a run. A fault returns once the system is whole again, as far as whoever broke it can tell."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from random import Random

import msgspec

from edow.errors import InvalidInput
from edow.testing.processes import Fleet, Role
from edow.testing.stage import Stage
from scripts.failures.place import Place
from scripts.servers import Box

FROZEN_SECONDS = 30.0
RESTARTS_EVERY = (5.0, 40.0)  # seconds, of the published test that `chaos` repeats
REPLACED_AFTER = 6.0  # longer than a lease: the others have to take over first


class Scene(msgspec.Struct, frozen=True):
    """All that a fault can act on. `over` is set when nothing is left to disturb; each time that something breaks,
    `struck` is told.
    """

    fleet: Fleet
    place: Place
    stage: Stage
    chance: Random
    over: asyncio.Event
    struck: Callable[[], None]


Fault = Callable[[Scene], Awaitable[None]]


async def kill_orchestrator(scene: Scene) -> None:
    await _kill(scene, "orchestrator")


async def kill_worker(scene: Scene) -> None:
    await _kill(scene, "worker")


async def _kill(scene: Scene, role: Role) -> None:
    victim = scene.chance.choice(scene.fleet.alive(role))
    scene.struck()
    await victim.kill()
    scene.stage.say(f"kill -9 {victim}", "loud")
    await asyncio.sleep(REPLACED_AFTER)
    replacement = await scene.fleet.start(role)
    await replacement.ready()
    scene.stage.say(f"replaced by {replacement}")


async def freeze_orchestrator(scene: Scene) -> None:
    """It loses its leases while it is stopped, and must notice when it goes on."""
    victim = scene.chance.choice(scene.fleet.alive("orchestrator"))
    scene.struck()
    os.kill(victim.pid, signal.SIGSTOP)
    scene.stage.say(f"SIGSTOP {victim} for {FROZEN_SECONDS:g} s", "loud")
    try:
        await asyncio.sleep(FROZEN_SECONDS)
    finally:
        os.kill(victim.pid, signal.SIGCONT)
    scene.stage.say(f"SIGCONT {victim}")


async def restart_broker(scene: Scene) -> None:
    await _restart(scene, _needed(scene.place.broker, "broker"))


async def restart_database(scene: Scene) -> None:
    await _restart(scene, _needed(scene.place.database, "database"))


async def chaos(scene: Scene) -> None:
    """The database restarts again and again."""
    database = _needed(scene.place.database, "database")
    while not scene.over.is_set():
        await _restart(scene, database)
        try:
            async with asyncio.timeout(scene.chance.uniform(*RESTARTS_EVERY)):
                await scene.over.wait()
        except TimeoutError:
            pass


async def _restart(scene: Scene, box: Box) -> None:
    scene.struck()
    scene.stage.say(f"{box.server.TITLE} stops", "loud")
    await asyncio.to_thread(box.restart)
    scene.stage.say(f"{box.server.TITLE} is back")


def _needed(box: Box | None, what: str) -> Box:
    if box is None:
        raise InvalidInput(f"this run has no {what} of its own to restart: choose another --store or --transport")
    return box


FAULTS: dict[str, Fault] = {
    "kill-orchestrator": kill_orchestrator,
    "kill-worker": kill_worker,
    "freeze-orchestrator": freeze_orchestrator,
    "restart-broker": restart_broker,
    "restart-database": restart_database,
    "chaos": chaos,
}
