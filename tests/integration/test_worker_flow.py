"""What a worker answers, and when it acknowledges."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

import edow
from edow.errors import InvalidInput, PublishFailed, TransportUnavailable
from edow.model import topics, wire
from edow.transport.contract import Delivery
from edow.worker.config import WorkerConfig
from tests.unit.worker.harness import FAST, bench, failure, rfc3339, task_event, value
from tests.unit.worker.memory_transport import FEATURES, Memory


@edow.task
async def double(x: int) -> int:
    return 2 * x


@edow.task
def double_in_thread(x: int) -> int:
    return 2 * x


class Declined(Exception):
    pass


@edow.task(retry=edow.Retry(give_up_on=Declined))
async def fail(how: str) -> None:
    if how == "declined":
        raise Declined("no money")
    if how == "exit":
        raise SystemExit(3)
    raise ValueError(how)


@edow.task
async def unencodable() -> Any:
    return object()


@edow.task
async def large() -> str:
    return "x" * 2_000


@edow.task
async def where_async() -> dict[str, Any]:
    return told()


@edow.task
def where_thread() -> dict[str, Any]:
    return told()


def told() -> dict[str, Any]:
    here = edow.context()
    return {
        "execution": here.execution,
        "step": here.step,
        "attempt": here.attempt,
        "key": here.idempotency_key,
        "deadline": here.deadline,
        "details": here.heartbeat_details(int),
        "worker": here.worker,
        "trace": here.traceparent,
        "thread": threading.current_thread().name,
    }


async def test_completed() -> None:
    """A task's result is published to the event's reply topic with what the orchestrator needs to know it by."""
    async with bench(double) as b:
        await b.send(task_event("double", {"x": 4}, attempt=2, correlationid="c", traceparent="t"))
        (result,) = await b.until_results()
    assert (result.type, result.outcome, value(result)) == (wire.RESULT_TYPE, "completed", 8)
    assert (result.executionid, result.run, result.step, result.attempt) == ("e", 1, "double", 2)
    assert (result.subject, result.idempotencykey) == ("double", "e/1/double")
    assert (result.correlationid, result.traceparent, result.source) == ("c", "t", "/edow/worker/test")
    assert result.startedat <= result.time


async def test_many_at_once() -> None:
    """Thousands of events, far more than fit at once, are each answered once and acknowledged once."""
    async with bench(double, double_in_thread, config=WorkerConfig(concurrency=50, threads=3, prefetch=20)) as b:
        names = ("double", "double_in_thread")
        await b.send(*(task_event(names[i % 2], {"x": i}, step=f"s{i}") for i in range(2_000)))
        await b.until_acked(2_000)
        results = b.results()
    assert sorted(value(result) for result in results) == [2 * i for i in range(2_000)]
    assert len(b.transport.acked) == 2_000


async def test_failed() -> None:
    """An exception is told with its type, message, stack and arguments; the orchestrator may retry it."""
    async with bench(fail) as b:
        await b.send(task_event("fail", {"how": "broken"}))
        (result,) = await b.until_results()
    told = failure(result)
    assert (result.outcome, result.final) == ("failed", False)
    assert (told["type"], told["message"], told["args"]) == ("ValueError", "broken", ["broken"])
    assert "raise ValueError(how)" in told["stack"]


async def test_given_up() -> None:
    """An exception that the task gives up on is final."""
    async with bench(fail) as b:
        await b.send(task_event("fail", {"how": "declined"}))
        (result,) = await b.until_results()
    assert result.final
    assert failure(result)["type"].endswith("Declined")


async def test_system_exit() -> None:
    """A task that tries to end the process fails its own attempt alone."""
    async with bench(fail, double) as b:
        await b.send(task_event("fail", {"how": "exit"}), task_event("double", {"x": 1}))
        results = await b.until_results(2)
    assert {result.outcome for result in results} == {"failed", "completed"}


@pytest.mark.parametrize("data", [{}, {"x": "four"}, {"x": 1, "y": 2}, []])
async def test_arguments_do_not_fit(data: object) -> None:
    """Arguments that do not fit the signature fail the step for good, and say what does not fit."""
    async with bench(double) as b:
        await b.send(task_event("double", data))
        (result,) = await b.until_results()
    assert (result.outcome, result.final) == ("failed", True)
    assert failure(result)["type"] == "edow.errors.SignatureMismatch"


async def test_result_without_json_form() -> None:
    """A result that cannot be JSON fails the step for good."""
    async with bench(unencodable) as b:
        await b.send(task_event("unencodable"))
        (result,) = await b.until_results()
    assert (result.final, failure(result)["type"]) == (True, "edow.errors.NotEncodable")


async def test_result_too_large_for_the_transport() -> None:
    """A result larger than the broker takes becomes a failure that names the sizes."""
    small = msgspec.structs.replace(FEATURES, max_message_bytes=1_500)
    async with bench(large, transport=Memory(small)) as b:
        await b.send(task_event("large"))
        (result,) = await b.until_results()
        await b.until_acked()
    assert (result.outcome, result.final) == ("failed", True)
    assert "1,500" in failure(result)["message"]


@pytest.mark.parametrize("task", [where_async, where_thread])
async def test_context(task: edow.Task[[], dict[str, Any]]) -> None:
    """`edow.context()` tells a task about its attempt, wherever it runs."""
    async with bench(task) as b:
        limits = {"deadline": rfc3339(60), "heartbeatdetails": "7", "traceparent": "t"}
        await b.send(task_event(task.name, attempt=3, **limits))
        (result,) = await b.until_results(outcome="completed")
    here = value(result)
    assert (here["execution"], here["step"], here["attempt"], here["key"]) == ("e", task.name, 3, f"e/1/{task.name}")
    assert (here["details"], here["worker"], here["trace"]) == (7, "test", "t")
    assert here["deadline"].startswith(limits["deadline"][:19])
    assert here["thread"].startswith("edow-task")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\xff\x00", "not a task event"),
        (b"{}", "not a task event"),
        (wire.encode(task_event("double", deadline="tomorrow")), "not a task event"),
        (wire.encode(msgspec.structs.replace(task_event("double"), type="io.edow.task.v9")), "io.edow.task.v9"),
        (wire.encode(msgspec.structs.replace(task_event("double"), specversion="2.0")), "2.0"),
    ],
)
async def test_poison_bytes(body: bytes, reason: str) -> None:
    """Bytes that are no task event go to the dead messages, with the reason, and are acknowledged."""
    async with bench(double) as b:
        await b.send_bytes(body)
        await b.until_acked()
        (dead,) = b.transport.published[topics.DEAD]
    told = msgspec.json.decode(dead)
    assert (base64.b64decode(told["body"]), told["topic"]) == (body, "edow.tasks.default")
    assert reason in told["reason"]


async def test_unknown_task() -> None:
    """A task that this worker does not know is handed back for others, and fails for good when its patience ends."""
    config = msgspec.structs.replace(FAST, unknown_task_seconds=0.001, unknown_task_patience_seconds=0.05)
    async with bench(double, config=config) as b:
        await b.send(task_event("nobody"))
        (result,) = await b.until_results()
        await b.until_acked()
    assert {delay for _, delay in b.transport.nacked} == {0.001}
    assert (result.final, failure(result)["kind"]) == (True, "poison")
    assert "'nobody'" in failure(result)["message"]


async def test_crash_loop() -> None:
    """A message delivered too often is not run again."""
    async with bench(double) as b:
        await b.send(task_event("double", {"x": 1}))
        b.transport.queues["edow.tasks.default"][0].count = 21
        (result,) = await b.until_results()
        await b.until_acked()
    assert (result.final, failure(result)["kind"]) == (True, "poison")
    assert "delivered 21 times" in failure(result)["message"]


@pytest.mark.parametrize("field", ["startby", "deadline"])
async def test_too_late(field: str) -> None:
    """An event that arrives after its limit is not run."""
    async with bench(double) as b:
        await b.send(task_event("double", {"x": 1}, **{field: rfc3339(-5)}))
        (result,) = await b.until_results()
    kind = {"startby": "schedule_to_start", "deadline": "schedule_to_close"}[field]
    assert (result.outcome, failure(result)["kind"]) == ("failed", kind)


async def test_started_is_told() -> None:
    """Where the orchestrator waits for the start, it is told of it, before the result."""
    async with bench(double) as b:
        await b.send(task_event("double", {"x": 1}, startby=rfc3339(60)))
        results = await b.until_results(2)
    assert [result.outcome for result in results] == ["started", "completed"]


@pytest.mark.parametrize(
    "errors",
    [
        [TransportUnavailable("down")] * 2,
        [PublishFailed("the first", (0,))],
        [RuntimeError("a bug in the driver")],
    ],
)
async def test_publish_is_retried(errors: list[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is acknowledged before its answer is published, and no answer is lost while the broker is away."""
    monkeypatch.setattr("edow.worker.publisher.LONGEST_PAUSE_SECONDS", 0.01)
    release = asyncio.Event()

    @edow.task
    async def wait(x: int) -> int:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(release.wait(), here))
        return x

    here = asyncio.get_running_loop()
    async with bench(wait) as b:
        await b.send(*(task_event("wait", {"x": i}, step=f"s{i}") for i in range(3)))
        await b.until_received(3)
        b.transport.fail_publish.extend(errors)
        release.set()
        await b.until_acked(3)
        assert not b.transport.fail_publish
        answers = [value(result) for result in b.results()]
    assert sorted(answers) == [0, 1, 2]


