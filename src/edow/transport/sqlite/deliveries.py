"""Acknowledging inside any transaction on the file: the transport's own, or the store's."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from edow.transport.numbered import SHIFT, NumberedDelivery
from edow.transport.sqlite.queues import channel, to_json

Queries = Mapping[str, str]


def acknowledge(
    connection: sqlite3.Connection, sql: Mapping[str, str], deliveries: Sequence[NumberedDelivery]
) -> set[str]:
    """Delete what is still its owner's to delete; the channels where something became deliverable by that."""
    by_owner: dict[int, list[NumberedDelivery]] = {}
    for delivery in deliveries:
        by_owner.setdefault(delivery.owner, []).append(delivery)
    channels: set[str] = set()
    for owner, mine in by_owner.items():
        seqs = to_json([delivery.token for delivery in mine])
        if not owner:
            connection.execute(sql["delete"], (seqs,))
            continue
        parameters = {"seqs": seqs, "owner": owner}
        connection.execute(sql["ack_messages"], parameters)
        connection.execute(sql["ack_claims"], parameters)
        channels |= _let_follow(connection, sql, mine)
    return channels


def _let_follow(
    connection: sqlite3.Connection, sql: Mapping[str, str], deliveries: Sequence[NumberedDelivery]
) -> set[str]:
    pairs = {(delivery.seq >> SHIFT, delivery.key) for delivery in deliveries if delivery.key is not None}
    if not pairs:
        return set()
    let = connection.execute(sql["ack_keys"], (to_json(list(pairs)),)).rowcount
    return {channel(queue) for queue, _ in pairs} if let else set()
