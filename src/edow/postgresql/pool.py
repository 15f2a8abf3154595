"""A few connections, made when they are needed. Whatever is left in an unknown state is thrown away.

They are used in last-in-first-out order, so that those which an idle system does not need are closed after a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection  # generic only for type checkers

IDLE_SECONDS = 60.0
CLOSE_SECONDS = 5.0


class Pool:
    """At most `size` connections, each used by one caller at a time. For one event loop."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]], size: int) -> None:
        self._connect = connect
        self._size = size
        self._room = asyncio.Semaphore(size)
        self._idle: list[tuple[Connection, float]] = []
        self._closing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def take(self) -> AsyncIterator[Connection]:
        """One to use; it comes back as it was unless the block fails in a way that leaves it in doubt."""
        async with self._room:
            connection = self._pop() or await self._connect()
            try:
                yield connection
            except asyncpg.PostgresError:
                self._keep(connection)  # the server has answered, and waits for the next question
                raise
            except BaseException:
                connection.terminate()
                raise
            self._keep(connection)

    async def close(self) -> None:
        """Waits for those in use, for a while."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                for _ in range(self._size):
                    await self._room.acquire()
        except TimeoutError:
            pass
        for connection, _ in self._idle:
            self._dismiss(connection)
        self._idle.clear()
        if self._closing:
            await asyncio.wait(self._closing)

    def _pop(self) -> Connection | None:
        while self._idle:
            connection, _ = self._idle.pop()
            if not connection.is_closed():
                return connection
            connection.terminate()
        return None

    def _keep(self, connection: Connection) -> None:
        if connection.is_closed():
            connection.terminate()
            return
        now = asyncio.get_running_loop().time()
        self._idle.append((connection, now))
        if now - self._idle[0][1] > IDLE_SECONDS:
            self._dismiss(self._idle.pop(0)[0])

    def _dismiss(self, connection: Connection) -> None:
        task = asyncio.create_task(dismiss(connection), name="edow-postgresql-close")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


async def dismiss(connection: Connection) -> None:
    """Say good-bye, or just go."""
    try:
        await connection.close(timeout=CLOSE_SECONDS)
    except Exception:
        connection.terminate()
