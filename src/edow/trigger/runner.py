"""The loop of event triggers, in every orchestrator's process.

It reads the topics of those that are not paused, starts what was gathered and is due, and delivers signals that came
before their execution.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import msgspec

from edow.background import LONG_SECONDS, SHORT_SECONDS, Background
from edow.errors import CallerError, Unavailable
from edow.kpi.meter import Meter
from edow.store.contract import Record, RecordFilter, Store
from edow.transport.contract import Transport
from edow.trigger import references
from edow.trigger.consumer import Consumer
from edow.trigger.events import TRIGGERS, Trigger
from edow.trigger.gathering import Gatherer
from edow.trigger.tally import Tally
from edow.trigger.waiting import Waiting
from edow.trigger.watching import on_records

log = logging.getLogger("edow.trigger")

MOST = 1000
PATIENCE_SECONDS = 1.0  # with triggers that begin: one whose broker does not answer holds up no other
REST = 20  # times as long as a look at the signals that wait: however many they are, it takes a twentieth of the time

Connect = Callable[[str], Transport]  # a URL to a transport that is not open yet; raises InvalidInput


class EventRunner:
    """Start and stop are idempotent; each duty has a `..._once` for those who drive it themselves."""

    def __init__(
        self,
        store: Store,
        transport: Transport,
        connect: Connect,
        clock: Callable[[], int],
        process: str,
        meter: Meter,
    ) -> None:
        """`transport`: the system's own, open; `process` tells this one's counts from those of others; `meter` counts
        messages.
        """
        self._meter = meter
        self._store = store
        self._own = transport
        self._connect = connect
        self._clock = clock
        self.tally = Tally(store, clock, "triggers", process)
        self._hooks = Tally(store, clock, "hooks", process)
        self._gatherer = Gatherer(store, clock, self.tally)
        self._waiting = Waiting(store, clock, {"triggers": self.tally, "hooks": self._hooks})
        self._consumers: dict[str, tuple[int, Consumer, Transport | None]] = {}  # by name: with the record's version
        self._beginning: dict[str, asyncio.Task[None]] = {}
        self._broken: dict[str, int] = {}  # versions that cannot be used here
        self._unread = False  # a trigger's topic could not be reached
        self._background = Background(
            ("edow-triggers", self._look_forever),
            ("edow-gathered", self._fire_forever),
            ("edow-signals", self._deliver_forever),
        )

    @property
    def topics(self) -> set[str]:
        """Those that are read, on the system's own transport."""
        return {consumer.trigger.topic for _, consumer, own in self._consumers.values() if own is None}

    async def start(self) -> None:
        """Begin with all of it."""
        self._background.start()
        await self.tally.start()
        await self._hooks.start()

    async def stop(self) -> None:
        """Give back what was not acknowledged, and close transports of one's own."""
        await self._background.stop()
        for task in self._beginning.values():
            task.cancel()
        await asyncio.gather(*self._beginning.values(), return_exceptions=True)
        self._beginning.clear()
        for name in list(self._consumers):
            await self._drop(name)
        await self.tally.stop()
        await self._hooks.stop()

    async def look_once(self) -> int:
        """Read the definitions: begin with what is new, end what is gone or paused; how many are being read."""
        records = await self._store.records_list(RecordFilter(TRIGGERS, limit=MOST))
        wanted = {record.key: record for record in records}
        self._unread = False
        for name, (version, _, _) in list(self._consumers.items()):
            if name not in wanted or wanted[name].version != version:
                await self._drop(name)
        for name, record in wanted.items():
            here = name in self._consumers or name in self._beginning
            if not here and self._broken.get(name) != record.version:
                self._beginning[name] = asyncio.create_task(self._begin(record), name=f"edow-trigger-{name}")
        await self._begun()
        return len(self._consumers)

    async def _begun(self) -> None:
        """Those that are quick about it; the others go on, and are looked at again."""
        if not self._beginning:
            return
        done, _ = await asyncio.wait(self._beginning.values(), timeout=PATIENCE_SECONDS)
        self._beginning = {name: task for name, task in self._beginning.items() if task not in done}
        for task in done:
            task.result()

    async def fire_once(self) -> float:
        """Start what was gathered and is due; the seconds until something will be, at most LONG_SECONDS."""
        return await self._gatherer.fire_once()

    async def deliver_once(self) -> int:
        """Deliver signals whose execution has started; how many."""
        return await self._waiting.deliver_once()

    async def _begin(self, record: Record) -> None:
        try:
            trigger = msgspec.json.decode(record.body, type=Trigger)
            if not trigger.paused:
                await self._consume(trigger, record)
        except Unavailable as problem:
            log.warning("trigger %s: %s; trying again", record.key, problem)
            self._unread = True
        except (CallerError, msgspec.DecodeError, UnicodeDecodeError) as problem:
            log.error("trigger %s cannot be used in this process: %s", record.key, problem)
            self._broken[record.key] = record.version

    async def _consume(self, trigger: Trigger, record: Record) -> None:
        transport: Transport | None = None
        try:
            if trigger.transport:
                transport = self._connect(references.read(trigger.transport).decode())
                await transport.open()
            consumer = Consumer(trigger, transport or self._own, self._store, self._clock, self.tally, self._meter)
            await consumer.start()
        except BaseException:
            if transport is not None:
                await transport.close()
            raise
        self._consumers[record.key] = (record.version, consumer, transport)

    async def _drop(self, name: str) -> None:
        _, consumer, transport = self._consumers.pop(name)
        await consumer.stop()
        if transport is not None:
            await transport.close()

    async def _look_forever(self) -> None:
        def rest(_count: int) -> float:
            return _rest(self._unread or bool(self._beginning))

        await on_records(self._store, self.look_once, "triggers were not looked at", rest)

    async def _fire_forever(self) -> None:
        trouble = "what was gathered was not started"
        await on_records(self._store, self.fire_once, trouble, lambda seconds: max(seconds, 0.01))

    async def _deliver_forever(self) -> None:
        async def look() -> float:
            began = time.monotonic()
            await self.deliver_once()
            await asyncio.sleep(max(0.0, REST * (time.monotonic() - began) - SHORT_SECONDS))  # whatever news there are
            return _rest(self._waiting.any)

        await on_records(self._store, look, "signals that wait were not delivered", lambda seconds: seconds)


def _rest(busy: bool) -> float:
    return SHORT_SECONDS if busy else LONG_SECONDS
