"""What one member knows of one partition: which messages are in whose hands, and how far it is done. Pure.

Kafka remembers one number for each group and partition: everything before it is done. Work ends in any order, so the
number stays at the first message that is not done, and what was done beyond it is told in the commit's metadata.
Whoever takes the partition over leaves those out.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterable
from itertools import islice, pairwise, takewhile

import msgspec

from edow.transport.contract import Delivery

Place = tuple[str, int]  # a topic as Kafka knows it, and the number of a partition

TOLD = 600  # messages not done that a commit names
MOST_TEXT = 4_000  # bytes of metadata; brokers take 4,096, if nobody has changed that

_decode = msgspec.json.Decoder(tuple[int, int, list[int]]).decode


class Progress(msgspec.Struct, frozen=True):
    """Everything before `offset` is done, and so is what lies before `end` and is not in `open`."""

    offset: int
    end: int = 0
    open: frozenset[int] = frozenset()
    in_flight: int = 0

    def done_from(self, offset: int) -> int:
        """How many messages are done from an offset on that is not before ours."""
        return max(0, self.end - offset - sum(each >= offset for each in self.open))

    def is_done(self, offset: int) -> bool:
        return offset < self.offset or (offset < self.end and offset not in self.open)


def told(progress: Progress) -> str:
    """The metadata of a commit that says this."""
    steps = [later - earlier for earlier, later in pairwise([progress.offset, *sorted(progress.open)])]
    text = msgspec.json.encode((progress.in_flight, progress.end - progress.offset, steps)).decode()
    return text if len(text) < MOST_TEXT else ""


def read_progress(offset: int, metadata: str | None) -> Progress:
    """What a commit says. Metadata of others means nothing to us."""
    try:
        in_flight, span, steps = _decode(metadata or "")
    except (msgspec.MsgspecError, ValueError):
        return Progress(offset)
    if min(in_flight, span, *steps, 0) < 0:
        return Progress(offset)
    open_, at = set(), offset
    for step in steps:
        at += step
        open_.add(at)
    return Progress(offset, offset + span, frozenset(open_), in_flight)


class KafkaDelivery(Delivery, eq=False):
    """A message in somebody's hands, or on its way there."""

    partition: Partition
    offset: int


class Partition:
    """Messages between the first that is not done and the last that was fetched.

    `gated`: of a key, the next message is ready only after the one before was acknowledged. Else that holds only behind
    a message that was handed back. `tracked` False: nothing is acknowledged here.
    """

    def __init__(self, topic: str, place: Place, start: Progress, *, gated: bool, tracked: bool = True) -> None:
        self.topic = topic  # as EDOW knows it
        self.place = place
        self.next = start.offset  # the offset to be fetched next
        self.ready: deque[KafkaDelivery] = deque()
        self.in_flight = 0
        self.bytes = 0  # of all bodies kept here
        self.leaving = False  # another member gets this partition: nothing is handed out any more
        self.gone = False  # it has it
        self.full = False  # far ahead of the first message that is not done
        self.changed = False  # there is something to commit
        self._start = start
        self._gated = gated
        self._tracked = tracked
        self._open: dict[int, KafkaDelivery] = {}  # fetched and not done, in order
        self._holder: dict[str, int] = {}  # by key: whose end the key's later messages wait for
        self._behind: dict[str, list[KafkaDelivery]] = {}  # by key: those that wait, in order
        self._top = start.end  # behind the last message that is done

    def add(self, offset: int, key: str | None, body: bytes) -> None:
        """A message was fetched, `next` or one behind it. What is done is left out."""
        self.next = offset + 1
        if self._start.is_done(offset):
            self.changed = True
            return
        delivery = KafkaDelivery(self.topic, body, key, 1, None, self, offset)
        self.bytes += len(body)
        if self._tracked:
            self._open[offset] = delivery
            if key is not None and key in self._holder:
                self._behind.setdefault(key, []).append(delivery)
                return
            if self._gated and key is not None:
                self._holder[key] = offset
        self.ready.append(delivery)

    def take(self, limit: int) -> list[KafkaDelivery]:
        """Hand out up to `limit` of those that are ready."""
        ready, taken = self.ready, list[KafkaDelivery]()
        while ready and len(taken) < limit:
            if not self._is_behind(delivery := ready.popleft()):
                taken.append(delivery)
        if self._tracked:
            self.in_flight += len(taken)
            self.changed = True
        else:
            self.bytes -= sum(len(each.body) for each in taken)
        return taken

    def holds(self, delivery: KafkaDelivery) -> bool:
        """Whether it is still in the hands it was given to."""
        return self._open.get(delivery.offset) is delivery

    def done(self, delivery: KafkaDelivery) -> None:
        """Acknowledged; the next of its key may be ready now."""
        del self._open[delivery.offset]
        self.in_flight -= 1
        self.bytes -= len(delivery.body)
        self.changed = True
        self._top = max(self._top, delivery.offset + 1)
        key = delivery.key
        if key is None or self._holder.get(key) != delivery.offset:
            return
        if behind := self._behind.get(key):
            self._holder[key] = behind[0].offset
            self.ready.append(behind.pop(0))
        else:
            self._behind.pop(key, None)
            del self._holder[key]

    def give_back(self, delivery: KafkaDelivery) -> KafkaDelivery | None:
        """It goes to somebody again: a copy, for the one that was handed out means nothing any more. None: not before
        an earlier one of its key.
        """
        again = KafkaDelivery(delivery.topic, delivery.body, delivery.key, 1, None, self, delivery.offset)
        self._open[delivery.offset] = again
        self.in_flight -= 1
        self.changed = True
        if again.key is not None:
            if self._is_behind(again):
                return None
            self._holder[again.key] = again.offset
        return again

    def _is_behind(self, delivery: KafkaDelivery) -> bool:
        """An earlier one of its key comes first; then it waits for the end of that."""
        key, offset = delivery.key, delivery.offset
        if key is None or self._holder.get(key, offset) >= offset:
            return False
        insort(self._behind.setdefault(key, []), delivery, key=lambda each: each.offset)
        return True

    @property
    def span(self) -> int:
        """Messages from the first that is not done to the last that was fetched."""
        return self.next - self.first

    @property
    def first(self) -> int:
        """The first message that is not done."""
        return next(iter(self._open), self.next)

    def progress(self) -> Progress:
        """How far it is; of more than can be told, the first."""
        first = self.first
        end = max(first, self._top)
        later = sorted(offset for offset in self._start.open if offset >= self.next)
        open_ = [*islice(takewhile(lambda offset: offset < end, self._open), TOLD + 1), *later][: TOLD + 1]
        if len(open_) > TOLD:
            end = open_.pop()
        return Progress(first, end, frozenset(open_), self.in_flight)


def fair(partitions: Iterable[Partition], limit: int) -> list[KafkaDelivery]:
    """Up to `limit` messages, of each partition about as many."""
    taken: list[KafkaDelivery] = []
    busy = [each for each in partitions if each.ready and not each.leaving]
    while busy and len(taken) < limit:
        share = max(1, (limit - len(taken)) // len(busy))
        for partition in busy:
            taken += partition.take(min(share, limit - len(taken)))
        busy = [each for each in busy if each.ready]
    return taken
