"""Publishing: batches of ten, many at once, none of them out of order for a key.

The messages of a publish are dealt to lanes, all of a FIFO group to the same one. A lane sends one batch after the
other, and ends with the first that did not arrive whole. What the client sends again has the deduplication ids that it
had before, by which FIFO queues drop what came twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from uuid import uuid4

from edow.errors import InvalidInput, PublishFailed, TransportUnavailable
from edow.model.message import Message
from edow.transport.sqs.bodies import Entry, encode
from edow.transport.sqs.options import OVERHEAD, Options
from edow.transport.sqs.service import BATCH, Service, gather
from edow.transport.sqs.topics import Topics

SNS_BYTES = 262_144  # a message and a batch, in SNS


class Lane(NamedTuple):
    """What is sent one after the other to a queue (URL) or an SNS topic (ARN)."""

    target: str
    entries: list[Entry]


class Publisher:
    def __init__(self, service: Service, topics: Topics, options: Options) -> None:
        self._service = service
        self._topics = topics
        self._options = options

    async def publish(self, messages: Sequence[Message]) -> None:
        """See the contract. Gives up after the option `timeout`."""
        for place, message in enumerate(messages):
            _check_size(place, message, self._options.max_message_bytes)
        problems: list[str] = []
        unsent = {("", place) for place in range(len(messages))}
        try:
            async with asyncio.timeout(self._options.timeout):
                await self._topics.know({message.topic for message in messages})
                lanes = self._deal(messages)
                unsent = {(lane.target, entry.place) for lane in lanes for entry in lane.entries}
                await gather(self._send(lane, unsent, problems) for lane in lanes)
        except TimeoutError:
            problems.append(f"it took longer than timeout={self._options.timeout:g} seconds")
        if unsent:
            failed = tuple(sorted({place for _, place in unsent}))
            raise PublishFailed(f"{len(failed)} of {len(messages)} messages were not sent: {problems[0]}", failed)

    def _deal(self, messages: Sequence[Message]) -> list[Lane]:
        call = uuid4().hex
        dealt: dict[str, list[Entry]] = {}
        for place, message in enumerate(messages):
            arn = self._topics.arn(message.topic)
            if arn:
                _check_size(place, message, SNS_BYTES - OVERHEAD)
            order = "none" if arn else self._options.order(message.topic)
            entry = encode(place, f"{call}-{place}", message, order)
            for target in [arn] if arn else self._topics.queues(message.topic).values():
                dealt.setdefault(target, []).append(entry)
        return [lane for target, entries in dealt.items() for lane in self._lanes(target, entries)]

    def _lanes(self, target: str, entries: Sequence[Entry]) -> list[Lane]:
        count = min(self._options.concurrency, -(-len(entries) // BATCH))
        lanes = [Lane(target, []) for _ in range(count)]
        of_group: dict[str, int] = {}
        for number, entry in enumerate(entries):
            lane = of_group.setdefault(entry.group or entry.id, number * count // len(entries))
            lanes[lane].entries.append(entry)
        return lanes

    async def _send(self, lane: Lane, unsent: set[tuple[str, int]], problems: list[str]) -> None:
        through_sns = lane.target.startswith("arn:")
        verb = "publish_batch" if through_sns else "send_message_batch"
        most = min(self._options.max_request, SNS_BYTES) if through_sns else self._options.max_request
        for batch in _batches(lane.entries, most):
            try:
                faults = await self._service.batch(verb, lane.target, [each.parameters(through_sns) for each in batch])
            except TransportUnavailable as problem:
                problems.append(str(problem))
                return
            failed = {int(fault.id) for fault in faults}
            unsent.difference_update((lane.target, each.place) for each in batch if each.place not in failed)
            if faults:
                problems.append(f"{faults[0].code}: {faults[0].message}")
                return


def _batches(entries: Sequence[Entry], most: int) -> Iterator[list[Entry]]:
    """As many as a request may have, in number and in bytes."""
    batch: list[Entry] = []
    for entry in entries:
        if len(batch) == BATCH or (batch and sum(each.size for each in batch) + entry.size > most):
            yield batch
            batch = []
        batch.append(entry)
    if batch:
        yield batch


def _check_size(place: int, message: Message, most: int) -> None:
    if len(message.body) > most:
        raise InvalidInput(
            f"message {place} to {message.topic!r} has {len(message.body):,} bytes, the limit is {most:,}: "
            "store the payload elsewhere and send a reference"
        )
