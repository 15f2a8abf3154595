"""Back-pressure: while workers, the broker or the store hold things up, work waits on disk and not in memory.

A system that may keep little is given far more than that while something stands still. What it holds is counted all
the time, and weighed where nobody has thought of counting; in the end every execution has its result.
"""

from __future__ import annotations

import asyncio
import gc
import re
import threading
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import edow
from edow.app import System
from edow.orchestrator import Orchestrator
from edow.testing.erasing import erase
from edow.testing.polling import until
from edow.worker.worker import Worker
from tests.conformance.transports import url_of
from tests.integration.system import QUICK, registry_of

SECONDS = 120.0  # a machine that does other things too
LOAD = 150  # executions
SIZE = 60_000  # bytes of the argument of each, and of its task's result
MOST_GROWTH = 2 * LOAD * SIZE  # two loads, kept once
BATCH = 5
SMALL: dict[str, Any] = {**QUICK, "batch": BATCH, "hot": 2 * BATCH}
FEW: dict[str, Any] = {"threads": 4, "prefetch": 8, "batch": BATCH, "unpublished": BATCH, "topics": ("default",)}
TRIES = 4  # connections that a broker refuses while it is away
IN_HAND = FEW["threads"] + FEW["prefetch"]

pytestmark = pytest.mark.timeout(300)
opened = threading.Event()  # the gate that tasks wait at


@edow.task(timeout="10m")
def echo(text: str) -> str:
    opened.wait()
    return text


@edow.workflow
async def measure(text: str) -> int:
    return len(await echo(text))


REGISTRY = registry_of({"echo": echo, "measure": measure})


@pytest.fixture(autouse=True)
def gate() -> Iterator[threading.Event]:
    """Open, unless a test shuts it."""
    opened.set()
    yield opened
    opened.set()


