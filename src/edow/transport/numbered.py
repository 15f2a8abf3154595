"""What transports in a database share: deliveries that have a number in their queue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from edow.transport.again import OrderedDelivery

POLL_SECONDS = 1.0  # safety net behind pushed wake-ups


class Poked(Protocol):
    """A reader that can be told to look again."""

    def poke(self) -> None: ...


class NumberedDelivery(OrderedDelivery, eq=False):
    """`token` is the message's number. `owner`: the subscriber that has claimed it; 0 where nobody claims."""

    owner: int = 0
    at: int = 0  # when it was published; with the number it is a message's only one
    cursor: Poked | None = None  # the reader to tell that it was acknowledged, when that matters to it

    @property
    def seq(self) -> int:
        seq = self.token
        assert isinstance(seq, int)
        return seq

    @property
    def order(self) -> tuple[int, ...]:
        return (self.seq,)


def done(deliveries: Sequence[NumberedDelivery]) -> None:
    """They were acknowledged: what waited behind them may go on. Any thread."""
    for delivery in deliveries:
        delivery.done = True
        if delivery.cursor is not None:
            delivery.cursor.poke()
