"""One trace from the caller to the result: every span has its place, on each transport and through faults."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

import edow
from edow.app import System
from edow.client import Client
from edow.telemetry.spans import Span
from edow.telemetry.traceparent import attempt_span, execution_span, parse, send_span, step_span
from edow.testing.erasing import erase
from tests.conformance.transports import url_of
from tests.integration.system import registry_of, until

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CALLER = parse(TRACE)
SEEN: dict[str, str] = {}
TRIES: Counter[str] = Counter()


@edow.task(retry=edow.Retry(attempts=3, initial=0.01))
async def charge(order: str) -> str:
    TRIES[order] += 1
    SEEN[f"{order}/{TRIES[order]}"] = edow.context().traceparent
    if TRIES[order] == 1:
        raise ConnectionError("bank away")
    return f"paid {order}"


@edow.task(retry=1)
def refund(receipt: str) -> str:
    return f"refunded {receipt}"


@edow.task(retry=1)
async def ship(order: str) -> str:
    raise LookupError("no address")


@edow.workflow
async def pack(order: str) -> str:
    await edow.sleep(0.01)
    return f"packed {order}"


@edow.workflow
async def order(name: str) -> str:
    async with edow.saga() as saga:
        receipt = await charge(name)
        saga.compensate(refund, receipt)
        await pack.with_options(id=f"{name}-pack")(name)
        return await ship(name)


REGISTRY = registry_of(globals())


@asynccontextmanager
async def running(folder: Path, transport: str | None) -> AsyncIterator[tuple[Client, list[Span]]]:
    spans: list[Span] = []
    async with (
        System(f"sqlite:///{folder}/store.db", transport, REGISTRY) as system,
        Client(store=system.store) as client,
    ):
        system.emit = spans.extend
        parts = [system.orchestrator(), system.worker()]
        for part in parts:
            await part.start()
        try:
            yield client, spans
        finally:
            for part in reversed(parts):
                await part.stop()


def named(spans: Sequence[Span]) -> dict[str, Span]:
    """By name, of which none comes twice."""
    assert len({each.id for each in spans}) == len(spans)
    return {each.name: each for each in spans if not each.name.startswith(("send", "receive", "process", "return"))}


@pytest.mark.parametrize("server", ["SQLITE", "POSTGRES", "REDIS", "RABBITMQ", "NATS", "KAFKA", "PUBSUB", "SQS"])
async def test_every_span_of_an_order_has_its_place(tmp_path: Path, server: str) -> None:
    """Client, workflow, steps, sends, queues, attempts with links, compensation, child: one tree under the caller."""
    SEEN.clear()
    TRIES.clear()
    transport = None if server == "SQLITE" else url_of(server, tmp_path)
    try:
        async with running(tmp_path, transport) as (client, spans):
            handle = await client.start_named("order", {"name": "o"}, id="o", traceparent=TRACE)
            with pytest.raises(edow.errors.WorkflowFailed):
                await handle.result()

            async def told() -> bool:
                return {"workflow order", "workflow pack"} <= {each.name for each in spans} and len(
                    [each for each in spans if each.name.startswith("process")]
                ) == 4

            await until(told)
            row = await handle.describe()
    finally:
        if transport is not None:
            await erase(transport, ["default"])
    assert CALLER
    ids = {each.id for each in spans} | {CALLER.span}
    assert [each.name for each in spans if each.parent.span not in ids] == []
    assert {each.parent.trace for each in spans} == {CALLER.trace}
    tree = named(spans)
    assert tree.keys() == {
        "workflow order", "workflow pack", "step charge", "step ship", "compensate refund", "child pack", "sleep",
    }  # fmt: skip
    root = tree["workflow order"]
    assert (root.id, root.parent.span, root.start) == (execution_span("o", 1), CALLER.span, row.started_at)
    assert "LookupError: no address" in root.error
    assert tree["workflow pack"].parent.span == tree["child pack"].id
    assert tree["step charge"].parent.span == root.id == tree["compensate refund"].parent.span
    assert tree["compensate refund"].attributes["edow.compensation"] is True
    assert "no address" in tree["step ship"].error
    assert tree["step charge"].error == ""


@pytest.mark.parametrize("mode", ["one database", "outbox"])
async def test_attempts_follow_their_messages_and_are_linked(tmp_path: Path, mode: str) -> None:
    """A send, its wait in the queue, its attempt, and the way back; a retry is linked to the attempt before it."""
    SEEN.clear()
    TRIES.clear()
    transport = f"sqlite:///{tmp_path}/other.db" if mode == "outbox" else None
    async with running(tmp_path, transport) as (client, spans):
        handle = await client.start_named("order", {"name": "o"}, id="o", traceparent=TRACE)
        with pytest.raises(edow.errors.WorkflowFailed):
            await handle.result()

        async def told() -> bool:
            return "workflow order" in {each.name for each in spans}

        await until(told)
    by_id = {each.id: each for each in spans}
    key = "o/1/charge"
    for number in (1, 2):
        send, attempt = by_id[send_span(key, number)], by_id[attempt_span(key, number)]
        assert (send.name, send.kind, send.parent.span) == (
            "send edow.tasks.default", "producer", step_span("o", 1, "charge"),
        )  # fmt: skip
        assert (attempt.name, attempt.kind, attempt.parent.span) == ("process charge", "consumer", send.id)
        assert attempt.attributes["edow.attempt"] == number
        assert attempt.attributes["messaging.message.id"] == f"{key}/{number}"
        before = () if number == 1 else (attempt_span(key, number - 1),)
        assert send.links == attempt.links == before
        [queue] = [each for each in spans if each.parent.span == send.id and each.name == "receive charge"]
        assert queue.start <= queue.end == attempt.start
        inside = parse(SEEN[f"o/{number}"])
        assert inside
        assert inside.span == attempt.id
    assert by_id[attempt_span(key, 1)].error == "ConnectionError: bank away"
    assert by_id[attempt_span(key, 2)].error == ""
    [back] = [each for each in spans if each.name == "return" and each.parent.span == attempt_span(key, 2)]
    assert back.start <= back.end


async def test_what_is_not_sampled_costs_nothing(tmp_path: Path) -> None:
    """No span; the traceparent still reaches every task."""
    SEEN.clear()
    TRIES.clear()
    unsampled = f"{TRACE[:-2]}00"
    async with running(tmp_path, None) as (client, spans):
        for given in (unsampled, ""):
            TRIES.clear()
            handle = await client.start_named("order", {"name": "o"}, id=f"o{given[:2]}", traceparent=given)
            with pytest.raises(edow.errors.WorkflowFailed):
                await handle.result()
            assert SEEN["o/2"] == given
        await asyncio.sleep(0)
    assert spans == []


async def test_a_result_event_says_in_which_attempt_it_was_made(tmp_path: Path) -> None:
    """So a listener on the broker finds its trace, too."""
    from edow.model import wire
    from edow.worker.attempt import Attempt
    from edow.worker.reports import Reporter

    event = wire.TaskEvent(
        id="o/1/charge/1", source="/x", type=wire.TASK_TYPE, specversion="1.0", subject="charge",
        time="2026-01-01T00:00:00Z", workflow="order", executionid="o", run=1, step="charge", attempt=1,
        idempotencykey="o/1/charge", replytopic="edow.results.0", traceparent=TRACE,
    )  # fmt: skip
    attempt = Attempt(event, REGISTRY.tasks["charge"], 1)
    attempt.result = msgspec.Raw(b'"x"')
    message = Reporter("w", lambda: 1, 10_000).completed(attempt)
    context = parse(wire.decode_result(message.body).traceparent)
    assert context
    assert context.span == attempt_span("o/1/charge", 1)
