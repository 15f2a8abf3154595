"""What goes wrong in a run. A fault returns once everything is whole again, as far as whoever broke it can tell."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager
from random import Random

import msgspec

from edow.testing.processes import Role, Service
from edow.testing.stage import Stage
from scripts.failures.network import SIDES, Host, Side
from scripts.failures.place import Place
from scripts.servers import Box

OUT_SECONDS = 30.0  # how long whatever comes back stays away
SLOW_SECONDS = 20.0
SLOW_BEAT = (0.4, 0.1)  # seconds: a slow database stands still, then moves
RESTARTS_EVERY = (5.0, 40.0)  # seconds, of the published test that `chaos` repeats
REPLACED_AFTER = 6.0  # longer than a lease: the others have to take over first
JOINING = 2


class Crew(msgspec.Struct, frozen=True):
    """The processes. `spread` waits until the shards are spread evenly over these orchestrators."""

    alive: Callable[[Role], list[Service]]
    start: Callable[[Role], Awaitable[Service]]
    spread: Callable[[Collection[Service]], Coroutine[None, None, None]]
    hosts: Mapping[int, Host]  # by process id


class Scene(msgspec.Struct, frozen=True):
    """All that a fault can act on. `over` is set when nothing is left to disturb. Within `broken` something is."""

    crew: Crew
    place: Place
    stage: Stage
    chance: Random
    over: asyncio.Event
    broken: Callable[[], AbstractContextManager[None]]


class Fault(msgspec.Struct, frozen=True):
    """`broker`: it needs one. `networked`: it needs hosts of their own. `executions`, where another test says so."""

    act: Callable[[Scene], Awaitable[None]]
    help: str
    broker: bool = False
    networked: bool = False
    executions: int | None = None


# ── processes ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def kill_orchestrator(scene: Scene) -> None:
    await _kill(scene, "orchestrator")
    await scene.crew.spread(scene.crew.alive("orchestrator"))
    await _start(scene, "orchestrator")


async def kill_worker(scene: Scene) -> None:
    await _kill(scene, "worker")
    await asyncio.sleep(REPLACED_AFTER)
    await _start(scene, "worker")


async def _kill(scene: Scene, role: Role) -> None:
    victim = scene.chance.choice(scene.crew.alive(role))
    with scene.broken():
        await victim.kill()
    scene.stage.say(f"kill -9 {victim}", "loud")


async def _start(scene: Scene, role: Role) -> None:
    newcomer = await scene.crew.start(role)
    await newcomer.ready()
    scene.stage.say(f"{newcomer} has joined")
    if role == "orchestrator":
        await scene.crew.spread(scene.crew.alive(role))


async def freeze_orchestrator(scene: Scene) -> None:
    """It loses its leases while it is stopped, and must notice when it goes on."""
    everybody = scene.crew.alive("orchestrator")
    victim = scene.chance.choice(everybody)
    with scene.broken():
        os.kill(victim.pid, signal.SIGSTOP)
    scene.stage.say(f"SIGSTOP {victim} for {OUT_SECONDS:g} s", "loud")
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(OUT_SECONDS))
            group.create_task(scene.crew.spread([each for each in everybody if each is not victim]))
    finally:
        os.kill(victim.pid, signal.SIGCONT)
    scene.stage.say(f"SIGCONT {victim}")
    await scene.crew.spread(everybody)


async def scale_orchestrators(scene: Scene) -> None:
    """Some join; then as many of those that were there first leave."""
    for _ in range(JOINING):
        with scene.broken():
            await _start(scene, "orchestrator")
    for leaving in scene.crew.alive("orchestrator")[:JOINING]:
        with scene.broken():
            await leaving.stop()
        scene.stage.say(f"{leaving} has left", "loud")
        await scene.crew.spread(scene.crew.alive("orchestrator"))


async def slow_workers(scene: Scene) -> None:
    """None of them does anything for a while."""
    workers = scene.crew.alive("worker")
    scene.stage.say(f"SIGSTOP all workers for {OUT_SECONDS:g} s", "loud")
    with scene.broken():
        await _stopped(workers, OUT_SECONDS)
    scene.stage.say("SIGCONT all workers")


async def _stopped(services: Sequence[Service], seconds: float) -> None:
    for service in services:
        os.kill(service.pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        for service in services:
            os.kill(service.pid, signal.SIGCONT)


# ── servers ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def restart_broker(scene: Scene) -> None:
    await _restart(scene, _needed(scene.place.broker))


async def restart_database(scene: Scene) -> None:
    await _restart(scene, scene.place.database)


async def chaos(scene: Scene) -> None:
    """The database restarts again and again; now and then it is killed instead."""
    while not scene.over.is_set():
        await _restart(scene, scene.place.database, kill=scene.chance.random() < 0.5)
        try:
            async with asyncio.timeout(scene.chance.uniform(*RESTARTS_EVERY)):
                await scene.over.wait()
        except TimeoutError:
            pass


async def broker_away(scene: Scene) -> None:
    broker = _needed(scene.place.broker)
    scene.stage.say(f"{broker.server.TITLE} stops for {OUT_SECONDS:g} s", "loud")
    with scene.broken():
        await asyncio.to_thread(broker.stop)
        try:
            await asyncio.sleep(OUT_SECONDS)
        finally:
            await asyncio.to_thread(broker.start)
    scene.stage.say(f"{broker.server.TITLE} is back")


async def slow_database(scene: Scene) -> None:
    """It does a fifth of what it could."""
    database, (still, moving) = scene.place.database, SLOW_BEAT
    scene.stage.say(f"{database.server.TITLE} is slow for {SLOW_SECONDS:g} s", "loud")
    with scene.broken():
        for _ in range(round(SLOW_SECONDS / (still + moving))):
            await asyncio.to_thread(database.pause)
            try:
                await asyncio.sleep(still)
            finally:
                await asyncio.to_thread(database.resume)
            await asyncio.sleep(moving)
    scene.stage.say(f"{database.server.TITLE} is as fast as before")


async def _restart(scene: Scene, box: Box, *, kill: bool = False) -> None:
    scene.stage.say(f"{box.server.TITLE} {'is killed' if kill else 'stops'}", "loud")
    with scene.broken():
        await asyncio.to_thread(box.kill if kill else box.stop)
        await asyncio.to_thread(box.start)
    scene.stage.say(f"{box.server.TITLE} is back")


def _needed(broker: Box | None) -> Box:
    assert broker is not None, "such a run is refused before it begins"
    return broker


# ── the network ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def cut_broker(scene: Scene) -> None:
    await _cut(scene, ["broker"])


async def cut_database(scene: Scene) -> None:
    await _cut(scene, ["database"])


async def cut_both(scene: Scene) -> None:
    await _cut(scene, SIDES)


async def _cut(scene: Scene, sides: Sequence[Side]) -> None:
    everybody = scene.crew.alive("orchestrator")
    victim = scene.chance.choice(everybody)
    host = scene.crew.hosts[victim.pid]
    scene.stage.say(f"{victim} is cut off from the {' and the '.join(sides)} for {OUT_SECONDS:g} s", "loud")
    with scene.broken():
        for side in sides:
            await asyncio.to_thread(host.unplug, side)
        try:
            await asyncio.sleep(OUT_SECONDS)
        finally:
            for side in sides:
                await asyncio.to_thread(host.plug, side)
    scene.stage.say(f"{victim} is back")
    await scene.crew.spread(everybody)


FAULTS: dict[str, Fault] = {
    "kill-orchestrator": Fault(kill_orchestrator, "`kill -9` of one of three orchestrators"),
    "kill-worker": Fault(kill_worker, "`kill -9` of one of three workers"),
    "freeze-orchestrator": Fault(freeze_orchestrator, f"SIGSTOP of an orchestrator, SIGCONT {OUT_SECONDS:g} s later"),
    "restart-broker": Fault(restart_broker, "the broker restarts", broker=True),
    "restart-database": Fault(restart_database, "PostgreSQL restarts"),
    "chaos": Fault(
        chaos, "PostgreSQL restarts every {:g} to {:g} s, or is killed".format(*RESTARTS_EVERY), executions=5_000
    ),
    "cut-broker": Fault(
        cut_broker, f"an orchestrator's host is cut off from the broker for {OUT_SECONDS:g} s", True, True
    ),
    "cut-database": Fault(cut_database, "the same, from the database", networked=True),
    "cut-both": Fault(cut_both, "the same, from both", True, True),
    "scale-orchestrators": Fault(scale_orchestrators, "two orchestrators join, two others leave"),
    "slow-workers": Fault(slow_workers, f"all workers stand still for {OUT_SECONDS:g} s"),
    "slow-database": Fault(slow_database, f"PostgreSQL does a fifth of its work for {SLOW_SECONDS:g} s"),
    "broker-away": Fault(broker_away, f"the broker is away for {OUT_SECONDS:g} s", broker=True),
}
