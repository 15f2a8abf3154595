"""The outside world of an orchestrator, handed to every part that touches it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from edow.store.contract import Store
from edow.transport.contract import Transport


class Edges(NamedTuple):
    """`joined`: the transport lives in the store's database and commits with it, so that no outbox is needed."""

    store: Store
    transport: Transport
    now: Callable[[], int]
    joined: bool
