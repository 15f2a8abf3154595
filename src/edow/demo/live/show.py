"""Drives the live demo: starts orders at a rate and documents in portions, breaks what people press, and measures."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Coroutine, Iterable
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple

from edow.client import Client, Handle
from edow.demo import documents, shop
from edow.demo.live.crew import Crew
from edow.demo.live.flow import index_portion
from edow.demo.live.part import DOUBLING
from edow.demo.live.truth import Truth
from edow.demo.live.watcher import Watcher
from edow.demo.orders import Confirmation, fulfil
from edow.demo.payments import PaymentService
from edow.errors import Closed, EdowError, Failed
from edow.model import topics
from edow.model.message import Message
from edow.transport.contract import Transport

RATES = (2, 5, 10, 20)  # orders a second that people may choose
PORTION = 20  # documents
PORTION_SECONDS = 6.0
MOST_OPEN = 3_000  # orders: while the payment API is down for long, no more are started
TICK_SECONDS = 0.05
POISON = b"\xff\xfe not a task event: undecodable \x00 bytes"

log = logging.getLogger("edow.demo")


def now_us() -> int:
    return time.time_ns() // 1000


class Happening(NamedTuple):
    """One line of what people see happen."""

    at: int
    text: str
    mood: str


class Props(NamedTuple):
    """What the show needs, opened and closed around it."""

    client: Client
    transport: Transport
    crew: Crew
    payments: PaymentService
    truth: Truth
    folder: Path
    source: Path


class Show:
    """`press` is what the buttons do. `token` must come with every press."""

    def __init__(self, props: Props, happenings: deque[Happening], rate: int = 5) -> None:
        self._client, self._transport, self.crew, self.payments, self.truth, self._folder, self._source = props
        self.happenings = happenings
        self.rate = rate
        self.token = secrets.token_urlsafe(24)
        self.watcher = Watcher(now_us)
        self.portions = 0
        self.lag: int | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._numbers = count()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._orders())
                group.create_task(self._documents())
                group.create_task(self._measure())
                group.create_task(self._chart())
        finally:
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def say(self, text: str, mood: str = "plain") -> None:
        self.happenings.appendleft(Happening(now_us(), text, mood))

    # ── the buttons ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def kill_worker(self) -> None:
        self._killed("a worker was killed", await self.crew.kill("worker"))

    async def kill_orchestrator(self) -> None:
        self._killed("the orchestrator was killed", await self.crew.kill("orchestrator"))

    async def switch_doubling(self) -> None:
        """Every message that any process publishes from now on is published twice; or not any more."""
        switch = self._folder / DOUBLING
        if self.doubling:
            switch.unlink(missing_ok=True)
            self.say("messages are published once again", "good")
        else:
            switch.touch()
            self.say("every message is published twice from now on", "bad")

    async def poison(self) -> None:
        """Bytes that no worker can decode, on the topic where tasks wait."""
        topic = topics.task_topic("default")
        await self._transport.publish([Message(topic, POISON)])
        self.say(f"{len(POISON)} undecodable bytes were published to {topic}", "bad")

    async def switch_payments(self) -> None:
        if self.payments.up:
            await self.payments.stop()
            self.watcher.broken("the payment API is down", lasting=True)
            self.say(f"the payment API at {self.payments.url} refuses connections", "bad")
        else:
            await self.payments.start()
            self.watcher.mended()
            self.say("the payment API answers again", "good")

    @property
    def doubling(self) -> bool:
        return (self._folder / DOUBLING).exists()

    def _killed(self, what: str, victim: str | None) -> None:
        if victim is None:
            self.say("there is none alive to kill: its replacement is on its way", "plain")
            return
        self.say(f"kill -9 {victim}", "bad")
        if self.payments.up:  # else that incident goes on
            self.watcher.broken(what)

    # ── work ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _orders(self) -> None:
        """In small batches, at the rate that was chosen."""
        due, last = 0.0, time.monotonic()
        while True:
            now = time.monotonic()
            due, last = min(due + self.rate * (now - last), 2.0 * self.rate), now
            if due >= 1 and len(self.watcher.open) < MOST_OPEN:
                orders = [shop.make_order(number) for number in islice(self._numbers, int(due))]
                due -= len(orders)
                ids = [order.id for order in orders]
                self.watcher.started(ids)
                handles = await self._client.start_many(fulfil, [(order,) for order in orders], ids)
                for order, handle in zip(orders, handles, strict=True):
                    self._spawn(self._order(handle, list(shop.effects_of(order))))
            await asyncio.sleep(0.2)

    async def _order(self, handle: Handle[Confirmation], expected: list[str]) -> None:
        try:
            await handle.result()
            self.truth.ended(expected)
        except Failed as problem:  # somebody has cancelled or terminated it
            self.say(str(problem))
        self.watcher.finished(handle.id)

    async def _documents(self) -> None:
        """The standard library, a portion now and then; first one with a file that nobody can decode."""
        paths = await asyncio.to_thread(lambda: sorted(documents.python_files(str(self._source))))
        broken = sorted(str(path) for path in (self._folder / "samples").iterdir())[:1]
        portions = [[*broken, *paths[:5]], *_portions(paths[5:], PORTION)]
        for number, portion in enumerate(portions, 1):
            name = f"documents-{number:04}"
            handle = await self._client.start(index_portion.with_options(id=name), portion)
            self.portions += 1
            self._spawn(self._portion(handle, [f"index {path}" for path in portion]))
            await asyncio.sleep(PORTION_SECONDS)

    async def _portion(self, handle: Handle[int], expected: list[str]) -> None:
        try:
            await handle.result()
            self.truth.ended(expected)
        except Failed as problem:
            self.say(str(problem))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task: asyncio.Task[None] = asyncio.create_task(_quietly(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ── measuring ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _measure(self) -> None:
        while True:
            self.truth.look()
            for incident in self.watcher.settle(self.crew.complete):
                first, all_of_it = (incident.first_progress or 0) / 1e6, (incident.recovery or 0) / 1e6
                self.say(
                    f"recovered ({incident.name}): first progress after {first:.2f} s, and all that was open had ended "
                    f"after {all_of_it:.2f} s",
                    "good",
                )
            await asyncio.sleep(TICK_SECONDS)

    async def _chart(self) -> None:
        while True:
            self.lag = await self._lag()
            self.watcher.tick(self.lag)
            await asyncio.sleep(1.0)

    async def _lag(self) -> int | None:
        """Tasks that wait for a worker."""
        if not self._transport.features.waiting:
            return None
        try:
            found = await self._transport.describe([topics.task_topic("default")])
        except EdowError:
            return self.lag
        return sum(group.waiting for topic in found for group in topic.groups)


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    """At the end the client is closed under those who wait."""
    try:
        await work
    except Closed:
        pass
    except EdowError as problem:
        log.warning("%s", problem)


def _portions(paths: list[str], size: int) -> Iterable[list[str]]:
    return (paths[start : start + size] for start in range(0, len(paths), size))
