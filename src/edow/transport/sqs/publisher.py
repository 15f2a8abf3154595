"""Publishing: batches of ten, many at once, none of them out of order for a key.

The messages of a publish are dealt to lanes, all of a FIFO group to the same one. A lane sends one batch after the
other, and ends with the first that did not arrive whole, but for what its queue will never take. What the client sends
again has the deduplication ids that it had before, by which FIFO queues drop what came twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from edow.errors import InvalidInput, PublishFailed, TransportUnavailable
from edow.model.message import Message
from edow.model.portions import portions
from edow.transport.sizes import check_sizes
from edow.transport.sqs.bodies import encode
from edow.transport.sqs.options import OVERHEAD, Options
from edow.transport.sqs.service import BATCH, Missing, Service
from edow.transport.sqs.topics import Topics

SNS_BYTES = 262_144  # a message and a batch, in SNS

Entries = list[dict[str, Any]]  # `Id`: the message's place in the publish
Unsent = dict[tuple[str, str], int]  # by target and `Id`, with their sizes


class Publisher:
    def __init__(self, service: Service, topics: Topics, options: Options) -> None:
        self._service = service
        self._topics = topics
        self._options = options

    async def publish(self, messages: Sequence[Message]) -> None:
        """See the contract. Gives up after the option `timeout`. InvalidInput also where SQS takes nothing of it."""
        check_sizes(messages, self._options.max_message_bytes)
        problems: list[str] = []
        refused: set[tuple[str, str]] = set()
        unsent: Unsent = {("", str(place)): 0 for place in range(len(messages))}
        try:
            async with asyncio.timeout(self._options.timeout):
                await self._topics.know({message.topic for message in messages})
                targets = self._deal(messages)
                unsent = {
                    (target, entry["Id"]): len(messages[int(entry["Id"])].body) + OVERHEAD
                    for target, entries in targets.items()
                    for entry in entries
                }
                lanes = [(target, lane) for target, entries in targets.items() for lane in self._lanes(entries)]
                await asyncio.gather(*(self._send(target, lane, unsent, refused, problems) for target, lane in lanes))
        except TimeoutError:
            problems.append(f"it took longer than timeout={self._options.timeout:g} seconds")
        if unsent:
            failed = tuple(sorted({int(place) for _, place in unsent}))
            said = f"{len(failed)} of {len(messages)} messages were not sent: {problems[0]}"
            if len(failed) == len(messages) and unsent.keys() <= refused:
                raise InvalidInput(said)
            raise PublishFailed(said, failed)

    def _deal(self, messages: Sequence[Message]) -> dict[str, Entries]:
        """What goes to each queue (URL) or SNS topic (ARN), in order."""
        call = uuid4().hex
        dealt: dict[str, Entries] = {}
        for place, message in enumerate(messages):
            arn = self._topics.arn(message.topic)
            if arn:
                check_sizes([message], SNS_BYTES - OVERHEAD)
            order = "none" if arn else self._options.order(message.topic)
            entry = {"Id": str(place), **encode(message, f"{call}-{place}", order)}
            if arn:
                entry["Message"] = entry.pop("MessageBody")
            for target in [arn] if arn else self._topics.queues(message.topic).values():
                dealt.setdefault(target, []).append(entry)
        return dealt

    def _lanes(self, entries: Entries) -> list[Entries]:
        count = min(self._options.concurrency, -(-len(entries) // BATCH))
        lanes: list[Entries] = [[] for _ in range(count)]
        of_group: dict[str, int] = {}
        for number, entry in enumerate(entries):
            group = str(entry.get("MessageGroupId", number))
            lanes[of_group.setdefault(group, number * count // len(entries))].append(entry)
        return lanes

    async def _send(
        self, target: str, lane: Entries, unsent: Unsent, refused: set[tuple[str, str]], problems: list[str]
    ) -> None:
        most, verb = self._options.max_request, "send_message_batch"
        if target.startswith("arn:"):
            most, verb = min(most, SNS_BYTES), "publish_batch"
        for batch in portions(lane, lambda entry: unsent[target, entry["Id"]], BATCH, most):
            try:
                faults = await self._service.batch(verb, target, batch)
            except TransportUnavailable as problem:
                problems.append(str(problem))
                if isinstance(problem, Missing):
                    self._topics.forget()
                return
            for id in {entry["Id"] for entry in batch} - {fault.id for fault in faults}:
                del unsent[target, id]
            problems += [f"{fault.code}: {fault.message}" for fault in faults[:1]]
            refused.update((target, fault.id) for fault in faults if fault.is_final)
            if not all(fault.is_final for fault in faults):
                return
