"""`/api/v1/stats`: what waits in the topics of this installation."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec
from litestar import get
from litestar.params import FromQuery

from edow.api.routes import Shared, allows
from edow.api.views import optional_moment
from edow.app import now
from edow.errors import InvalidInput
from edow.kpi.waiting import Unanswered, unanswered
from edow.model import topics
from edow.monitor.incidents import orchestrators
from edow.transport.contract import GroupStats, Told, TopicStats, Transport


class PartitionView(msgspec.Struct, kw_only=True):
    partition: str
    waiting: int
    published: int | None


class ConsumerGroupView(msgspec.Struct, kw_only=True):
    """None: the broker does not tell, or (`oldest_at`) nothing is left. `published`: messages ever meant for this
    group, where the broker counts them; two readings tell a rate.
    """

    topic: str
    group: str
    waiting: int
    in_flight: int | None
    oldest_at: datetime | None
    published: int | None
    partitions: list[PartitionView]


class TasksView(msgspec.Struct, kw_only=True):
    """Tasks of a topic that are published and not answered, as orchestrators say, of the executions that they have in
    memory. `unbegun_since`: when the oldest was published that no worker is known to be at.
    """

    topic: str
    unanswered: int
    unbegun_since: datetime | None


class BrokerStats(msgspec.Struct, kw_only=True):
    """`told`: how well the broker knows what waits; where it is `nothing`, there are no groups."""

    transport: str
    told: Told
    groups: list[ConsumerGroupView]
    tasks: list[TasksView]


@get("/stats", tags=["stats"], summary="Measure the topics", **allows("read", 501))
async def measure_topics(backend: Shared, topic: FromQuery[list[str] | None] = None) -> BrokerStats:
    """Lag, messages in flight and age of the oldest, of every topic and consumer group, as far as the broker tells; and
    the tasks that nobody has answered. `topic`: task topics besides `default` and those of the code that the API was
    given. Topics that do not exist yet are left out.
    """
    transport = backend.carrier()
    tasks = {"default", *(task.policy.topic for task in backend.registry.tasks.values()), *(topic or ())}
    names = [topics.task_topic(name) for name in sorted(tasks)]
    names += [topics.result_topic(shard) for shard in range(backend.store.shards)] + [topics.DEAD]
    found = await described(transport, names) if transport.features.waiting else []
    return BrokerStats(
        transport=transport.features.name,
        told=transport.features.told,
        groups=[group_view(each.topic, group) for each in found for group in each.groups],
        tasks=list(map(tasks_view, unanswered(await orchestrators(backend.store), now()))),
    )


async def described(transport: Transport, names: Sequence[str]) -> list[TopicStats]:
    """Of those that exist: before the first orchestrator has begun, none do."""
    try:
        return await transport.describe(names)
    except InvalidInput:
        if len(names) == 1:
            return []
    return [found for name in names for found in await described(transport, [name])]


def tasks_view(each: Unanswered) -> TasksView:
    return TasksView(topic=each.topic, unanswered=each.tasks, unbegun_since=optional_moment(each.since))


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
