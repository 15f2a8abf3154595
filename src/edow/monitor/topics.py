"""What the broker tells of topics and consumer groups, as figures."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from edow.errors import InvalidInput
from edow.kpi.figures import Figures, Lag
from edow.transport.contract import GroupStats, TopicStats, Transport

FEW = 10  # messages below which a partition's share says nothing

log = logging.getLogger("edow.monitor")


async def look(transport: Transport, names: Sequence[str], now: int) -> Figures:
    """How much waits; nothing where the broker does not tell."""
    figures = Figures()
    if transport.features.waiting:
        for stats in await _described(transport, names):
            for group in stats.groups:
                if group.waiting or group.in_flight or group.published:
                    figures.lag[f"{stats.topic} {group.group}"] = _lag(stats.topic, group, now)
    return figures


async def _described(transport: Transport, names: Sequence[str]) -> list[TopicStats]:
    """Of those that are there: one that somebody has deleted must not hide the others."""
    try:
        return await transport.describe(names)
    except InvalidInput as problem:
        if len(names) <= 1:
            log.debug("not looked at: %s", problem)
            return []
        middle = len(names) // 2
        return await _described(transport, names[:middle]) + await _described(transport, names[middle:])


def _lag(topic: str, group: GroupStats, now: int) -> Lag:
    few = sum(each.weight for each in group.partitions) < FEW
    hottest, share = (None, None) if few or group.hottest is None else group.hottest
    return Lag(
        topic=topic,
        group=group.group,
        waiting=group.waiting,
        in_flight=group.in_flight,
        oldest=None if group.oldest_at is None else max(0, now - group.oldest_at),
        published=group.published,
        partitions=len(group.partitions),
        hottest=hottest,
        share=share,
    )
