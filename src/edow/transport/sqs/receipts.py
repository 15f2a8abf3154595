"""Acknowledging and prolonging: receipts in batches of ten, many batches at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence

from edow.errors import TransportUnavailable
from edow.transport.sqs.hand import SqsDelivery
from edow.transport.sqs.service import Patience, Rejected, Service, chunks, gather

MOST_PENDING = 5000  # acknowledgements that may wait for the service

log = logging.getLogger("edow.transport.sqs")

Change = tuple[SqsDelivery, int]


class Receipts:
    """Of one subscriber. What is to be deleted waits for no one: what comes while a round is under way is the next."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._pending: list[SqsDelivery] = []
        self._deleting: asyncio.Task[None] | None = None

    def delete(self, deliveries: Iterable[SqsDelivery]) -> None:
        """Soon. Tried again until the lease has ended; then the message comes again."""
        self._pending += deliveries
        if self._deleting is None:
            self._deleting = asyncio.create_task(self._delete_all(), name="edow-sqs-acks")

    async def room(self) -> None:
        """Wait until not too many are waiting."""
        if len(self._pending) > MOST_PENDING:
            await self.flush()

    async def flush(self) -> None:
        """Wait until none is waiting."""
        if self._deleting is not None:
            await asyncio.wait([self._deleting])

    async def close(self) -> None:
        """Those that are waiting are forgotten."""
        if self._deleting is not None:
            self._deleting.cancel()
            await asyncio.wait([self._deleting])

    async def change(self, changes: Sequence[Change]) -> list[SqsDelivery]:
        """Set for how many seconds from now messages are kept from others; those that are not ours any more."""
        return [
            lost
            for batches in await gather(
                self._change(url, batch) for url, mine in _by_queue(changes) for batch in chunks(mine)
            )
            for lost in batches
        ]

    async def _change(self, url: str, batch: Sequence[Change]) -> list[SqsDelivery]:
        entries = [
            {"Id": str(place), "ReceiptHandle": each.receipt, "VisibilityTimeout": seconds}
            for place, (each, seconds) in enumerate(batch)
        ]
        faults = await self._service.batch("sqs", "change_message_visibility_batch", QueueUrl=url, Entries=entries)
        return [batch[int(fault.id)][0] for fault in faults if fault.sender_fault]

    async def _delete_all(self) -> None:
        patience = Patience()
        while self._pending:
            pending, self._pending = self._pending, []
            work = [(url, batch) for url, mine in _by_queue([(each, 0) for each in pending]) for batch in chunks(mine)]
            again = [each for left in await gather(self._delete(url, batch) for url, batch in work) for each in left]
            now = asyncio.get_running_loop().time()
            self._pending += [each for each in again if each.until > now]
            if again:
                await patience.pause()
        self._deleting = None

    async def _delete(self, url: str, batch: Sequence[Change]) -> list[SqsDelivery]:
        """Those to be tried again."""
        entries = [{"Id": str(place), "ReceiptHandle": each.receipt} for place, (each, _) in enumerate(batch)]
        try:
            faults = await self._service.batch("sqs", "delete_message_batch", QueueUrl=url, Entries=entries)
        except Rejected as problem:
            log.warning("%d messages could not be acknowledged, they come again: %s", len(batch), problem)
            return []
        except TransportUnavailable as problem:
            log.debug("%d messages could not be acknowledged yet: %s", len(batch), problem)
            return [each for each, _ in batch]
        return [batch[int(fault.id)][0] for fault in faults if not fault.sender_fault]


def _by_queue(changes: Sequence[Change]) -> Iterable[tuple[str, list[Change]]]:
    grouped: dict[str, list[Change]] = {}
    for change in changes:
        grouped.setdefault(change[0].queue, []).append(change)
    return grouped.items()
