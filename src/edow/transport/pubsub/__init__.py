"""Google Pub/Sub: a topic is a Pub/Sub topic, a group is a subscription of it. See `edow.transport.contract`."""

from __future__ import annotations

from collections.abc import Callable

from edow.address import Address
from edow.transport.pubsub.options import options_of
from edow.transport.pubsub.transport import PubsubTransport

__all__ = ["PubsubTransport", "connect"]


def connect(address: Address, clock: Callable[[], int]) -> PubsubTransport:
    """The transport that `pubsub://PROJECT?...` names, not open yet. Raises InvalidInput for what the URL gets wrong.

    `clock` is not read: Pub/Sub keeps its own time, and leases are measured on the event loop's.
    """
    return PubsubTransport(address, *options_of(address))
