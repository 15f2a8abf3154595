"""Acknowledging inside any transaction on the schema: the transport's own, or the store's."""

from __future__ import annotations

from collections.abc import Sequence

from edow.postgresql import Calls, encoded
from edow.transport.numbered import SHIFT, NumberedDelivery
from edow.transport.postgresql.queues import channel, hash_of


def add_acks(calls: Calls, deliveries: Sequence[NumberedDelivery]) -> int | None:
    """What deletes those that are still their owner's to delete. The place in the answer where the queues are in which
    something became deliverable by that, if there is one.
    """
    ordered = sorted(deliveries, key=lambda each: each.seq)
    free = [each for each in ordered if not each.owner]
    if free:
        calls.add("forget", [each.seq for each in free], [each.at for each in free])
    claimed = [each for each in ordered if each.owner]
    if not claimed:
        return None
    keyed = [each for each in claimed if each.key is not None]
    keys = [encoded(each.key) for each in keyed]
    return calls.add(
        "settle",
        [each.seq for each in claimed],
        [each.owner for each in claimed],
        [each.seq >> SHIFT for each in keyed],
        [hash_of(key) for key in keys],
        keys,
    )


def let_through(answer: Sequence[object], place: int | None) -> set[str]:
    """Channels of the queues that `add_acks` tells of."""
    queues = answer[place] if place is not None and answer else None
    return {channel(queue) for queue in queues} if isinstance(queues, list) else set()
