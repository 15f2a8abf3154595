"""Failure runs, small: a process or a server goes away while executions are under way."""

import os
from pathlib import Path

import pytest

from edow.errors import InvalidInput
from edow.testing.stage import Quiet
from scripts.failures import ledger
from scripts.failures.command import main
from scripts.failures.faults import FAULTS
from scripts.failures.model import Options, Result
from scripts.failures.run import run
from scripts.servers import postgres, redis
from tests.servers import server_url

pytestmark = pytest.mark.timeout(240)


def small(store: str, transport: str, fault: str) -> Options:
    return Options(
        store=store, transport=transport, fault=fault, executions=100, fan_outs=1, seconds=3.0, patience_seconds=150.0
    )


def clean(result: Result) -> bool:
    return result.good and result.ended == 101 and result.effects == 400 and result.faults >= 1


async def test_a_killed_worker_loses_nothing() -> None:
    """All executions end, and each effect is applied once."""
    result = await run(small("sqlite", "sqlite", "kill-worker"), Quiet())
    assert clean(result), result


@pytest.mark.parametrize("fault", ["kill-orchestrator", "restart-broker", "restart-database"])
async def test_servers_may_restart(fault: str) -> None:
    """On PostgreSQL and Redis too, whichever of them or of the processes goes away."""
    for server in (postgres, redis):
        server_url(server.VARIABLE)
    result = await run(small("postgres", "redis", fault), Quiet())
    assert clean(result), result


async def test_a_fault_that_the_place_cannot_have_is_refused() -> None:
    """There is no broker to restart where there is none."""
    with pytest.raises(InvalidInput, match="no broker of its own"):
        await run(small("sqlite", "sqlite", "restart-broker"), Quiet())


def test_unknown_names_are_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    """They are named, with those that there are."""
    assert main(["--fault", "flood"]) == 2
    said = capsys.readouterr().err
    assert "'flood'" in said
    assert all(name in said for name in FAULTS)


def test_a_result_with_anything_missing_is_not_good() -> None:
    """One effect lost, one applied twice, one execution open or wrongly ended: each alone is a failure."""
    fine = {
        "store": "s",
        "transport": "t",
        "fault": "f",
        "executions": 1,
        "ended": 1,
        "wrong_ends": 0,
        "signals": 2,
        "effects": 3,
        "lost": 0,
        "twice": 0,
        "faults": 1,
        "under_way": 1,
        "recovery_seconds": 0.0,
        "longest_wait_seconds": 0.0,
        "shards": [],
        "findings": [],
    }
    assert Result(**fine).good  # type: ignore[arg-type]
    for wrong in ({"ended": 0}, {"wrong_ends": 1}, {"lost": 1}, {"twice": 1}):
        assert not Result(**{**fine, **wrong}).good  # type: ignore[arg-type]


def test_the_ledger_starts_empty(tmp_path: Path) -> None:
    """What is counted in a run belongs to that run."""
    ledger.create(tmp_path / "ledger.db")
    assert not ledger.read(tmp_path / "ledger.db")
    assert ledger.LEDGER not in os.environ
