"""What becomes of a batch of requests: decided in memory, in order, so that requests of one batch see each other.

Pure, and the same for every store: it is told which executions exist, and tells what has to be written.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from edow.errors import NotAccepted
from edow.model.execution import ENDED, Execution, Status
from edow.model.inbox import Start, encode
from edow.store.contract import Answer, Request, StartRequest


class Known(msgspec.Struct, array_like=True):
    """What accepting a request depends on. Changes while a batch is being looked at. `number`: by which the store finds
    the row that is there; 0: not stored yet.
    """

    id: str
    run: int
    status: Status
    shard: int
    number: int


class Draft:
    """What will be written. `rows` holds the newest run of each execution that was started, `replaced` the numbers of
    the rows that go; `segments` and `inbox` are flat: (execution, run, seq, count, body) and (shard, execution,
    command, now) again and again.
    """

    def __init__(self, known: dict[str, Known], now: int) -> None:
        self._known = known
        self._now = now
        self.rows: dict[str, tuple[Execution, int]] = {}
        self.replaced: dict[str, int] = {}
        self.segments: list[object] = []
        self.inbox: list[object] = []

    def answer(self, request: Request) -> Answer:
        """The next request of the batch."""
        if isinstance(request, StartRequest):
            return self._start(request)
        known = self._known.get(request.execution)
        if known is None:
            return Answer("missing")
        if known.status in ENDED:
            return Answer("ended", known.run, known.status)
        self.inbox += (known.shard, known.id, request.command, self._now)
        return Answer("accepted", known.run, known.status)

    def channels(self) -> set[str]:
        """What to notify once it is on disk."""
        return {channel for channel, said in (("inbox", self.inbox), ("ended", self.replaced)) if said}

    def _start(self, request: StartRequest) -> Answer:
        row = request.execution
        known = self._known.get(row.id)
        if known is None:
            return self._begin(request, row.run, 0)
        if request.if_exists == "replace":
            if known.number:
                self.replaced[row.id] = known.number
            return self._begin(request, known.run + 1, known.number)
        return refusal(request, known)

    def _begin(self, request: StartRequest, run: int, number: int) -> Answer:
        row = request.execution
        self._known[row.id] = Known(row.id, run, row.status, row.shard, number)
        self.rows[row.id] = (row, run)
        self.segments += (row.id, run, 0, row.events, request.segment, row.id, run, -1, 0, row.input)
        self.inbox += (row.shard, row.id, start_command(run), self._now)
        return Answer("accepted", run, row.status)


def insist(answers: Sequence[Answer]) -> None:
    """Raises NotAccepted unless every request was accepted."""
    outcomes = tuple(answer.outcome for answer in answers)
    if any(outcome != "accepted" for outcome in outcomes):
        raise NotAccepted(outcomes)


def refusal(request: StartRequest, known: Known) -> Answer:
    """Of a start whose id is taken, and that replaces nothing."""
    return Answer("attached" if request.if_exists == "attach" else "exists", known.run, known.status)


def start_command(run: int) -> bytes:
    """What tells a shard's owner of a new run."""
    return encode(Start(run=run))
