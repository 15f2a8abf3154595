"""Failure runs, small: a process or the database goes away while executions are under way. All are `make failures`."""

import pytest

from edow.errors import InvalidInput
from edow.testing.stage import Quiet
from scripts.failures.model import Options
from scripts.failures.run import run
from scripts.servers import postgres, redis
from tests.servers import server_url


def small(transport: str, fault: str) -> Options:
    return Options(transport=transport, fault=fault, executions=300, fan_outs=1, seconds=6.0, patience_seconds=40.0)


@pytest.mark.parametrize("fault", ["kill-orchestrator", "restart-database"])
async def test_nothing_is_lost_and_nothing_applied_twice(fault: str) -> None:
    """All executions end, each effect is there once, and the shards are spread evenly again."""
    for server in (postgres, redis):
        server_url(server.VARIABLE)
    result = await run(small("redis", fault), Quiet())
    assert result.good, result
    assert result.ended == 301
    assert result.effects == 1_000
    assert result.strikes == 1


async def test_a_fault_that_the_place_cannot_have_is_refused() -> None:
    """There is no broker to restart where the database carries the messages; no server is started to find that out."""
    with pytest.raises(InvalidInput, match="no broker of its own"):
        await run(small("postgres", "restart-broker"), Quiet())
