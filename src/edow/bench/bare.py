"""The ceiling: the traffic of durable steps through the bare store and transport, with no engine and no worker.

Two processes exchange the same bytes in the same batches as orchestrator and worker would: per step a task message, a
result message and a piece of history, per execution its row, its start and its end. Whatever EDOW adds is its own cost.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence

import msgspec

from edow.app import System, now
from edow.model import history, topics, wire
from edow.model.execution import Execution, Status, shard_of
from edow.model.message import Message
from edow.store.contract import Append, Commit, StartRequest, Update
from edow.transport.contract import Delivery, Subscriber, Subscription, TopicSpec

TASKS = topics.task_topic("bare")
RESULTS = topics.result_topic(0)
DIGITS = 9
PLACEHOLDER = "#" * DIGITS
WAIT_SECONDS = 1.0
FOR_EVER = 1 << 60
JSON_ZERO = msgspec.Raw(b"0")
ARGUMENTS = msgspec.Raw(b'{"number":0}')


class Traffic(msgspec.Struct, frozen=True):
    """So many executions of so many steps; at most `in_flight` at once, in batches of at most `batch`."""

    executions: int
    steps: int = 3
    batch: int = 500
    in_flight: int = 5_000


class Template:
    """A message whose execution number and step can be written and read at fixed places, without a codec."""

    def __init__(self, body: bytes) -> None:
        self._before, mark, rest = body.partition(PLACEHOLDER.encode())
        self._at = len(self._before)
        self._after = rest.replace(b"%", b"%%").replace(mark, b"%09d")
        self._numbers = 1 + self._after.count(b"%09d")

    def write(self, number: int) -> bytes:
        digits = b"%09d" % number
        return self._before + digits + self._after % ((number,) * (self._numbers - 1))

    def read(self, body: bytes) -> int:
        return int(body[self._at : self._at + DIGITS])


class Bytes:
    """Everything that is written, of the sizes that the real thing has."""

    def __init__(self) -> None:
        execution, step = f"three_steps-{PLACEHOLDER}", "nothing"
        ids = {
            "executionid": execution,
            "run": 1,
            "step": step,
            "attempt": 1,
            "idempotencykey": f"{execution}/1/{step}",
        }
        shared = {
            "specversion": wire.SPEC_VERSION,
            "time": "2026-01-01T00:00:00.000000Z",
            "correlationid": execution,
            "subject": step,
            **ids,
        }
        task = {
            "type": wire.TASK_TYPE,
            "source": "/edow/orchestrator",
            "id": f"{execution}/1/{step}/1",
            "workflow": "three_steps",
            "replytopic": RESULTS,
            "timeoutms": 30_000,
        }
        result = {
            "type": wire.RESULT_TYPE,
            "id": f"{execution}/1/{step}/1/completed",
            "source": "/edow/worker/machine:12345",
            "data": JSON_ZERO,
        }
        times = {"outcome": "completed", "startedat": "2026-01-01T00:00:00.000Z", "durationus": 12}
        self.task = Template(wire.encode(msgspec.convert({**shared, **task, "data": ARGUMENTS}, wire.TaskEvent)))
        self.result = Template(wire.encode(msgspec.convert({**shared, **result, **times}, wire.ResultEvent)))
        self.started = history.encoder.encode([history.Started(at=1, workflow="three_steps", input=ARGUMENTS)])
        scheduled = history.TaskScheduled(at=1, step=step, task=step, args=ARGUMENTS)
        completed = history.TaskCompleted(at=1, step=step, attempt=1, result=JSON_ZERO, worker="machine:12345")
        self.begun = history.encoder.encode([scheduled])
        self.advanced = history.encoder.encode([completed, scheduled])
        self.ended = history.encoder.encode([completed, history.Completed(at=1, result=JSON_ZERO)])


class Bare:
    """What takes the orchestrator's place."""

    def __init__(self, system: System, traffic: Traffic) -> None:
        self._system = system
        self._traffic = traffic
        self._bytes = Bytes()
        self._done = [0] * traffic.executions  # steps of each execution
        self._leases: dict[int, int] = {}
        self._published: Sequence[int] = ()
        self._accepted = 0
        self._ended = 0

    async def run(self) -> float:
        """Seconds from the first start to the last end."""
        store, transport = self._system.store, self._system.transport
        await transport.ensure(bare_topics())
        leases = await store.leases_hold("bare", store.shards, now(), FOR_EVER)
        self._leases = {lease.shard: lease.epoch for lease in leases}
        results = await transport.subscribe(
            Subscription(topics=(RESULTS,), group=topics.ORCHESTRATORS, mode="exclusive")
        )
        try:
            began = time.perf_counter()
            await self._exchange(results)
            return time.perf_counter() - began
        finally:
            await results.close()
            await store.leases_release("bare")

    async def _exchange(self, results: Subscriber) -> None:
        """Like the commit cycle: the next batch is read while one is being written."""
        committing: asyncio.Future[None] | None = None
        while self._ended < self._traffic.executions:
            accepted = await self._accept()
            deliveries = [] if accepted else await results.receive(self._traffic.batch, WAIT_SECONDS)
            commit = self._begin(accepted) if accepted else self._advance(deliveries)
            if committing is not None:
                await committing
            committing = asyncio.ensure_future(self._commit(commit, results, deliveries))
        if committing is not None:
            await committing

    async def _accept(self) -> range:
        """Store the next batch of starts, if there is room for it."""
        traffic, first = self._traffic, self._accepted
        room = min(traffic.batch, traffic.executions - first)
        if not room or first - self._ended + room > traffic.in_flight:
            return range(0)
        numbers = range(first, first + room)
        await self._system.store.accept([self._start(number) for number in numbers], now())
        self._accepted += room
        return numbers

    def _start(self, number: int) -> StartRequest:
        return StartRequest(self._row(number, Status.RUNNING), self._bytes.started)

    def _row(self, number: int, status: Status) -> Execution:
        name, at = f"three_steps-{number:09}", now()
        shard = shard_of(name, self._system.store.shards)
        row = Execution(id=name, workflow="three_steps", shard=shard, input=ARGUMENTS, started_at=at, wake_at=at)
        if status is Status.COMPLETED:
            row.status, row.result, row.ended_at, row.wake_at = status, JSON_ZERO, at, None
        return row

    def _begin(self, numbers: range) -> Commit:
        appends = [self._append(number, self._bytes.begun, 1, 1) for number in numbers]
        return Commit(leases=self._leases, appends=appends, messages=[self._task(number) for number in numbers])

    def _advance(self, deliveries: Sequence[Delivery]) -> Commit:
        numbers = [self._bytes.result.read(delivery.body) for delivery in deliveries]
        return Commit(
            leases=self._leases,
            appends=list(self._appends(numbers)),
            updates=[Update(1, self._row(number, Status.COMPLETED)) for number in numbers if self._is_last(number)],
            messages=[self._task(number) for number in numbers if not self._is_last(number)],
            acks=deliveries if self._system.joined else (),
        )

    def _appends(self, numbers: Sequence[int]) -> Iterator[Append]:
        for number in numbers:
            self._done[number] += 1
            last = self._is_last(number)
            self._ended += last
            yield self._append(number, self._bytes.ended if last else self._bytes.advanced, 2 * self._done[number], 2)

    def _append(self, number: int, segment: bytes, seq: int, count: int) -> Append:
        return Append(f"three_steps-{number:09}", 1, seq, count, segment)

    def _is_last(self, number: int) -> bool:
        return self._done[number] == self._traffic.steps

    def _task(self, number: int) -> Message:
        return Message(TASKS, self._bytes.task.write(number))

    async def _commit(self, commit: Commit, results: Subscriber, deliveries: Sequence[Delivery]) -> None:
        store = self._system.store
        if not deliveries:
            rows = await store.inbox_read(list(self._leases), (), self._traffic.batch)
            commit.inbox_done = [row.seq for row in rows]
        if self._system.joined:
            await store.commit(commit)
            return
        commit.outbox_done, self._published = self._published, ()  # how far that got is stored with the next commit
        numbers = await store.commit(commit)
        await self._system.transport.publish(commit.messages)
        self._published = numbers
        await results.ack(deliveries)


async def answer(system: System, batch: int) -> None:
    """What takes the worker's place: a result for every task, until cancelled."""
    await system.transport.ensure(bare_topics())
    made = Bytes()
    tasks = await system.transport.subscribe(Subscription(topics=(TASKS,), group=topics.WORKERS))
    while True:
        deliveries = await tasks.receive(batch, WAIT_SECONDS)
        if deliveries:
            numbers = [made.task.read(delivery.body) for delivery in deliveries]
            await system.transport.publish([Message(RESULTS, made.result.write(number)) for number in numbers])
            await tasks.ack(deliveries)


def bare_topics() -> list[TopicSpec]:
    return [TopicSpec(TASKS, (topics.WORKERS,)), TopicSpec(RESULTS, (topics.ORCHESTRATORS,))]
