"""The demo, as people run it, on a small folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edow.demo import documents, effects, proof, samples, shop
from edow.demo.orders import Confirmation
from tests.acceptance.commands import edow_command, place_of, processes_of
from tests.conformance.transports import BROKERS

KEYS = [
    "documents",
    "orders",
    "compensated",
    "dead_letters",
    "redriven",
    "workers_killed",
    "orchestrators_killed",
    "recovery_seconds",
    "effects_lost",
    "effects_applied_twice",
    "steps_per_second",
    "latency_ms",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty small files and one that is broken."""
    found = tmp_path / "input"
    found.mkdir()
    for number in range(40):
        (found / f"module_{number}.py").write_text(f"import os, sys\nfrom json import loads\nvalue_{number} = 1\n")
    (found / "broken.py").write_bytes(b"# coding: latin-17\n")
    return found


def test_the_demo_loses_nothing_and_applies_nothing_twice(folder: Path) -> None:
    """With a worker and the orchestrator killed, every effect is there once and every dead letter was redriven."""
    run = edow_command("demo", "--json", "--orders", "40", "--input", str(folder))
    assert run.returncode == 0, run.stderr
    answer = json.loads(run.stdout)
    orders = shop.make_orders(40)
    broken = 1 + len(samples.BROKEN)

    assert list(answer) == KEYS
    assert answer["documents"] == 41 + len(samples.BROKEN)
    assert (answer["orders"], answer["compensated"]) == (40, sum(map(shop.refused, orders)))
    assert (answer["dead_letters"], answer["redriven"]) == (broken, broken)
    assert (answer["workers_killed"], answer["orchestrators_killed"]) == (1, 1)
    assert (answer["effects_lost"], answer["effects_applied_twice"]) == (0, 0)
    assert answer["recovery_seconds"] > 0
    assert answer["steps_per_second"] > 0
    assert 0 < answer["latency_ms"]["p50"] <= answer["latency_ms"]["p95"]


@pytest.mark.timeout(150)
@pytest.mark.parametrize("server", BROKERS)
def test_the_demo_comes_out_clean_on_every_server(folder: Path, server: str) -> None:
    """The same, small, over each transport."""
    for path in sorted(folder.glob("module_*.py"))[10:]:
        path.unlink()
    words = ["--orders", "5", "--input", str(folder), *place_of(server)]
    run = edow_command("demo", "--json", *words, timeout=140)
    assert run.returncode == 0, run.stderr
    answer = json.loads(run.stdout)
    broken = 1 + len(samples.BROKEN)
    assert (answer["documents"], answer["orders"]) == (11 + len(samples.BROKEN), 5)
    assert (answer["dead_letters"], answer["redriven"]) == (broken, broken)
    assert (answer["workers_killed"], answer["orchestrators_killed"]) == (1, 1)
    assert (answer["effects_lost"], answer["effects_applied_twice"]) == (0, 0)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    """The error names it, and nothing is started."""
    run = edow_command("demo", "--input", str(tmp_path / "nowhere"))
    assert run.returncode == 1
    assert "nowhere" in run.stderr
    assert "Traceback" not in run.stderr


def test_an_interrupted_demo_leaves_no_process_behind(tmp_path: Path) -> None:
    """Ctrl-C ends orchestrator and workers before it ends the demo."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "edow", "demo", "--json", "--orders", "100"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stderr is not None
        said = next(line for line in demo.stderr if "started" in line)
        assert len(processes_of(said)) == 3
        demo.send_signal(signal.SIGINT)
        demo.communicate()
    assert demo.returncode == 130
    assert [pid for pid in processes_of(said) if _alive(pid)] == []


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# ── the proof itself ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def applied(tmp_path: Path) -> Iterator[effects.Effects]:
    effects.create(tmp_path / "effects.db", shop.opening_stock())
    opened = effects.Effects(tmp_path / "effects.db")
    yield opened
    opened.close()


def _apply(path: Path, *names: str) -> None:
    database = effects.connect(path)
    database.executemany("INSERT INTO audit VALUES (?)", [(name,) for name in names])
    database.commit()
    database.close()


def test_the_proof_counts_what_is_missing_and_what_is_too_much(applied: effects.Effects, tmp_path: Path) -> None:
    """What is not there is lost; what is there more often than it should be was applied twice."""
    _apply(tmp_path / "effects.db", "report all", "report all", "index a", "index unknown")
    found = proof.prove(applied, ["a", "b"], [], [])
    assert (found.lost, found.twice) == (1, 2)
    assert sorted(found.discrepancies) == [
        "applied too often: index unknown",
        "applied too often: report all",
        "lost: index b",
    ]


def test_the_proof_looks_into_the_books(applied: effects.Effects, tmp_path: Path) -> None:
    """Right effects with wrong money, wrong stock or a wrong answer are no proof."""
    [order] = shop.make_orders(1)
    _apply(tmp_path / "effects.db", "report all", *shop.effects_of(order))
    found = proof.prove(applied, [], [order], [Confirmation(order.id, "refunded")])
    assert (found.lost, found.twice) == (0, 0)
    assert [each.split()[0] for each in found.discrepancies] == ["order-00000", "takings", "stock"]


# ── the document pipeline, as plain functions ─────────────────────────────────────────────────────────────────────────


def test_imports_and_names_are_found() -> None:
    """Top-level modules of absolute imports, and every name that is no keyword."""
    text = "import os.path as p, sys\nfrom json import loads\nfrom . import x\nyield_from = loads\n"
    _, imports, names = documents.analyse(text)
    assert imports == {"os", "sys", "json"}
    assert names == {"os", "path", "p", "sys", "json", "loads", "x", "yield_from"}


def test_a_syntax_error_is_no_reason_to_lose_a_document() -> None:
    """What stands before it is kept."""
    _, imports, _ = documents.analyse("import os\n'''never closed\n")
    assert imports == {"os"}


@pytest.mark.parametrize("name", samples.BROKEN)
def test_broken_samples_fail_strictly_and_can_be_read_leniently(tmp_path: Path, name: str) -> None:
    """Each sample becomes a dead letter, and each is saved by redriving it with errors="replace"."""
    samples.write(tmp_path / "samples")
    path = str(tmp_path / "samples" / name)
    with pytest.raises((SyntaxError, UnicodeDecodeError)):
        documents.read(path, "strict")
    text = documents.read(path, "replace")
    assert "\ufffd" in text or "import" in text
    documents.analyse(text)
