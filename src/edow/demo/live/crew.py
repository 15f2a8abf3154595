"""The processes of the live demo: one orchestrator and some workers, each replaced a moment after it has died.

Whoever killed it: the page's button or a person with `kill -9`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from edow.demo.live.part import Counted
from edow.testing.processes import Fleet, Role, Service

RESPAWN_SECONDS = 1.0  # long enough to be seen, as with any supervisor
WORKERS = 3

log = logging.getLogger("edow.demo")


class Member(msgspec.Struct):
    """One place in the crew, and the process that fills it now."""

    role: Role
    service: Service
    killed: int = 0  # processes that have died in this place

    @property
    def name(self) -> str:
        return f"{self.role} {self.service.number}"


class Crew:
    """`said` is told what happens; `died` and `replaced` when a process has ended and when there is a new one."""

    def __init__(self, fleet: Fleet, folder: Path, said: Callable[[str, str], None]) -> None:
        self.members: list[Member] = []
        self.replaced = asyncio.Event()  # for whoever waits for the next change
        self._fleet = fleet
        self._folder = folder
        self._said = said
        self._watching: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        await self._fill("orchestrator")
        for _ in range(WORKERS):
            await self._fill("worker")

    async def stop(self) -> None:
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        await self._fleet.stop()

    def alive(self, role: Role) -> list[Member]:
        return [member for member in self.members if member.role == role and member.service.alive]

    @property
    def complete(self) -> bool:
        return all(member.service.alive for member in self.members)

    async def kill(self, role: Role) -> str | None:
        """SIGKILL the oldest that lives; who it was."""
        found = self.alive(role)
        if not found:
            return None
        victim = min(found, key=lambda member: member.service.number)
        await victim.service.kill()
        return str(victim.service)

    def counted(self) -> Counted:
        """What all of them have published, the dead included."""
        total = Counted()
        for path in self._folder.glob("counts-*.json"):
            try:
                part = msgspec.json.decode(path.read_bytes(), type=Counted)
            except (OSError, msgspec.MsgspecError):
                continue  # it is being replaced
            for name in Counted.__struct_fields__:
                setattr(total, name, getattr(total, name) + getattr(part, name))
        return total

    async def _fill(self, role: Role) -> None:
        service = await self._spawn(role)
        member = Member(role, service)
        self.members.append(member)
        task = asyncio.create_task(self._watch(member))
        self._watching.add(task)

    async def _spawn(self, role: Role) -> Service:
        service = await self._fleet.spawn(role, ["-m", "edow.demo.live.part", role])
        self._said(f"started {service}", "plain")
        return service

    async def _watch(self, member: Member) -> None:
        while True:
            await member.service.ended()
            member.killed += 1
            if not member.service.expected_to_end:
                self._said(f"{member.service} ended by itself or was killed by somebody", "bad")
            await asyncio.sleep(RESPAWN_SECONDS)
            member.service = await self._spawn(member.role)
