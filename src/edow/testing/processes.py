"""Real orchestrator and worker processes, started, killed with SIGKILL and replaced by whoever drives them.

Promises that a killed process is reaped when `kill` returns, that one which ends unasked is reported with the end
of its log, and that none is left behind. Knows nothing of what the processes do.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from edow.errors import EdowError
from edow.testing.polling import until

T = TypeVar("T")
Role = Literal["orchestrator", "worker"]

STOP_SECONDS = 15.0  # longer than the grace that a worker gives its tasks
READY = b": ready"
LOG_TAIL = 2_000  # characters


class ServiceDied(EdowError):
    """A supervised process ended though nobody had asked it to."""


class Service:
    """One process. `number` counts the processes of its role, so that people can tell a replacement from the first."""

    def __init__(self, role: str, number: int, process: asyncio.subprocess.Process, log: Path) -> None:
        self.role = role
        self.number = number
        self.log = log
        self.expected_to_end = False
        self._process = process

    def __str__(self) -> str:
        return f"{self.role} {self.number} (pid {self.pid})"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.expected_to_end = True
        if self.alive:
            self._process.kill()
        await self._process.wait()

    async def stop(self) -> None:
        """SIGTERM; SIGKILL if that does not help."""
        self.expected_to_end = True
        if self.alive:
            self._process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            await self.kill()

    async def ended(self) -> int:
        """Its exit code, once there is one."""
        return await self._process.wait()

    async def ready(self) -> None:
        """Until it has said that it serves; not needed for correctness, but for timing."""

        async def said() -> bool:
            return READY in self.log.read_bytes() or not self.alive

        await until(said)

    def tail(self) -> str:
        """The end of what it wrote to its log."""
        return self.log.read_text("utf-8", "replace")[-LOG_TAIL:].strip()


class Fleet:
    """The services of one system. Use as `async with`; leaving it ends them all."""

    def __init__(
        self,
        targets: Sequence[str],
        store: str,
        folder: Path,
        transport: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`targets` are the modules that orchestrators and workers load; logs go to `folder`."""
        self._targets = targets
        self._folder = folder
        # URLs hold secrets, and everybody may read the arguments of a process.
        urls = {"EDOW_STORE": store, "EDOW_TRANSPORT": transport or ""}
        self._environment = {**os.environ, "EDOW_DEBUG": "1", **urls, **(environment or {})}  # tracebacks in the logs
        self._services: list[Service] = []
        self._counts: dict[str, int] = {}
        self._watchers: set[asyncio.Task[None]] = set()
        self._died: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def alive(self, role: Role) -> list[Service]:
        """Those that run now, oldest first."""
        return [service for service in self._services if service.role == role and service.alive]

    async def start(self, role: Role, *options: str, within: Sequence[str] = ()) -> Service:
        """One more, by the command that people use. `within` runs it elsewhere: `ip netns exec HOST`."""
        return await self.spawn(role, ["-m", "edow", role, *self._targets, *options], within)

    async def spawn(self, role: str, arguments: Sequence[str], within: Sequence[str] = ()) -> Service:
        """One more process of this Python."""
        number = self._counts[role] = self._counts.get(role, 0) + 1
        log = self._folder / f"{role}-{number}.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *within,
                sys.executable,
                *arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment,
                start_new_session=True,  # Ctrl-C in the terminal is the driver's to handle
            )
        service = Service(role, number, process, log)
        self._services.append(service)
        watcher = asyncio.create_task(self._watch(service))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)
        return service

    async def stop(self) -> None:
        """End all of them; idempotent."""
        async with asyncio.TaskGroup() as group:
            for service in self._services:
                group.create_task(service.stop())
        await asyncio.gather(*self._watchers)

    async def kill(self) -> None:
        """SIGKILL all of them."""
        async with asyncio.TaskGroup() as group:
            for service in self._services:
                group.create_task(service.kill())

    async def during(self, work: Coroutine[Any, Any, T]) -> T:
        """The outcome of `work`; raises ServiceDied as soon as a process ends unasked."""
        working = asyncio.create_task(work)
        both: list[asyncio.Future[Any]] = [working, self._died]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                self._died.result()
            return await working
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    async def _watch(self, service: Service) -> None:
        code = await service.ended()
        if service.expected_to_end or self._died.done():
            return
        tail = service.tail() or "(its log is empty)"
        self._died.set_exception(ServiceDied(f"{service} ended by itself with code {code}; its log ends with\n{tail}"))
        self._died.exception()  # retrieved: whether anybody still waits does not matter


class Memory:
    """What a process holds, in megabytes: now, and at most so far. Zeros where the system does not tell."""

    def __init__(self, pid: int) -> None:
        lines = _status_of(pid)
        self.now_mb = lines.get("VmRSS", 0) / 1024
        self.peak_mb = max(lines.get("VmHWM", 0) / 1024, self.now_mb)

    @classmethod
    def of_this_process(cls) -> Memory:
        return cls(os.getpid())


def _status_of(pid: int) -> dict[str, int]:
    """Kilobytes by name: from /proc on Linux, else from `ps`."""
    try:
        text = Path(f"/proc/{pid}/status").read_text("ascii", "replace")
    except OSError:
        return _resident_by_ps(pid)
    pairs = (line.split(":", 1) for line in text.splitlines() if line.startswith("Vm"))
    return {name: int(value.split()[0]) for name, value in pairs}


def _resident_by_ps(pid: int) -> dict[str, int]:
    try:
        answer = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=False)
    except OSError:
        return {}
    return {"VmRSS": int(answer.stdout)} if answer.stdout.strip().isdigit() else {}
