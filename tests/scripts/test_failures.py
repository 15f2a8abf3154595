"""The figures, the page and the options of failure runs; a small real one is in tests/acceptance."""

from pathlib import Path

import msgspec
import pytest

from edow.model.execution import Execution, Status, shard_of
from edow.model.raw import OptionalRaw
from scripts.failures import judge, page
from scripts.failures.command import main
from scripts.failures.faults import FAULTS
from scripts.failures.judge import Strike
from scripts.failures.ledger import Effect
from scripts.failures.model import Options, Result

FINE = Result(
    transport="redis",
    fault="kill-worker",
    executions=1,
    under_way=1,
    ended=1,
    wrong_ends=0,
    signals=2,
    effects=3,
    lost=0,
    twice=0,
    strikes=1,
    pause_seconds=0.5,
    recovery_seconds=0.4,
    wait_seconds=0.5,
    spread_seconds=0.0,
    shards=[4, 4, 4],
    peak_mb=70,
    grown_mb=1,
    findings=[],
)
OPTIONS = Options(transport="redis", fault="kill-worker", executions=1, fan_outs=1, width=2)
NAMES = {"course-000000:0", "course-000000:1", "course-000000:2", "fan-000000:0", "fan-000000:1"}


def row(status: Status, result: OptionalRaw = None) -> Execution:
    return Execution(id="course-000000", workflow="course", shard=0, status=status, result=result)


@pytest.mark.parametrize(
    "wrong", [{"ended": 0}, {"wrong_ends": 1}, {"lost": 1}, {"twice": 1}, {"findings": ["shards are not spread"]}]
)
def test_anything_missing_is_not_good(wrong: dict[str, int]) -> None:
    """One effect lost, one applied twice, one execution open or wrongly ended, one finding: each alone is a failure."""
    assert FINE.good
    assert not msgspec.structs.replace(FINE, **wrong).good


def test_every_step_of_every_execution_is_expected() -> None:
    """Three of a course, and the width of a fan-out."""
    assert judge.expected_effects(OPTIONS) == NAMES


def test_effects_are_lost_or_too_many() -> None:
    """Lost is what nobody applied; too many what was applied twice, and what nobody asked for."""
    effects = {name: Effect(1, 0.0) for name in NAMES - {"fan-000000:1"}}
    effects["course-000000:2"] = Effect(2, 0.0)
    effects["course-000000:3"] = Effect(1, 0.0)
    assert judge.lost(NAMES, effects) == ["fan-000000:1"]
    assert judge.applied_too_often(NAMES, effects) == ["course-000000:2", "course-000000:3"]
    assert len(judge.findings([], NAMES, effects)) == 3


def test_an_execution_has_to_end_well() -> None:
    """With the answer that its signals make."""
    right, wrong = msgspec.Raw(b"3"), msgspec.Raw(b"4")
    assert not judge.wrong_ends([row(Status.COMPLETED, right), row(Status.RUNNING)])
    assert len(judge.wrong_ends([row(Status.COMPLETED, wrong), row(Status.FAILED)])) == 2
    assert judge.findings([row(Status.PARKED)], (), {}) == ["course-000000 is parked"]


def test_a_pause_is_one_shards_own() -> None:
    """What others do meanwhile does not shorten it, and what was before the fault does not count."""
    here, there = (
        "course-000000",
        next(n for n in map(str, range(99)) if shard_of(n, 2) != shard_of("course-000000", 2)),
    )
    times = {here: [1.0, 8.0, 10.0, 14.0, 15.0], there: [float(second) for second in range(16)]}
    effects = {f"{name}:{number}": Effect(1, at) for name in times for number, at in enumerate(times[name])}
    assert judge.pauses(effects, [Strike(9.0, 12.0)], 2) == (4.0, 2.0)
    assert judge.pauses(effects, [Strike(9.0, 9.0)], 2) == (4.0, 4.0)
    assert judge.pauses(effects, [], 2) == (0.0, 0.0)


def test_a_wait_ends_with_the_last_effect() -> None:
    """From the moment at which the signals were sent."""
    effects = {"a:0": Effect(1, 5.0), "a:1": Effect(1, 9.0), "b:0": Effect(1, 99.0)}
    assert judge.longest_wait(effects, {"a": 2.0}) == 7.0


def test_a_run_replaces_its_own_line(tmp_path: Path) -> None:
    """The others stay, and one that did not come out clean is seen."""
    file = tmp_path / "failures.md"
    page.write(file, [FINE])
    page.write(file, [msgspec.structs.replace(FINE, transport="kafka", lost=7)])
    page.write(file, [msgspec.structs.replace(FINE, effects=30_000)])
    lines = [line for line in file.read_text("utf-8").splitlines() if line.startswith(("| kill", "| **kill"))]
    assert len(lines) == 2
    assert "30,000" in lines[0]
    assert "**7**" in lines[1]


def test_unknown_names_are_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    """They are named, with those that there are."""
    assert main(["--fault", "flood"]) == 2
    said = capsys.readouterr().err
    assert "'flood'" in said
    assert all(name in said for name in FAULTS)
