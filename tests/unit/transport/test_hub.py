"""How a process hears of PostgreSQL's news: channels that come late, and news that are on their way at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from edow.postgresql.hub import Hub, prefix_of

PREFIX = prefix_of("edow")
PATIENCE = 30.0


class Line:
    """A connection to a server on which whatever is notified is heard. `go`: it may be told what to listen to."""

    def __init__(self) -> None:
        self.listeners: dict[str, Callable[..., None]] = {}
        self.asked = asyncio.Event()
        self.go = asyncio.Event()

    def add_termination_listener(self, tell: object) -> None: ...

    async def add_listener(self, name: str, hear: Callable[..., None]) -> None:
        self.asked.set()
        await self.go.wait()
        self.listeners[name] = hear

    async def fetchval(self, sql: str) -> int:
        return 7

    def get_server_pid(self) -> int:
        return 7

    async def execute(self, sql: str, names: list[str], payload: str) -> None:
        for name in names:
            self.hear(name, payload)

    def hear(self, name: str, payload: str) -> None:
        if name in self.listeners:
            self.listeners[name](self, 7, name, payload)

    async def close(self, timeout: float) -> None: ...


async def nobody(sql: str, names: list[str], payload: str) -> None: ...


async def test_a_channel_that_is_added_while_listening_begins_is_listened_to():
    """Whoever subscribes just when the connection is made (again) hears of others' news as everybody does."""
    line = Line()

    async def connect() -> Any:
        return line

    hub = Hub(connect, False, nobody, "edow", 3600.0)
    starting = asyncio.create_task(hub.start(["early"]))
    async with asyncio.timeout(PATIENCE):
        await line.asked.wait()
        await hub.listen(["late"])
        line.go.set()
        await starting
        assert hub.listens
        watch = hub.watch(["late"])
        line.hear(f"{PREFIX}late", "somebody else")
        assert watch.take()
        await hub.close()


async def test_what_is_being_told_at_the_end_is_told():
    """A start that was accepted just before its process ends is not found by looking alone."""
    told: list[str] = []
    begun, go = asyncio.Event(), asyncio.Event()

    async def say(sql: str, names: list[str], payload: str) -> None:
        begun.set()
        await go.wait()
        told.extend(names)

    hub = Hub(None, False, say, "edow", 3600.0)
    async with asyncio.timeout(PATIENCE):
        await hub.start([])
        hub.notify(["inbox"])
        await begun.wait()
        closing = asyncio.create_task(hub.close())
        await asyncio.sleep(0)  # it has begun
        hub.notify(["ended"])
        go.set()
        await closing
    assert told == [f"{PREFIX}inbox", f"{PREFIX}ended"]
