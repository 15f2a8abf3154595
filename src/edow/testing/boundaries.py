"""Every moment at which something is persisted, as a place to crash.

Wrap a store and a transport in these, and `reached` is called before and after each of their writing verbs with the
verb's name ("commit:before"). A test that kills its own process at the n-th boundary, for every n, has tried every
crash there is between two durable facts.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

from edow.model.message import Message
from edow.store.contract import Store
from edow.transport.contract import Delivery, Subscriber, Subscription, Transport

Reached = Callable[[str], None]

STORE_VERBS = frozenset(
    {
        "accept",
        "commit",
        "count_healed",
        "dead_letters_close",
        "dead_letters_purge",
        "dead_letters_set_aside",
        "leases_hold",
        "leases_release",
        "leases_share",
        "purge",
        "records_put",
    }
)


IGNORED = ("leases_share", "leases_hold", "count_healed", "purge", "dead_letters_purge", "extend")


class Countdown:
    """Kills this process with SIGKILL at boundary number `at` (from 1); with `at` 0 it only counts.

    `ignore` names verbs that recur with time and not with work: their number would differ from run to run.
    """

    def __init__(self, at: int, ignore: Sequence[str] = IGNORED) -> None:
        self.at = at
        self.count = 0
        self.names: list[str] = []
        self._ignore = frozenset(ignore)

    def __call__(self, name: str) -> None:
        if name.partition(":")[0] in self._ignore:
            return
        self.count += 1
        self.names.append(name)
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


class BoundaryStore:
    """A store whose writes are boundaries; everything else is the inner store's."""

    def __init__(self, inner: Store, reached: Reached) -> None:
        self._inner = inner
        self._reached = reached

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if name not in STORE_VERBS:
            return value
        return _around(name, value, self._reached)


class BoundaryTransport:
    """A transport whose publications and acknowledgements are boundaries."""

    def __init__(self, inner: Transport, reached: Reached) -> None:
        self._inner = inner
        self._reached = reached

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def publish(self, messages: Sequence[Message], *, durable: bool = True) -> None:
        self._reached("publish:before")
        await self._inner.publish(messages, durable=durable)
        self._reached("publish:after")

    async def subscribe(self, subscription: Subscription) -> BoundarySubscriber:
        return BoundarySubscriber(await self._inner.subscribe(subscription), self._reached)


class BoundarySubscriber:
    """A subscriber whose claims and answers are boundaries."""

    def __init__(self, inner: Subscriber, reached: Reached) -> None:
        self._inner = inner
        self._reached = reached

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def receive(self, limit: int, wait_seconds: float) -> list[Delivery]:
        deliveries = await self._inner.receive(limit, wait_seconds)
        if deliveries:
            self._reached("receive:after")
        return deliveries

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        self._reached("ack:before")
        await self._inner.ack(deliveries)
        self._reached("ack:after")

    async def nack(self, deliveries: Sequence[Delivery], delay_seconds: float = 0.0) -> None:
        self._reached("nack:before")
        await self._inner.nack(deliveries, delay_seconds)
        self._reached("nack:after")


def _around(name: str, verb: Callable[..., Any], reached: Reached) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        reached(f"{name}:before")
        result = await verb(*args, **kwargs)
        reached(f"{name}:after")
        return result

    return call
