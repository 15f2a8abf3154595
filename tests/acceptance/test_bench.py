"""The benchmark: that it measures what it says, with small numbers. Its figures are nobody's truth here."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from edow.app import System
from edow.bench.bare import Bare, Bytes, Template, Traffic, bare_topics
from edow.bench.ceiling import ceiling_in_one_process
from edow.bench.latency import latency_of, steps_of
from edow.bench.model import Place
from edow.bench.onlooker import Collector, Page, Unseen
from edow.bench.scenarios.history import step_cost
from edow.model import history, wire
from edow.model.history import AnyEvent
from tests.acceptance.commands import edow_command

KEYS = {
    "scenario",
    "store",
    "transport",
    "steps_per_second",
    "workflows_per_second",
    "ceiling_steps_per_second",
    "ratio",
    "latency_ms",
    "peak_rss_mb",
    "fsync",
}


def bench(*arguments: str) -> dict[str, Any]:
    run = edow_command("bench", "--json", *arguments)
    assert run.returncode == 0, run.stderr
    answer: dict[str, Any] = json.loads(run.stdout)
    assert answer.keys() >= KEYS
    assert answer["scenario"] == arguments[0]
    assert answer["fsync"] is True
    return answer


@pytest.mark.parametrize(
    "arguments",
    [
        ("steps", "--workflows", "600", "--rounds", "1"),
        ("latency", "--workflows", "20"),
        ("latency", "--workflows", "20", "--processes"),
        ("fanout", "--workflows", "300", "--rounds", "1"),
    ],
)
def test_scenarios_with_a_ceiling(arguments: tuple[str, ...]) -> None:
    """They do their work and say how much of the bare store's speed that is."""
    answer = bench(*arguments)
    assert answer["ratio"] == pytest.approx(answer["steps_per_second"] / answer["ceiling_steps_per_second"], abs=0.01)
    latency = answer["latency_ms"]
    assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"]
    assert answer["peak_rss_mb"] > 0


def test_history_tells_the_cost_of_a_step_at_each_length() -> None:
    """As far as the history got."""
    answer = bench("history", "--workflows", "700")
    assert set(answer["details"]) == {"step_ms_at_10", "step_ms_at_1000"}


def test_sleepers_cost_disk_and_a_start() -> None:
    """Each has bytes of its own, and a fresh orchestrator serves over them."""
    answer = bench("sleepers", "--workflows", "500")
    assert answer["details"]["executions"] == 500
    assert answer["details"]["disk_bytes_each"] > 100
    assert answer["details"]["start_up_seconds"] > 0


def test_recovery_is_measured_for_both() -> None:
    """After each kill something goes on."""
    answer = bench("recovery", "--workflows", "200")
    assert set(answer["details"]) == {"orchestrator_seconds", "worker_seconds"}


def test_being_watched_is_compared_with_not() -> None:
    """With spans that a collector got, a console and a scraper that got their pages."""
    answer = bench("watched", "--workflows", "1000", "--rounds", "1")
    assert answer["ratio"] == pytest.approx(answer["steps_per_second"] / answer["ceiling_steps_per_second"], abs=0.01)
    assert answer["details"]["spans"] > 0
    assert answer["peak_rss_mb"] > 0


async def test_what_cannot_be_seen_is_no_measurement() -> None:
    """A page that answers with an error, or not at all."""
    with Collector() as collector:
        for url in (collector.url, "http://127.0.0.1:9"):
            page = Page(url, 60.0)
            with pytest.raises(Unseen, match=re.escape(url)):
                await page.keep_looking()


def test_an_unknown_scenario_is_refused() -> None:
    """With the names of those that exist."""
    run = edow_command("bench", "spets")
    assert run.returncode == 1
    assert "spets" in run.stderr
    assert "fanout" in run.stderr


# ── the ceiling ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_templates_write_what_the_codec_reads() -> None:
    """The bare messages are real ones, whose number can be found without decoding."""
    made = Bytes()
    task, result = made.task.write(42), made.result.write(42)
    assert wire.decode_task(task).executionid == wire.decode_result(result).executionid == "three_steps-000000042"
    assert wire.decode_task(task).id == "three_steps-000000042/1/nothing/1"
    assert (made.task.read(task), made.result.read(result)) == (42, 42)


def test_a_template_keeps_percent_signs() -> None:
    """Whatever else is in the message stays as it is."""
    template = Template(b'{"id":"#########","note":"100 %","again":"#########"}')
    assert template.write(7) == b'{"id":"000000007","note":"100 %","again":"000000007"}'


async def test_the_ceiling_stores_real_executions(tmp_path: Path) -> None:
    """Every bare execution ends completed, with as many events as a real one, and no message is left."""
    import asyncio

    from edow.bench.bare import answer

    async with System(f"sqlite:///{tmp_path / 'edow.db'}") as system:
        answering = asyncio.create_task(answer(system, 10))
        await Bare(system, Traffic(executions=25, steps=3, batch=10, in_flight=20)).run()
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)
        counts = await system.store.counts(0)
        assert counts.by_status == {"completed": 25}
        assert counts.inbox == 0
        segments = await system.store.history_get("three_steps-000000007", 1)
        events = [event for segment in segments for event in history.decoder.decode(segment)]
        assert len(events) == 1 + 3 * 2 + 1
        stats = await system.transport.describe([topic.name for topic in bare_topics()])
        assert [(group.waiting, group.in_flight) for topic in stats for group in topic.groups] == [(0, 0), (0, 0)]


async def test_a_ceiling_is_a_speed(tmp_path: Path) -> None:
    """Steps per second, measured on a file of its own that is gone afterwards."""
    place = Place(tmp_path, "sqlite:///unused.db", None)
    assert await ceiling_in_one_process(place, Traffic(executions=5, steps=1, batch=1, in_flight=1)) > 0
    assert list(tmp_path.iterdir()) == []


# ── figures ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def step(name: str, begin: int, end: int) -> list[AnyEvent]:
    return [
        history.TaskScheduled(at=begin, step=name, task="t", args=b"{}"),  # type: ignore[arg-type]
        history.TaskCompleted(at=end, step=name, attempt=1, result=b"1"),  # type: ignore[arg-type]
    ]


def test_latency_is_from_schedule_to_answer() -> None:
    """Of steps that overlap, too; what was never answered does not count."""
    events = [*step("a", 1_000, 3_000), *step("b", 2_000, 8_000), step("c", 3_000, 0)[0]]
    steps = steps_of([events])
    assert sorted(steps.milliseconds()) == [2.0, 6.0]
    assert steps.per_second == pytest.approx(2 / 0.007, rel=0.001)


def test_percentiles_by_nearest_rank() -> None:
    """Of a hundred values the 50th, 95th and 99th from below."""
    latency = latency_of(float(value) for value in range(1, 101))
    assert (latency.p50, latency.p95, latency.p99) == (50.0, 95.0, 99.0)


def test_step_cost_is_told_only_where_history_reaches() -> None:
    """The median distance of answers from that length on; None beyond the end."""
    events = [event for number in range(300) for event in step(f"s{number}", number * 1000, number * 1000 + 500)]
    assert step_cost(events, 10) == 1.0
    assert step_cost(events, 1_000) is None
