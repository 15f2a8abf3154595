"""What a lone reader has nacked: kept until it is due, and with it whatever of its key comes later."""

from __future__ import annotations

from edow.transport.contract import Delivery
from edow.transport.nats.pulls import Slot


class ReaderDelivery(Delivery, eq=False):
    """`token`: the subject to acknowledge at."""

    slot: Slot | None = None
    seq: int = 0
    superseded: bool = False  # nacked, so that a copy of it will be delivered


Line = tuple[str, str | None, int]  # topic and key; a message without a key has a line to itself


class _Waiting:
    """One line. `out`: number of the message that was delivered from it and is not acknowledged yet."""

    def __init__(self) -> None:
        self.due: dict[int, tuple[float, ReaderDelivery]] = {}
        self.out: int | None = None

    def first(self) -> tuple[float, ReaderDelivery] | None:
        """What may be delivered, and when."""
        return None if self.out is not None or not self.due else self.due[min(self.due)]


class Again:
    """Times are the caller's clock."""

    def __init__(self) -> None:
        self._lines: dict[Line, _Waiting] = {}

    def put(self, delivery: ReaderDelivery, due: float) -> None:
        """Deliver a copy of it then; the one that was handed out means nothing any more."""
        again = ReaderDelivery(
            delivery.topic,
            delivery.body,
            delivery.key,
            delivery.count + 1,
            delivery.token,
            slot=delivery.slot,
            seq=delivery.seq,
        )
        delivery.superseded = True
        line = self._lines.setdefault(_line(delivery), _Waiting())
        line.due[again.seq] = due, again
        if line.out == again.seq:
            line.out = None

    def holds_back(self, delivery: ReaderDelivery) -> bool:
        """Whether an earlier message of its key must be acknowledged first; then it is kept here."""
        line = self._lines.get(_line(delivery)) if self._lines else None
        if line is None:
            return False
        line.due[delivery.seq] = 0.0, delivery
        return True

    def take(self, now: float, limit: int) -> list[ReaderDelivery]:
        """What is due."""
        taken: list[ReaderDelivery] = []
        for line in self._lines.values():
            first = line.first()
            if first is not None and first[0] <= now and len(taken) < limit:
                line.out = first[1].seq
                del line.due[line.out]
                taken.append(first[1])
        return taken

    def done(self, delivery: ReaderDelivery) -> None:
        """It was acknowledged: what waited behind it may go on."""
        name = _line(delivery)
        line = self._lines.get(name)
        if line is not None and line.out == delivery.seq:
            line.out = None
            if not line.due:
                del self._lines[name]

    def forget(self, topic: str) -> None:
        """Nothing of this topic comes again."""
        self._lines = {name: line for name, line in self._lines.items() if name[0] != topic}

    def next_due(self) -> float | None:
        """When something may be delivered."""
        firsts = [first for line in self._lines.values() if (first := line.first()) is not None]
        return min((due for due, _ in firsts), default=None)


def _line(delivery: ReaderDelivery) -> Line:
    return delivery.topic, delivery.key, 0 if delivery.key is not None else delivery.seq
