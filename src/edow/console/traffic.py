"""The page of topics: what waits for whom, how fast it comes and goes, and which partition has most of it."""

from __future__ import annotations

import msgspec

from edow.console.look import Carried, Look, now_us
from edow.kpi.waiting import Unanswered, unanswered
from edow.transport.contract import GroupStats, PartitionStats, Told

HOT = 0.5  # share of one partition among several from which it is called hot
FEW = 10  # messages below which a share says nothing
SHOWN = 16  # partitions


class Share(msgspec.Struct, frozen=True):
    partition: str
    waiting: int
    share: float  # of all that was published or waits
    hot: bool


class Line(msgspec.Struct, frozen=True):
    """One consumer group of one topic. None: the broker does not tell."""

    topic: str
    group: str
    waiting: int
    in_flight: int | None
    oldest: int | None  # microseconds
    came: float | None  # per second
    went: float | None
    shares: list[Share]
    partitions: int


class Traffic(msgspec.Struct, frozen=True):
    now: int
    transport: str
    told: Told
    problem: str
    lines: list[Line]
    tasks: list[Unanswered]
    features: list[tuple[str, str]]


async def traffic(look: Look) -> Traffic:
    carried = await look.carried()
    before, seconds = look.before(carried)
    now = now_us()
    features = look.transport.features if look.transport is not None else None
    return Traffic(
        now=now,
        transport="" if features is None else features.name,
        told="nothing" if features is None else features.told,
        problem=carried.problem,
        lines=[
            _line(topic, group, before.get((topic, group.group)), now, seconds) for topic, group in _groups(carried)
        ],
        tasks=unanswered(await look.present(), now),
        features=[] if features is None else [(name, _told(getattr(features, name))) for name in SHOWN_FEATURES],
    )


SHOWN_FEATURES = (
    "durable",
    "ordered_by_key",
    "delivery_count",
    "native_delay",
    "lease_extension",
    "replay",
    "partitions",
    "max_message_bytes",
)


def _told(value: object) -> str:
    return ("no", "yes")[value] if isinstance(value, bool) else f"{value:,}"


def _groups(carried: Carried) -> list[tuple[str, GroupStats]]:
    return [(topic.topic, group) for topic in carried.topics for group in topic.groups]


def _line(topic: str, group: GroupStats, before: GroupStats | None, now: int, seconds: float) -> Line:
    came = went = None
    if before is not None and seconds and group.published is not None and before.published is not None:
        new = max(0, group.published - before.published)
        came, went = new / seconds, max(0, new - group.left + before.left) / seconds
    return Line(
        topic=topic,
        group=group.group,
        waiting=group.waiting,
        in_flight=group.in_flight,
        oldest=None if group.oldest_at is None else max(0, now - group.oldest_at),
        came=came,
        went=went,
        shares=_shares(group.partitions),
        partitions=len(group.partitions),
    )


def _shares(partitions: tuple[PartitionStats, ...]) -> list[Share]:
    """The largest first."""
    total = sum(each.weight for each in partitions)
    if not total or len(partitions) < 2:
        return []
    edge = max(HOT, 2 / len(partitions))
    found = [
        Share(
            partition=each.partition,
            waiting=each.waiting,
            share=each.weight / total,
            hot=each.weight / total > edge and each.waiting >= FEW,
        )
        for each in partitions
    ]
    return sorted(found, key=lambda each: -each.share)[:SHOWN]
