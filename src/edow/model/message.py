"""A message on its way to a topic: what a store keeps in its outbox and what a transport publishes."""

from __future__ import annotations

import msgspec


class Message(msgspec.Struct, frozen=True):
    """`key` is the partition key: messages of one key keep their order; None for no order."""

    topic: str
    body: bytes
    key: str | None = None
