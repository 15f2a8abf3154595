"""What tests of triggers look at in a store, and a clock that stands still until it is moved."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from edow.model import inbox
from edow.model.execution import Execution, Status
from edow.store.contract import Commit, Store, Update

T0 = 1_700_000_000_000_000
Opener = Callable[[], Awaitable[Store]]  # of the same database again and again, as other processes would


class Clock:
    """Microseconds since the epoch."""

    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> int:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += round(seconds * 1_000_000)


async def commands(store: Store) -> list[tuple[str, inbox.AnyCommand]]:
    """All inboxes, in order."""
    rows = await store.inbox_read(range(store.shards), (), 10_000)
    return [(row.execution, inbox.decode(row.command)) for row in rows]


async def signals(store: Store, execution: str) -> list[object]:
    """The values that were sent to it."""
    found = [command for id, command in await commands(store) if id == execution]
    return [msgspec.json.decode(each.payload) for each in found if isinstance(each, inbox.Signal)]


async def row_of(store: Store, execution: str) -> Execution:
    [row] = await store.executions_get([execution])
    assert row is not None
    return row


async def end(store: Store, execution: str, now: int, status: Status = Status.COMPLETED) -> None:
    """As its orchestrator would."""
    row = await row_of(store, execution)
    leases = {each.shard: each.epoch for each in await store.leases_hold("test", store.shards, now, now + 60_000_000)}
    ended = msgspec.structs.replace(row, status=status, ended_at=now, wake_at=None)
    await store.commit(Commit(leases=leases, updates=[Update(row.run, ended)]))
