"""A worker on the memory transport: publish task events, wait for what it answers."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from edow.model import topics, wire
from edow.model.message import Message
from edow.transport.contract import TopicSpec
from edow.worker.config import WorkerConfig
from edow.worker.worker import Worker
from edow.workflow.registry import Registry
from tests.unit.worker.memory_transport import Memory

RESULTS = topics.result_topic(0)

FAST = WorkerConfig(
    name="test", tick_seconds=0.005, lease_seconds=0.3, wait_seconds=0.2, blocked_seconds=0.05, cancel_grace_seconds=0.1
)


def rfc3339(seconds_from_now: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds_from_now))


def task_event(task: str, data: object = None, *, step: str = "", attempt: int = 1, **fields: Any) -> wire.TaskEvent:
    """Attempt `attempt` of a step of execution e, run 1, named like the task."""
    key = f"e/1/{step or task}"
    return wire.TaskEvent(
        id=f"{key}/{attempt}",
        source=wire.ORCHESTRATOR,
        type=wire.TASK_TYPE,
        specversion=wire.SPEC_VERSION,
        subject=task,
        time="2026-01-01T00:00:00.000Z",
        workflow="w",
        executionid="e",
        run=1,
        step=step or task,
        attempt=attempt,
        idempotencykey=key,
        replytopic=RESULTS,
        data=msgspec.Raw(msgspec.json.encode({} if data is None else data)),
        **fields,
    )


def told_to_all(kind: str, *keys: str) -> Message:
    """A cancellation of these steps, or a roll call."""
    event = wire.CancelEvent(
        id="c",
        source=wire.ORCHESTRATOR,
        type=kind,
        specversion=wire.SPEC_VERSION,
        time="2026-01-01T00:00:00Z",
        data=list(keys),
    )
    return Message(topics.CONTROL, wire.encode(event))


class Bench:
    """What a test works with."""

    def __init__(self, transport: Memory, worker: Worker) -> None:
        self.transport = transport
        self.worker = worker

    async def send(self, *events: wire.TaskEvent, topic: str = "default") -> None:
        await self.transport.publish(
            [Message(topics.task_topic(topic), wire.encode(event), event.partitionkey) for event in events]
        )

    async def send_bytes(self, body: bytes) -> None:
        await self.transport.publish([Message(topics.task_topic("default"), body)])

    async def cancel(self, *keys: str) -> None:
        await self.transport.publish([told_to_all(wire.CANCEL_TYPE, *keys)])

    def results(self, outcome: str = "") -> list[wire.ResultEvent]:
        found = [wire.decode_result(body) for body in self.transport.published[RESULTS]]
        return [result for result in found if not outcome or result.outcome == outcome]

    async def until_results(self, count: int = 1, outcome: str = "") -> list[wire.ResultEvent]:
        await self.transport.until(lambda: len(self.results(outcome)) >= count)
        return self.results(outcome)

    async def until_acked(self, count: int = 1) -> None:
        await self.transport.until(lambda: len(self.transport.acked) >= count)

    async def until_received(self, count: int) -> None:
        """When the worker has at least so many messages in its hands or behind it."""
        held = self.transport.subscribers
        await self.transport.until(lambda: sum(len(one.held) for one in held) >= count)


def failure(result: wire.ResultEvent) -> dict[str, Any]:
    return defaultdict(lambda: None, msgspec.json.decode(result.data))


def value(result: wire.ResultEvent) -> Any:
    return msgspec.json.decode(result.data)


def registry_of(tasks: Iterable[object]) -> Registry:
    registry = Registry()
    for task in tasks:
        registry.add(task)
    return registry


@asynccontextmanager
async def bench(*tasks: object, config: WorkerConfig = FAST, transport: Memory | None = None) -> AsyncIterator[Bench]:
    """A started worker that knows these tasks; stopped at the end without grace."""
    transport = transport or Memory()
    await transport.ensure([TopicSpec(RESULTS, ("orchestrators",))])
    worker = Worker(transport, registry_of(tasks), config)
    await worker.start()
    try:
        yield Bench(transport, worker)
    finally:
        await worker.stop(0)
        await transport.close()