async def test_unknown_reply_topic(caplog: pytest.LogCaptureFixture) -> None:
    """An answer that the transport refuses is dropped, loudly, and does not hold up the others."""
    async with bench(double) as b:
        stray = msgspec.structs.replace(task_event("double", {"x": 1}, step="a"), replytopic="nowhere")
        await b.send(stray, task_event("double", {"x": 2}, step="b"))
        await b.until_acked(2)
        results = b.results()
    assert [value(result) for result in results] == [4]
    assert "topic nowhere" in caplog.text


async def test_delivered_twice() -> None:
    """A message that is delivered again while it runs is not run twice, and both deliveries are acknowledged."""
    calls: list[int] = []
    release = threading.Event()

    @edow.task
    def slow() -> None:
        calls.append(1)
        release.wait()

    async with bench(slow) as b:
        await b.send(task_event("slow"))
        await b.until_received(1)
        await b.send(task_event("slow"))
        await b.until_received(2)
        release.set()
        await b.until_acked(2)
        assert len(b.results()) == 1
    assert calls == [1]


async def test_leases_are_renewed() -> None:
    """What outlasts its lease is extended; a lost delivery is not acknowledged, but its result is told."""
    release = threading.Event()

    @edow.task
    def slow() -> str:
        release.wait()
        return "done"

    async with bench(slow) as b:
        await b.send(task_event("slow"))
        await b.until_received(1)
        await b.transport.until(lambda: b.transport.extended >= 3)
        (subscriber,) = [one for one in b.transport.subscribers if one.held]
        (held,) = b.worker._floor.held
        subscriber.lose = list(subscriber.held.values())
        await b.transport.until(lambda: not held.deliveries)
        release.set()
        (result,) = await b.until_results()
        await b.worker._publisher.flushed()
        assert not b.transport.acked
    assert value(result) == "done"