class Pressed:
    """A system in one process that may keep little of anything, and an eye on whether it does."""

    def __init__(self, system: System, client: edow.Client) -> None:
        self.system = system
        self.orchestrator: Orchestrator = system.orchestrator(**SMALL)
        self.worker: Worker = system.worker(**FEW, grace_seconds=0.1)
        self._client = client
        self._handles: list[edow.Handle[int]] = []
        self._before = 0
        self._eye: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.orchestrator.start()
        await self.worker.start()
        await self.orchestrator.ready.wait()
        self._eye = asyncio.create_task(self._look_on())
        tracemalloc.start()
        self._before = _held()

    async def stop(self) -> None:
        tracemalloc.stop()
        assert self._eye is not None
        self._eye.cancel()
        await asyncio.gather(self._eye, return_exceptions=True)
        await self.worker.stop()
        await self.orchestrator.stop()

    async def load(self) -> None:
        """As many executions more. A client that starts them is never kept waiting."""
        first = len(self._handles)
        texts = (str(number).ljust(SIZE) for number in range(first, first + LOAD))
        self._handles += await self._client.start_many(measure, ((text,) for text in texts))

    async def decided(self) -> None:
        """Until everything that was started has been looked at, and what was decided is done."""

        async def empty() -> bool:
            counts = await self.system.store.counts(0)
            return counts.inbox == 0 and not self.orchestrator._decider.exceeds(self.orchestrator._cycle.room)

        await self.seen(empty)

    async def seen(self, what: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(SECONDS):
            await until(what)
        self.check()

    def small(self) -> None:
        """What Python holds, wherever, is less than all this would be."""
        self.check()
        grown = _held() - self._before
        assert grown < MOST_GROWTH, f"{grown:,} bytes after {len(self._handles)} executions of {SIZE:,}"

    async def ended(self) -> None:
        """Every execution, as it should."""
        tracemalloc.stop()  # it makes everything slower
        async with asyncio.timeout(SECONDS):
            assert {await handle.result() for handle in self._handles} == {SIZE}
        self.check()

    def check(self) -> None:
        """Raises what the eye has seen."""
        assert self._eye is not None
        if self._eye.done():
            self._eye.result()

    async def _look_on(self) -> None:
        while True:
            inputs, stats = self.orchestrator._inputs, self.worker.stats()
            assert len(inputs._taken) <= 4 * BATCH
            assert len(inputs._deliveries._inputs) <= 2 * BATCH
            assert len(self.orchestrator._decider._hot) <= SMALL["hot"] + 2 * BATCH
            assert stats.running + stats.waiting <= IN_HAND
            assert stats.unpublished <= FEW["unpublished"] + IN_HAND
            await asyncio.sleep(0.01)


def _held() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@asynccontextmanager
async def pressed(
    folder: Path, transport: str = "", change: Callable[[System], None] = lambda system: None
) -> AsyncIterator[Pressed]:
    url = transport or f"sqlite:///{folder}/transport.db"
    store = f"sqlite:///{folder}/store.db"
    async with System(store, url, REGISTRY) as system, edow.Client(store=system.store) as client:
        change(system)
        here = Pressed(system, client)
        await here.start()
        try:
            yield here
        finally:
            opened.set()
            await here.stop()


async def test_slow_workers(tmp_path: Path, gate: threading.Event):
    """Tasks that nobody takes wait at the broker, and the orchestrator puts the executions down that wait for them."""
    gate.clear()
    async with pressed(tmp_path) as here:
        for _ in range(2):
            await here.load()
            await here.decided()
            here.small()
        gate.set()
        await here.ended()


class Slow:
    """A store of which commits wait while it is not `free`."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.free = asyncio.Event()
        self.free.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def commit(self, commit: Any) -> Any:
        await self.free.wait()
        return await self._inner.commit(commit)


def slow(system: System) -> None:
    system.store = Slow(system.store)  # type: ignore[assignment]


async def test_a_slow_store(tmp_path: Path, gate: threading.Event):
    """While a commit takes its time, commands wait in the store and results at the broker."""
    gate.clear()
    async with pressed(tmp_path, change=slow) as here:
        store: Any = here.system.store

        async def answered() -> bool:
            return here.worker.stats().published >= LOAD

        async def waits() -> bool:
            return here.orchestrator._inputs._commands.full

        await here.load()
        await here.decided()
        store.free.clear()
        gate.set()
        await here.seen(answered)
        here.small()
        await here.load()
        await here.seen(waits)
        here.small()
        store.free.set()
        await here.ended()


class Cable:
    """A way to a server that can be pulled out: then it ends every connection, and each new one at once."""

    def __init__(self, host: str, port: int) -> None:
        self._there = host, port
        self._ways: set[asyncio.Task[None]] = set()
        self._pulled = False
        self.tried = asyncio.Semaphore(0)  # released for each connection that is refused

    async def __aenter__(self) -> Cable:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.pull()
        self._server.close()
        await asyncio.gather(*self._ways, return_exceptions=True)

    def pull(self) -> None:
        self._pulled = True
        for way in self._ways:
            way.cancel()

    def plug(self) -> None:
        self._pulled = False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._pulled:
            self.tried.release()
            writer.transport.abort()
            return
        way = asyncio.ensure_future(self._pass_on(reader, writer))
        self._ways.add(way)
        way.add_done_callback(self._ways.discard)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, here = await asyncio.open_connection(*self._there)
        copying = [asyncio.ensure_future(each) for each in (_copy(reader, here), _copy(there, writer))]
        try:
            await asyncio.wait(copying, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in copying:
                each.cancel()
            await asyncio.gather(*copying, return_exceptions=True)
            for stream in (writer, here):
                stream.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while some := await reader.read(65_536):
        writer.write(some)
        await writer.drain()


@pytest.mark.parametrize("server", ["RABBITMQ", "REDIS", "NATS", "PUBSUB"])
async def test_a_broker_that_is_away(tmp_path: Path, gate: threading.Event, server: str):
    """What is started meanwhile waits in the store, and what was done is held by a worker that takes nothing more; when
    the broker is back it is used again, with nobody's help.
    """
    url = url_of(server, tmp_path)
    found = re.search(r"(127\.0\.0\.1|localhost):(\d+)", url)
    assert found is not None
    gate.clear()
    async with Cable(found[1], int(found[2])) as cable:
        try:
            async with pressed(tmp_path, url.replace(found[0], f"127.0.0.1:{cable.port}")) as here:

                async def taken() -> bool:
                    return here.worker.stats().running == FEW["threads"]

                await here.load()
                await here.decided()
                await here.seen(taken)
                here.small()
                cable.pull()
                gate.set()
                await here.load()
                async with asyncio.timeout(SECONDS):
                    for _ in range(TRIES):
                        await cable.tried.acquire()
                here.small()
                cable.plug()
                await here.ended()
        finally:
            await erase(url, ["default"])
