"""Keyed messages: retried in place, so that a key's messages keep their order."""

from __future__ import annotations

import msgspec
import pytest

import edow
from edow.model.policy import RetryPolicy
from edow.worker.floor import backoff
from tests.unit.worker.harness import FAST, bench, failure, rfc3339, task_event, value

POLICY = RetryPolicy(attempts=3, initial=0.001, jitter=False)


def keyed(task: str, data: object, policy: RetryPolicy = POLICY, **fields: object):
    return task_event(task, data, partitionkey="k", retry=msgspec.json.encode(policy).decode(), **fields)


async def test_retried_in_place() -> None:
    """Attempts follow each other here, each is told, and the key's next message waits for the last."""
    calls: list[tuple[str, int]] = []

    @edow.task
    async def flaky(name: str, works_at: int) -> str:
        calls.append((name, edow.context().attempt))
        if edow.context().attempt < works_at:
            raise ValueError("not yet")
        return name

    async with bench(flaky) as b:
        await b.send(keyed("flaky", {"name": "a", "works_at": 3}, step="a"))
        await b.send(keyed("flaky", {"name": "b", "works_at": 1}, step="b"))
        await b.until_acked(2)
        results = b.results()
    assert calls == [("a", 1), ("a", 2), ("a", 3), ("b", 1)]
    assert [(result.step, result.attempt, result.outcome, result.final) for result in results] == [
        ("a", 1, "failed", False),
        ("a", 2, "failed", False),
        ("a", 3, "completed", False),
        ("b", 1, "completed", False),
    ]


async def test_gives_up_in_the_end() -> None:
    """The last failure is final, and frees the key."""

    @edow.task
    def broken() -> None:
        raise ValueError("always")

    @edow.task
    async def fine() -> str:
        return "fine"

    async with bench(broken, fine) as b:
        await b.send(keyed("broken", {}), keyed("fine", {}))
        await b.until_acked(2)
        results = b.results()
    assert [(result.attempt, result.final) for result in results if result.step == "broken"] == [
        (1, False),
        (2, False),
        (3, True),
    ]
    assert results[-1].step == "fine"


async def test_timeouts_are_retried_in_place_too() -> None:
    """A timed out attempt is followed by the next, which gets the details that it reported last."""

    @edow.task
    def stuck_at_first() -> int:
        details = edow.context().heartbeat_details(int)
        if details is None:
            edow.context().heartbeat(17)
            while True:
                pass
        return details

    async with bench(stuck_at_first) as b:
        await b.send(keyed("stuck_at_first", {}, timeoutms=100))
        (result,) = await b.until_results(1, "completed")
        assert [failure(failed)["kind"] for failed in b.results("failed")] == ["start_to_close"]
    assert (result.attempt, value(result)) == (2, 17)


@pytest.mark.parametrize(
    ("policy", "fields"),
    [
        (msgspec.structs.replace(POLICY, give_up_on=("ValueError",)), {}),
        (msgspec.structs.replace(POLICY, initial=60.0), {"deadline": rfc3339(20)}),
    ],
)
async def test_no_further_attempt(policy: RetryPolicy, fields: dict[str, str]) -> None:
    """An exception that is given up on is final at once; so is one after which there is no time for another attempt."""

    @edow.task
    def broken() -> None:
        raise ValueError("always")

    async with bench(broken) as b:
        await b.send(keyed("broken", {}, policy, **fields))
        (result,) = await b.until_results()
        await b.until_acked()
    assert (result.attempt, result.final) == (1, True)


async def test_cancelled_between_attempts() -> None:
    """A step that waits for its next attempt can be cancelled."""

    @edow.task
    def broken() -> None:
        raise ValueError("always")

    async with bench(broken) as b:
        await b.send(keyed("broken", {}, msgspec.structs.replace(POLICY, initial=60.0)))
        await b.until_results(1, "failed")
        await b.cancel("e/1/broken")
        (result,) = await b.until_results(1, "cancelled")
        await b.until_acked()
    assert result.attempt == 2


async def test_stop_between_attempts() -> None:
    """A step that waits for its next attempt is handed back when the worker stops."""

    @edow.task
    def broken() -> None:
        raise ValueError("always")

    async with bench(broken, config=FAST) as b:
        await b.send(keyed("broken", {}, msgspec.structs.replace(POLICY, initial=60.0)))
        await b.until_results(1, "failed")
        await b.worker.stop()
        assert [delivery.key for delivery, _ in b.transport.nacked] == ["k"]
        assert not b.transport.acked


def test_backoff() -> None:
    """Delays grow by the factor up to the maximum, and jitter takes up to half of them away."""
    policy = RetryPolicy(initial=1.0, factor=3.0, maximum=20.0, jitter=False)
    assert [backoff(policy, attempt, 0.5) for attempt in (1, 2, 3, 4, 10_000)] == [1.0, 3.0, 9.0, 20.0, 20.0]
    jittery = RetryPolicy(initial=1.0, factor=3.0, maximum=20.0)
    assert (backoff(jittery, 2, 0.0), backoff(jittery, 2, 1.0)) == (1.5, 3.0)