async def test_what_is_acknowledged_while_leases_are_renewed_is_not_called_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither what is being renewed, nor what would have been next."""
    release = threading.Event()

    @edow.task(topic="a")
    async def first() -> None:
        await asyncio.to_thread(release.wait)

    @edow.task(topic="b")
    def second() -> None:
        release.wait()

    async with bench(first, second, config=msgspec.structs.replace(FAST, lease_seconds=3600.0)) as b:
        await b.send(task_event("first"), topic="a")
        await b.send(task_event("second"), topic="b")
        await b.until_received(2)
        renewed: list[str] = []

        async def extend(deliveries: Sequence[Delivery]) -> list[Delivery]:
            renewed.extend(delivery.topic for delivery in deliveries)
            release.set()
            await b.until_acked(2)
            return list(deliveries)

        for lane in b.worker._lanes:
            lane.subscriber.extend = extend  # type: ignore[method-assign]
        await b.worker.renew_once(0.0)
        assert len(renewed) == 1
    assert "was lost" not in caplog.text


async def test_topics_of_the_registry() -> None:
    """By default a worker reads the topics of its tasks."""

    @edow.task(topic="slow lane")
    def there() -> str:
        return "there"

    async with bench(double, there) as b:
        await b.send(task_event("there"), topic="slow lane")
        (result,) = await b.until_results()
    assert value(result) == "there"


async def test_config_is_checked() -> None:
    """A limit that makes no sense is refused by name."""
    with pytest.raises(InvalidInput, match="concurrency is 0"):
        WorkerConfig(concurrency=0)
