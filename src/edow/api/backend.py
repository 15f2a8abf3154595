"""What all routes of one application share: the open store and transport, a client on them, and the limits.

Opened by the application's lifespan or, where whoever mounts it passes none on, by its first request.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager

from edow.api.limits import RateLimit
from edow.api.problems import Refused
from edow.api.settings import Settings
from edow.app import System, now
from edow.client import Client
from edow.client.actor import Actor
from edow.errors import Unsupported
from edow.store.contract import Store
from edow.transport.contract import Transport
from edow.trigger.hooks import HookDesk
from edow.workflow.registry import Registry


class Backend:
    """`store` and `transport`: URLs to open and close, or open ones of the caller's own."""

    store: Store
    transport: Transport | None
    client: Client
    hooks: HookDesk

    def __init__(
        self, store: str | Store | None, transport: str | Transport | None, registry: Registry, settings: Settings
    ) -> None:
        self.registry = registry
        self.settings = settings
        self.limit = RateLimit(settings.rate, settings.burst, time.monotonic)
        self.waiting = 0  # requests that wait for a result
        self._given = store, transport
        self._opening = asyncio.Lock()
        self._opened = False
        self._stack = AsyncExitStack()

    async def open(self) -> None:
        """Idempotent. Raises Unavailable; the next call tries again."""
        if self._opened:
            return
        async with self._opening:
            if not self._opened:
                async with AsyncExitStack() as stack:
                    await self._connect(stack)
                    self._stack = stack.pop_all()
                self._opened = True

    async def close(self) -> None:
        """Idempotent; what was given open stays open."""
        self._opened = False
        await self._stack.aclose()

    def acting_as(self, actor: Actor) -> Client:
        """A client for one request."""
        return self.client.acting_as(actor)

    @contextmanager
    def room_to_wait(self) -> Iterator[None]:
        """For as long as a request waits. Raises Refused when so many wait that one more is too many."""
        if self.waiting >= self.settings.most_waiting:
            raise Refused(429, "too many requests wait for a result; try again later", {"Retry-After": "1"})
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1

    def carrier(self) -> Transport:
        """The transport. Raises Unsupported where the application was given none."""
        if self.transport is None:
            raise Unsupported("this application was given a store of its caller's own but no transport; give it both")
        return self.transport

    async def _connect(self, stack: AsyncExitStack) -> None:
        store, transport = self._given
        if store is None or isinstance(store, str):
            url = transport if isinstance(transport, str) else None
            system = await stack.enter_async_context(System(store, url, self.registry))
            store, transport = system.store, system.transport if url or transport is None else transport
        self.store = store
        self.transport = None if isinstance(transport, str) else transport
        self.client = await stack.enter_async_context(Client(store=store))
        self.hooks = HookDesk(store, now, secrets.token_hex(4))
        stack.push_async_callback(self.hooks.tally.stop)
        await self.hooks.tally.start()
