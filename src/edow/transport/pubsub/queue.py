"""One subscription as a subscriber reads it: the requests about it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from google.api_core.exceptions import GoogleAPICallError, ServiceUnavailable
from google.pubsub_v1 import SubscriberAsyncClient
from google.pubsub_v1.types import AcknowledgeRequest, ModifyAckDeadlineRequest, PullRequest, PullResponse

from edow.transport.pubsub.link import FIRST_PAUSE_SECONDS, Link

PULL_SECONDS = 600.0  # the service answers long before: what it sent at the very end of this would be lost for a while
MOST_PULLED = 1_000
MOST_IDS = 1_000  # in one request, which may have 512 KiB
INVALID = "PERMANENT_"  # what a subscription with exactly-once delivery says of a message that is no longer ours


class Queue:
    """`remake` makes the subscription again when it is gone, or says that it cannot."""

    def __init__(self, link: Link, topic: str, path: str, number: int, remake: Callable[[], Awaitable[bool]]) -> None:
        self.topic = topic
        self.path = path
        self.number = number
        self.remake = remake
        self.pulls: set[asyncio.Task[None]] = set()
        self.pause = FIRST_PAUSE_SECONDS
        self._link = link
        self._reader: SubscriberAsyncClient | None = link.reader()
        self._pull: Any = PullRequest.pb()
        self._acknowledge: Any = AcknowledgeRequest.pb()
        self._modify: Any = ModifyAckDeadlineRequest.pb()

    async def pull(self, most: int) -> Sequence[Any]:
        """Wait for messages; none is normal. Raises GoogleAPICallError, Closed."""
        request = PullRequest.wrap(self._pull(subscription=self.path, max_messages=min(most, MOST_PULLED)))
        reader = self._reader
        assert reader is not None
        response = await self._link.once(lambda left: reader.pull(request, retry=None, timeout=left), PULL_SECONDS)
        found: Sequence[Any] = PullResponse.pb(response).received_messages
        return found

    async def acknowledge(self, ids: Sequence[str], seconds: float | None = None) -> set[str]:
        """Those that were not ours any more, as far as the service says."""

        async def call(some: Sequence[str], left: float) -> None:
            request = AcknowledgeRequest.wrap(self._acknowledge(subscription=self.path, ack_ids=some))
            await self._link.subscriber.acknowledge(request, retry=None, timeout=left)

        return await self._all(call, ids, seconds)

    async def modify(self, ids: Sequence[str], deadline: int, seconds: float | None = None) -> set[str]:
        """The service takes them back after so many seconds; 0: now. Those that were not ours any more."""

        async def call(some: Sequence[str], left: float) -> None:
            request = ModifyAckDeadlineRequest.wrap(
                self._modify(subscription=self.path, ack_ids=some, ack_deadline_seconds=deadline)
            )
            await self._link.subscriber.modify_ack_deadline(request, retry=None, timeout=left)

        return await self._all(call, ids, seconds)

    def close(self) -> None:
        """Idempotent."""
        reader, self._reader = self._reader, None
        if reader is not None:
            self._link.release(reader)

    async def _all(
        self, call: Callable[[Sequence[str], float], Awaitable[None]], ids: Sequence[str], seconds: float | None
    ) -> set[str]:
        """In as many requests as it takes, one after the other so that the order of a key is kept."""
        lost: set[str] = set()
        for start in range(0, len(ids), MOST_IDS):
            lost |= await self._some(call, ids[start : start + MOST_IDS], seconds)
        return lost

    async def _some(
        self, call: Callable[[Sequence[str], float], Awaitable[None]], ids: Sequence[str], seconds: float | None
    ) -> set[str]:
        """With exactly-once delivery a request may succeed for some and fail for others: those are asked for again."""
        lost: set[str] = set()
        rest = list(ids)

        async def ask(left: float) -> None:
            nonlocal rest
            try:
                await call(rest, left)
            except GoogleAPICallError as problem:
                reasons = problem.metadata or {}
                failed = [each for each in rest if each in reasons]
                if not failed:
                    raise
                lost.update(each for each in failed if reasons[each].startswith(INVALID))
                rest = [each for each in failed if each not in lost]
                if rest:
                    raise ServiceUnavailable(problem.message) from problem  # type: ignore[no-untyped-call]

        await self._link.call(ask, seconds)
        return lost
