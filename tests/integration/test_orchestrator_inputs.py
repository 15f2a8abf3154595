"""How often the inbox is read: as often as there is news, and until nothing is left. How much of it is kept."""

from __future__ import annotations

import asyncio

from edow.orchestrator.inputs import IDLE_POLL_SECONDS, Batch, Inputs
from edow.store.contract import InboxRow
from edow.transport.contract import Delivery
from tests.integration.memory_store import MemoryStore, MemoryWatch

LIMIT = 3
MOST_BYTES = 100


class Inbox(MemoryStore):
    """Rows that were accepted before anybody read."""

    def __init__(self, rows: int, size: int = 2) -> None:
        super().__init__()
        self.left = [InboxRow(seq, f"e{seq}", 0, b"." * size) for seq in range(rows)]
        self.reads: list[int] = []

    def watch(self, channel: str) -> MemoryWatch:
        self.watches.append(MemoryWatch(self))
        return self.watches[-1]

    async def inbox_read(self, shards: object, taken: object, limit: int, most_bytes: int) -> list[InboxRow]:
        rows: list[InboxRow] = []
        while self.left and len(rows) < limit and sum(len(row.command) for row in rows) < most_bytes:
            rows.append(self.left.pop(0))
        self.reads.append(len(rows))
        return rows


class Answers:
    """Results that were sent before anybody read; two are received at once."""

    def __init__(self, results: int, size: int) -> None:
        self.left = [Delivery("results", b"." * size, None, 1, None) for _ in range(results)]

    async def receive(self, limit: int, wait_seconds: float) -> list[Delivery]:
        if not self.left:
            await asyncio.Event().wait()
        received, self.left = self.left[:2], self.left[2:]
        return received


async def batches_until_idle(store: Inbox, answers: Answers) -> list[Batch]:
    """Of as many inputs as there are."""
    left, batches = len(store.left) + len(answers.left), list[Batch]()
    inputs = Inputs(store, LIMIT, MOST_BYTES, lambda: 0)  # type: ignore[arg-type]
    inputs.start([0], answers)  # type: ignore[arg-type]
    try:
        async with asyncio.timeout(30):
            while left:
                batches.append(await inputs.take(IDLE_POLL_SECONDS))
                left -= len(batches[-1].commands) + len(batches[-1].deliveries)
            await store.waited.wait()
    finally:
        await inputs.stop()
    return batches


async def reads_until_idle(rows: int, size: int = 2) -> list[int]:
    store = Inbox(rows, size)
    await batches_until_idle(store, Answers(0, 0))
    return store.reads


async def test_a_read_that_is_not_full_is_the_last():
    """Whatever is committed after it is told, so that nobody looks again before."""
    assert await reads_until_idle(LIMIT - 1) == [LIMIT - 1]


async def test_a_full_read_may_have_left_something():
    """So there is another at once."""
    assert await reads_until_idle(LIMIT + 1) == [LIMIT, 1]


async def test_a_read_that_is_as_large_as_a_batch_may_have_left_something():
    """However few commands it brought."""
    assert await reads_until_idle(rows=4, size=60) == [2, 2, 0]


async def test_a_batch_is_bounded_in_bytes():
    """A thousand large results are not decided and committed together. One is taken in any case."""
    batches = await batches_until_idle(Inbox(0), Answers(5, 40))
    assert [len(batch.deliveries) for batch in batches] == [2, 2, 1]
    batches = await batches_until_idle(Inbox(0), Answers(2, 101))
    assert [len(batch.deliveries) for batch in batches] == [1, 1]
    batches = await batches_until_idle(Inbox(5, 40), Answers(0, 0))
    assert all(0 < len(batch.commands) <= 2 for batch in batches)


async def test_reading_on_waits_while_there_are_bytes_for_a_batch():
    """What lies in memory is not more than one read beyond a batch."""
    inputs, answers = Inputs(Inbox(0), LIMIT, MOST_BYTES, lambda: 0), Answers(6, 60)  # type: ignore[arg-type]
    inputs.start([0], answers)  # type: ignore[arg-type]
    try:
        assert [len(each.body) for each in (await inputs.take(IDLE_POLL_SECONDS)).deliveries] == [60]
        assert len(answers.left) == 4
    finally:
        await inputs.stop()


async def test_a_batch_that_loads_too_much_makes_the_next_smaller():
    """As many as fit by the last one's measure; while little is loaded, twice as many each time up to the limit."""
    inputs, sizes = Inputs(Inbox(0), 1000, MOST_BYTES, lambda: 1), list[int]()  # type: ignore[arg-type]
    for size in (0, 0, 0, 0, 4 * MOST_BYTES, 100 * MOST_BYTES, 100 * MOST_BYTES, MOST_BYTES, MOST_BYTES // 2):
        inputs.wake((0, f"e{number}") for number in range(2000))
        sizes.append(len((await inputs.take(IDLE_POLL_SECONDS)).due))
        inputs.loaded(sizes[-1], size)
    await inputs.stop()
    assert sizes == [100, 200, 400, 800, 1000, 250, 2, 1, 1]
    inputs.wake([(0, f"e{number}") for number in range(2000)])
    assert len((await inputs.take(IDLE_POLL_SECONDS)).due) == 100  # all is loaded anew
    await inputs.stop()
