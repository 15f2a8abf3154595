"""What a client needs of a store, in memory, and counting how it is called. Executions end when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from edow.model import history, inbox
from edow.model.execution import ENDED, Execution, Status
from edow.store.contract import (
    Answer,
    CommandRequest,
    DeadLetter,
    DeadLetterFilter,
    ExecutionFilter,
    Page,
    Put,
    Request,
    StartRequest,
)
from edow.store.paging import behind_letter


class MemoryWatch:
    """A wake-up that is never lost."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.event = asyncio.Event()

    async def wait(self, seconds: float) -> bool:
        self._store.waits.append(seconds)
        self._store.waited.set()
        try:
            async with asyncio.timeout(seconds):
                await self.event.wait()
        except TimeoutError:
            return False
        self.event.clear()
        return True

    def close(self) -> None:
        self._store.watches.remove(self)


@dataclass
class MemoryStore:
    """Only the half of the contract that clients use."""

    name: str = "memory"
    shards: int = 8
    rows: dict[str, Execution] = field(default_factory=dict)
    segments: dict[tuple[str, int], list[bytes]] = field(default_factory=dict)
    commands: list[tuple[str, inbox.AnyCommand]] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    closed_letters: list[tuple[str, str, str]] = field(default_factory=list)
    accepted: list[int] = field(default_factory=list)  # sizes of the batches
    whole: list[int] = field(default_factory=list)  # sizes of the reads of letters with all that is theirs
    gets: list[int] = field(default_factory=list)  # sizes of the reads
    watches: list[MemoryWatch] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    waited: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event | None = None  # while given and not set, `accept` does not finish
    problem: Exception | None = None  # raised by the next accept or get

    def watch(self, channel: str) -> MemoryWatch:
        assert channel == "ended"
        self.watches.append(MemoryWatch(self))
        return self.watches[-1]

    async def accept(self, requests: Sequence[Request], now: int) -> list[Answer]:
        self.accepted.append(len(requests))
        if self.gate is not None:
            await self.gate.wait()
        self._complain()
        return [self._start(each) if isinstance(each, StartRequest) else self._command(each) for each in requests]

    async def executions_get(self, ids: Sequence[str]) -> list[Execution | None]:
        self.gets.append(len(ids))
        self._complain()
        return [self.rows.get(each) for each in ids]

    async def executions_list(self, where: ExecutionFilter) -> Page:
        rows = [row for row in self.rows.values() if row.id.startswith(where.id_prefix or "")][::-1]
        start = int(where.cursor or 0)
        end = start + where.limit
        return Page(rows[start:end], str(end) if end < len(rows) else None)

    async def history_get(self, execution: str, run: int) -> list[bytes]:
        return self.segments.get((execution, run), [])

    async def dead_letters_list(self, where: DeadLetterFilter) -> list[DeadLetter]:
        found = [
            each
            for each in self.letters
            if (where.ids is None or each.id in where.ids)
            and (where.execution is None or each.execution == where.execution)
            and (where.state is None or each.state == where.state)
            and (where.cursor is None or (each.at, each.id) > behind_letter(where.cursor))
        ]
        found = sorted(found, key=lambda each: (each.at, each.id))[: where.limit]
        if where.whole:
            self.whole.append(len(found))
            return found
        bare = msgspec.Raw(b"null")
        return [msgspec.structs.replace(each, args=bare, failure=bare) for each in found]

    async def dead_letters_close(
        self, ids: Sequence[str], state: str, reason: str, puts: Sequence[Put] = (), now: int = 0
    ) -> int:
        self.closed_letters += [(each, state, reason) for each in ids]
        return len(ids)

    def end(self, execution: str, status: Status, result: bytes | None = None, failure: bytes | None = None) -> None:
        """As an orchestrator would."""
        row = self.rows[execution]
        row.status = status
        row.result = msgspec.Raw(result) if result is not None else None
        row.failure = msgspec.Raw(failure) if failure is not None else None
        self.notify()

    def next_run(self, execution: str, last: history.AnyEvent | None) -> None:
        """The run ends with this event, or is replaced; the next one is running."""
        row = self.rows[execution]
        if last is not None:
            self.segments[execution, row.run].append(history.encoder.encode([last]))
        row.run += 1
        row.status = Status.RUNNING
        self.segments[execution, row.run] = []
        self.notify()

    def notify(self) -> None:
        for watch in self.watches:
            watch.event.set()

    def _complain(self) -> None:
        if self.problem is not None:
            problem, self.problem = self.problem, None
            raise problem

    def _start(self, request: StartRequest) -> Answer:
        new = request.execution
        row = self.rows.get(new.id)
        if row is not None and request.if_exists != "replace":
            return Answer("attached" if request.if_exists == "attach" else "exists", row.run, row.status)
        self.rows[new.id] = msgspec.structs.replace(new, run=row.run + 1 if row else 1)
        self.segments[new.id, self.rows[new.id].run] = [request.segment]
        return Answer("accepted", self.rows[new.id].run)

    def _command(self, request: CommandRequest) -> Answer:
        row = self.rows.get(request.execution)
        if row is None:
            return Answer("missing")
        if row.status in ENDED:
            return Answer("ended", row.run, row.status)
        self.commands.append((row.id, inbox.decode(request.command)))
        return Answer("accepted", row.run, row.status)
