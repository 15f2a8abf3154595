"""Calling the roll of the workers."""

from __future__ import annotations

import pytest

from edow.errors import TransportUnavailable
from edow.monitor.roll import Roll
from tests.unit.worker.memory_transport import Memory


async def test_a_call_that_fails_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A subscription that is given up is closed: it would go on to hear, and keep, what nobody reads."""
    monkeypatch.setattr("edow.monitor.roll.WAIT_SECONDS", 0.01)
    transport = Memory()
    roll = Roll(transport, "test")
    assert await roll.call() == []
    (first,) = transport.subscribers

    async def away(limit: int, wait_seconds: float) -> None:
        raise TransportUnavailable("the broker is away")

    first.receive = away  # type: ignore[method-assign, assignment]
    with pytest.raises(TransportUnavailable):
        await roll.call()
    assert await roll.call() == []
    assert [each.closed for each in transport.subscribers] == [True, False]
