"""`/api/v1/stats`: what waits in the topics of this installation."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec
from litestar import get
from litestar.params import FromQuery

from edow.api.routes import Shared, allows
from edow.api.views import optional_moment
from edow.errors import InvalidInput, Unsupported
from edow.model import topics
from edow.transport.contract import GroupStats, TopicStats, Transport


class PartitionView(msgspec.Struct, kw_only=True):
    partition: str
    waiting: int
    published: int | None


class ConsumerGroupView(msgspec.Struct, kw_only=True):
    """`published`: messages ever meant for this group, where the broker counts them; two readings tell a rate."""

    topic: str
    group: str
    waiting: int
    in_flight: int
    oldest_at: datetime | None
    published: int | None
    partitions: list[PartitionView]


class BrokerStats(msgspec.Struct, kw_only=True):
    transport: str
    groups: list[ConsumerGroupView]


@get("/stats", tags=["stats"], summary="Measure the topics", **allows("read", 501))
async def measure_topics(backend: Shared, topic: FromQuery[list[str] | None] = None) -> BrokerStats:
    """Lag, messages in flight and age of the oldest, of every topic and consumer group. `topic`: task topics besides
    `default` and those of the code that the API was given. Topics that do not exist yet are left out.
    """
    transport = backend.carrier()
    if not transport.features.lag:
        raise Unsupported(f"{transport.features.name} does not tell its lag; ask the broker's own metrics")
    tasks = {"default", *(task.policy.topic for task in backend.registry.tasks.values()), *(topic or ())}
    names = [topics.task_topic(name) for name in sorted(tasks)]
    names += [topics.result_topic(shard) for shard in range(backend.store.shards)] + [topics.DEAD]
    found = await described(transport, names)
    return BrokerStats(
        transport=transport.features.name,
        groups=[group_view(each.topic, group) for each in found for group in each.groups],
    )


async def described(transport: Transport, names: Sequence[str]) -> list[TopicStats]:
    """Of those that exist: before the first orchestrator has begun, none do."""
    try:
        return await transport.describe(names)
    except InvalidInput:
        if len(names) == 1:
            return []
    return [found for name in names for found in await described(transport, [name])]


def group_view(topic: str, group: GroupStats) -> ConsumerGroupView:
    return ConsumerGroupView(
        topic=topic,
        group=group.group,
        waiting=group.waiting,
        in_flight=group.in_flight,
        oldest_at=optional_moment(group.oldest_at),
        published=group.published,
        partitions=[
            PartitionView(partition=each.partition, waiting=each.waiting, published=each.published)
            for each in group.partitions
        ],
    )


ROUTES = (measure_topics,)
