"""Publishing: batches of ten, many at once, none of them out of order for a key.

The messages of a publish are dealt to lanes, all of a FIFO group to the same one. A lane sends one batch after the
other, and goes on when all of a batch has arrived or been given up; after that, nothing more of a group that has
failed. Each attempt to send a message carries the same deduplication id, by which FIFO queues drop what came twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from uuid import uuid4

from edow.errors import InvalidInput, PublishFailed, TransportUnavailable
from edow.model.message import Message
from edow.transport.sqs.bodies import Entry, encode
from edow.transport.sqs.catalog import Catalog, Target
from edow.transport.sqs.options import OVERHEAD, SNS_BYTES, Options, Order
from edow.transport.sqs.service import BATCH, Fault, Missing, Patience, Rejected, Service, gather


class Publisher:
    def __init__(self, service: Service, catalog: Catalog, options: Options) -> None:
        self._service = service
        self._catalog = catalog
        self._options = options

    async def publish(self, messages: Sequence[Message]) -> None:
        """See the contract. Gives up after the option `timeout`."""
        for index, message in enumerate(messages):
            self._check_size(index, message, self._options.max_message_bytes)
        pending = dict.fromkeys(range(len(messages)), 1)
        reasons: list[str] = []
        try:
            async with asyncio.timeout(self._options.timeout):
                try:
                    await self._catalog.know({message.topic for message in messages})
                except TransportUnavailable as problem:
                    raise PublishFailed(str(problem), tuple(pending)) from problem
                lanes = [lane for target, mine in self._deal(messages, pending) for lane in self._lanes(target, mine)]
                await gather(self._send_lane(target, entries, pending, reasons) for target, entries in lanes)
        except TimeoutError:
            reasons.append(f"it took longer than timeout={self._options.timeout:g} seconds")
        if failed := tuple(index for index, count in pending.items() if count):
            raise PublishFailed(f"{len(failed)} of {len(messages)} messages were not sent: {reasons[-1]}", failed)

    def _deal(self, messages: Sequence[Message], pending: dict[int, int]) -> Iterator[tuple[Target, list[Entry]]]:
        """The entries for each target, in order. `pending`: by message, how many targets have not got it."""
        call = uuid4().hex
        dealt: dict[Target, list[Entry]] = {}
        for index, message in enumerate(messages):
            targets = self._catalog.targets(message.topic)
            pending[index] = len(targets)
            for target in targets:
                entry = encode(index, f"{call}-{index}", message, target.order)
                self._check_entry(entry, message, target)
                dealt.setdefault(target, []).append(entry)
        yield from dealt.items()

    def _lanes(self, target: Target, entries: Sequence[Entry]) -> Iterable[tuple[Target, list[Entry]]]:
        count = min(self._options.concurrency, -(-len(entries) // BATCH))
        lanes: list[list[Entry]] = [[] for _ in range(count)]
        of_group: dict[str, int] = {}
        for place, entry in enumerate(entries):
            lanes[of_group.setdefault(entry.group, place * count // len(entries))].append(entry)
        return ((target, lane) for lane in lanes if lane)

    async def _send_lane(
        self, target: Target, entries: Sequence[Entry], pending: dict[int, int], reasons: list[str]
    ) -> None:
        broken: set[str] = set()
        for batch in self._batches(target, entries):
            failed = await self._send(target, [entry for entry in batch if entry.group not in broken], reasons)
            for entry in batch:
                if entry.group not in broken and entry.id not in failed:
                    pending[entry.index] -= 1
            broken |= {entry.group for entry in batch if entry.id in failed}

    def _batches(self, target: Target, entries: Sequence[Entry]) -> Iterator[list[Entry]]:
        """As many as a request may have, in number and in bytes."""
        most = min(self._options.max_request, SNS_BYTES) if target.api == "sns" else self._options.max_request
        batch: list[Entry] = []
        size = 0
        for entry in entries:
            if batch and (len(batch) == BATCH or size + entry.size > most):
                yield batch
                batch, size = [], 0
            batch.append(entry)
            size += entry.size
        if batch:
            yield batch

    async def _send(self, target: Target, batch: list[Entry], reasons: list[str]) -> set[str]:
        """The ids of those that the service does not take; waits for one that does not answer."""
        patience, refused = Patience(), set[str]()
        while batch:
            try:
                faults = await self._request(target, batch)
            except Missing as problem:
                reasons.append(str(problem))
                self._catalog.forget()
                return refused | {entry.id for entry in batch}
            except Rejected as problem:
                reasons.append(str(problem))
                return refused | {entry.id for entry in batch}
            except TransportUnavailable as problem:
                reasons.append(str(problem))
            else:
                reasons += [f"{fault.code}: {fault.message}" for fault in faults]
                by_place = {int(fault.id): fault for fault in faults}
                refused |= {batch[place].id for place, fault in by_place.items() if fault.sender_fault}
                batch = [batch[place] for place, fault in by_place.items() if not fault.sender_fault]
                if not batch:
                    break
            await patience.pause()
        return refused

    async def _request(self, target: Target, batch: Sequence[Entry]) -> list[Fault]:
        entries = [_parameters(place, entry, target) for place, entry in enumerate(batch)]
        if target.api == "sns":
            return await self._service.batch(
                "sns", "publish_batch", TopicArn=target.where, PublishBatchRequestEntries=entries
            )
        return await self._service.batch("sqs", "send_message_batch", QueueUrl=target.where, Entries=entries)

    def _check_entry(self, entry: Entry, message: Message, target: Target) -> None:
        if target.api == "sns":
            self._check_size(entry.index, message, SNS_BYTES - OVERHEAD)
        if entry.size > self._options.max_request:
            raise InvalidInput(
                f"message {entry.index} to {message.topic!r} has a key that takes "
                f"{entry.size - len(message.body):,} bytes: use a shorter one"
            )

    def _check_size(self, index: int, message: Message, most: int) -> None:
        if len(message.body) > most:
            raise InvalidInput(
                f"message {index} to {message.topic!r} has {len(message.body):,} bytes, the limit is {most:,}: "
                "store the payload elsewhere and send a reference"
            )


def _parameters(place: int, entry: Entry, target: Target) -> dict[str, object]:
    text = "Message" if target.api == "sns" else "MessageBody"
    parameters: dict[str, object] = {"Id": str(place), text: entry.text}
    if entry.attributes:
        parameters["MessageAttributes"] = entry.attributes
    if target.order is not Order.NONE:
        parameters["MessageGroupId"] = entry.group
        parameters["MessageDeduplicationId"] = entry.id
    return parameters
