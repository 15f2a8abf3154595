"""What a group has told the broker: where it is in each partition. Asked and told with a consumer of that group.

The administrator of librdkafka could do this for any group, and ends the process when a coordinator has moved
(librdkafka#5040, #5397).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from confluent_kafka import Consumer, KafkaException, TopicPartition

from edow.transport.kafka.partition import Place, Progress, read_progress
from edow.transport.kafka.problems import Lines, error_of, translate
from edow.transport.kafka.settings import Config

Result = TypeVar("Result")


class Desk:
    """`config`: of a consumer in a group. A consumer is made for each question: there are few, and it takes little."""

    def __init__(self, config: Callable[[str], Config], seconds: float, address: str) -> None:
        self._config = config
        self._seconds = seconds
        self._address = address

    async def progress(self, group: str, places: Iterable[Place]) -> dict[Place, Progress]:
        """Where the group is; without the partitions in which it is nowhere yet."""
        asked = [TopicPartition(*place) for place in places]
        if not asked:
            return {}
        found = await self.use(group, lambda consumer: consumer.committed(asked, self._seconds))
        self._check(group, found)
        return {
            (each.topic, each.partition): read_progress(each.offset, each.metadata)
            for each in found
            if each.offset >= 0
        }

    async def commit(self, group: str, offsets: Mapping[Place, int]) -> None:
        """For a group that has no members."""
        told = [TopicPartition(*place, offset) for place, offset in offsets.items()]
        self._check(group, await self.use(group, lambda consumer: consumer.commit(offsets=told, asynchronous=False)))

    async def use(self, group: str, function: Callable[[Consumer], Result]) -> Result:
        """Call the function on a thread, with a consumer in the group; what it raises of Kafka as EDOW's errors."""
        try:
            return await asyncio.to_thread(self._use, group, function)
        except KafkaException as problem:
            raise translate(error_of(problem), self._doing(group)) from problem

    def _use(self, group: str, function: Callable[[Consumer], Result]) -> Result:
        consumer = Consumer(self._config(group), logger=Lines())
        try:
            return function(consumer)
        finally:
            consumer.poll(0)  # log lines are told there
            consumer.close()

    def _check(self, group: str, found: Sequence[TopicPartition]) -> None:
        for each in found:
            if each.error is not None:
                raise translate(each.error, self._doing(group)) from KafkaException(each.error)

    def _doing(self, group: str) -> str:
        return f"{self._address}: asking where group {group!r} is"
