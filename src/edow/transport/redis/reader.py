"""What the subscribers of all modes have in common: one fetch at a time, which outlives a cancelled receive.

A fetch waits inside Redis, on a connection of its own, for at most `POLL_SECONDS`. While the server is away it is tried
again and again, more and more slowly; a receive just yields nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable

from edow.errors import Closed, TransportUnavailable
from edow.transport.contract import Delivery
from edow.transport.redis.deliveries import RedisDelivery
from edow.transport.redis.link import Link
from edow.transport.redis.topics import Topics

POLL_SECONDS = 1.0  # longest time that a fetch waits: a safety net, the server wakes it
SHORTEST_WAIT = 0.001  # to Redis, waiting for no time means for ever
PATIENCE_SECONDS = 0.5  # that a receive waits longer than it was asked to for an answer that is on its way
GRACE_SECONDS = 0.002  # that a fetch may take longer than it was told to wait
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0  # seconds before the server is tried again

log = logging.getLogger("edow.transport.redis")


class Reader:
    """A subscriber. Subclasses fetch, and know what becomes of deliveries."""

    def __init__(self, link: Link, topics: Topics, member: str, name: str) -> None:
        self._link = link
        self._line = link.line(member)
        self._topics = topics
        self._name = name  # for people
        self._ready: deque[RedisDelivery] = deque()  # fetched, not handed out yet: at most what one fetch brings
        self._fetching: asyncio.Task[None] | None = None
        self._ends_at = 0.0  # loop time at which the fetch has waited enough, if it waits
        self._poked: asyncio.Future[None] | None = None
        self._more = True  # there may be something at once
        self._due: float | None = None  # loop time at which there may be
        self._pause = 0.0
        self._closed = False

    @property
    def is_closed(self) -> bool:
        return self._closed

    async def receive(self, limit: int, wait_seconds: float) -> list[Delivery]:
        """See the contract."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_seconds
        asked = False
        if self._closed:
            raise Closed("this subscriber is closed: subscribe again")
        while not self._closed:
            if ready := self._take(limit):
                return ready
            left = deadline - loop.time()
            if self._fetching is None and (left > 0 or not asked):
                patience = self._patience(left)
                self._ends_at = loop.time() + patience if patience else 0.0
                self._fetching = asyncio.create_task(self._fetch_once(limit, patience))
                asked = True
            elif left <= 0:
                break
            await self._rest(left + PATIENCE_SECONDS)
        return []

    async def close(self) -> None:
        raise NotImplementedError

    async def _fetch(self, limit: int, seconds: float) -> None:
        """Add to `_ready`; wait for up to `seconds` if there is nothing. Sets `_more` and `_due`."""
        raise NotImplementedError

    def _take(self, limit: int) -> list[Delivery]:
        return [self._ready.popleft() for _ in range(min(limit, len(self._ready)))]

    def _patience(self, left: float) -> float:
        """How long the next fetch may wait."""
        if self._more:
            return 0.0
        due = POLL_SECONDS if self._due is None else self._due - asyncio.get_running_loop().time()
        return max(0.0, min(left, POLL_SECONDS, due))

    async def _rest(self, seconds: float) -> None:
        """Until the fetch ends, somebody pokes, or the time is over."""
        left = self._ends_at + GRACE_SECONDS - asyncio.get_running_loop().time()
        if self._fetching is None or not 0 < left < seconds:
            await self._ended(seconds)
        elif not await self._ended(left):
            await self._nudge()
            await self._ended(seconds - left)
        if self._fetching is not None and self._fetching.done():
            fetching, self._fetching = self._fetching, None
            if not fetching.cancelled():  # `close` does that
                fetching.result()

    async def _ended(self, seconds: float) -> bool:
        """Whether the fetch did, or somebody poked, within the time."""
        self._poked = self._poked or asyncio.get_running_loop().create_future()
        waiting: list[asyncio.Future[None]] = [self._poked] if self._fetching is None else [self._poked, self._fetching]
        done, _ = await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if self._poked.done():
            self._poked = None
        return bool(done)

    async def _nudge(self) -> None:
        """A server that nobody talks to looks at its clock ten times a second only; any command makes it look."""
        try:
            await self._link.ask(("PING",))
        except TransportUnavailable:
            pass

    def _poke(self) -> None:
        """Something happened here that a receive should look at."""
        if self._poked is not None and not self._poked.done():
            self._poked.set_result(None)

    async def _end_fetch(self, seconds: float = 0.0) -> None:
        """Give the fetch so long to end by itself."""
        fetching = self._fetching
        if fetching is None:
            return
        await asyncio.wait([fetching], timeout=seconds)
        if not fetching.done():
            fetching.cancel()
            await asyncio.wait([fetching])
        if not fetching.cancelled():
            fetching.exception()  # nobody will ask for it

    async def _fetch_once(self, limit: int, seconds: float) -> None:
        try:
            await self._fetch(limit, seconds)
        except TransportUnavailable as problem:
            if not self._closed:
                await self._broken(problem)
            return
        if self._pause:
            log.info("%s: Redis is back", self._name)
        self._pause = 0.0

    async def _broken(self, problem: TransportUnavailable) -> None:
        if not self._pause:
            log.warning("%s: %s; trying again", self._name, problem)
        self._more = True
        self._pause = min(2 * self._pause or FIRST_PAUSE, LONGEST_PAUSE)
        await asyncio.sleep(self._pause)

    async def _gone(self, names: Iterable[str], group: str) -> None:
        """The server has lost our topics. Somebody may have made them again without the group, which he did not know;
        and since we have published to them, it is not among what we remember either.
        """
        log.warning("%s: Redis has lost its topics, making them again", self._name)
        await self._topics.restore()
        await self._topics.join(names, group)
        self._more = True
