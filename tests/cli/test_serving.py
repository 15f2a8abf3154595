"""Processes that serve: orchestrator, worker, dev. Real processes and real signals."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator

import pytest

from edow.cli.serving import STOP_SIGNALS, serve_until_stopped


class Process:
    """`edow ...` in the background; its stderr can be waited on."""

    def __init__(self, *words: str) -> None:
        command = [sys.executable, "-m", "edow", *words]
        self.popen = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.said: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stderr is not None
        for line in self.popen.stderr:
            with self._news:
                self.said.append(line)
                self._news.notify_all()

    def wait_for(self, text: str, times: int = 1) -> None:
        with self._news:
            found = self._news.wait_for(lambda: sum(text in line for line in self.said) >= times, 20)
        assert found, (text, self.said)

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.popen.send_signal(number)
        return self.end()

    def end(self) -> int:
        code = self.popen.wait(20)
        assert self.popen.stdout is not None
        assert self.popen.stdout.read() == ""
        return code

    def close(self) -> None:
        """Whatever happened; a stream is closed only after whoever reads it has come to its end."""
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait()
        self._reader.join()
        for stream in (self.popen.stdout, self.popen.stderr):
            assert stream is not None
            stream.close()


@pytest.fixture
def serve() -> Iterator[object]:
    started: list[Process] = []

    def begin(*words: str) -> Process:
        started.append(Process(*words))
        return started[-1]

    yield begin
    for process in started:
        process.close()


def test_an_orchestrator_and_a_worker_share_the_work(run, shop, serve):
    """Two processes over one file run what a third one started, and stop gracefully on SIGTERM and Ctrl-C."""
    orchestrator, worker = serve("orchestrator", shop), serve("worker", shop)
    orchestrator.wait_for("ready")
    worker.wait_for("ready")
    result = run("start", "fulfil", "--input", '{"order": {"number": 7}}', "--wait", "--timeout", "20")
    assert json.loads(result.out) == {"receipt": "paid 7", "gift": False}
    findings = {each["what"]: each for each in json.loads(run("doctor", "--json").out)["findings"]}
    assert findings["orchestrators"]["level"] == "ok"
    assert worker.stop(signal.SIGTERM) == 0
    assert orchestrator.stop(signal.SIGINT) == 0


def test_processes_tell_their_metrics(shop, serve):
    """`--metrics-port` serves what each process has counted, on this machine alone; port 0 finds a free one."""
    for role, metric in (("orchestrator", "edow_shards"), ("worker", "edow_worker_running 0.0")):
        process = serve(role, shop, "--metrics-port", "0")
        process.wait_for("ready")
        [where] = [line.split()[-1] for line in process.said if line.startswith("metrics: ")]
        assert where.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(where, timeout=20) as page:
            assert metric in page.read().decode()
        assert process.stop() == 0


def test_a_missing_module_ends_the_process(serve):
    """A worker for a module that does not exist ends with one error line and code 1."""
    worker = serve("worker", "nowhere.py")
    assert worker.end() == 1
    assert [line for line in worker.said if line.startswith("error: ")]


SLOW = """
import time

import edow


@edow.task(timeout=None)
def slow() -> None:
    print("task runs", flush=True, file=__import__("sys").stderr)
    time.sleep(600)


@edow.workflow
async def wait() -> None:
    await slow()
"""


def test_a_second_signal_stops_at_once(run, place, serve):
    """A worker that is still busy when it is told to stop again does not wait any longer."""
    (place / "slow.py").write_text(SLOW)
    process = serve("serve", "slow.py")
    process.wait_for("ready")
    run("start", "wait")
    process.wait_for("task runs")
    process.popen.send_signal(signal.SIGTERM)
    process.wait_for("stopping")
    process.popen.send_signal(signal.SIGTERM)
    assert process.end() == 128 + signal.SIGTERM


def test_dev_starts_again_after_a_change(run, shop, place, serve):
    """`edow dev` runs the changed code after a file was saved, and takes its child along when it ends."""
    process = serve("dev", shop)
    process.wait_for("ready")
    path = place / shop
    path.write_text(path.read_text().replace("paid {number}", "paid {number} at last"))
    os.utime(path, ns=(1, 1))
    process.wait_for("changed, starting again")
    process.wait_for("ready (", times=2)
    result = run("start", "fulfil", "--input", '{"order": {"number": 7}}', "--wait", "--timeout", "20")
    assert json.loads(result.out)["receipt"] == "paid 7 at last"
    assert process.stop(signal.SIGINT) == 130


def test_dev_hands_back_what_runs_when_it_starts_again(run, place, serve):
    """Its child takes leave instead of being killed, which would be an incident; the task runs again at once."""
    path = place / "slow.py"
    path.write_text(SLOW)
    process = serve("dev", "slow.py")
    process.wait_for("ready (")
    run("start", "wait")
    process.wait_for("task runs")
    os.utime(path, ns=(1, 1))
    process.wait_for("task runs", times=2)
    assert not [line for line in process.said if "killed" in line]
    assert process.stop(signal.SIGTERM) == 128 + signal.SIGTERM
    assert json.loads(run("incidents", "--json").out) == []


def test_dev_survives_a_mistake(shop, place, serve):
    """Code that cannot be imported is told, and the next change is tried."""
    text = (place / shop).read_text()
    (place / shop).write_text("1 / 0")
    process = serve("dev", shop)
    process.wait_for("ZeroDivisionError")
    (place / shop).write_text(text)
    os.utime(place / shop, ns=(1, 1))
    process.wait_for("ready")
    assert process.stop(signal.SIGTERM) == 128 + signal.SIGTERM


ASKING = """
import sys

import edow


@edow.task
async def ask() -> None:
    print("asked", flush=True, file=sys.stderr)


@edow.workflow
async def question() -> int:
    await ask()
    return await edow.wait_signal("answer", int)
"""


def test_an_interrupted_run_goes_on(run, place, serve):
    """Ctrl-C ends `edow run` with code 130 and says how to go on; the same id again goes on from there."""
    (place / "asking.py").write_text(ASKING)
    process = serve("run", "asking.py:question", "--id", "q")
    process.wait_for("asked")
    assert process.stop(signal.SIGINT) == 130
    assert any("execution q is safe" in line for line in process.said)
    assert not any("Traceback" in line for line in process.said)
    run("signal", "q", "answer", "42")
    result = run("run", "asking.py:question", "--id", "q")
    assert (result.code, result.out) == (0, "42\n")
    assert "asked" not in result.err


def test_a_child_does_not_outlive_a_killed_dev(shop, serve):
    """`kill -9` of `edow dev` ends the child that it had started, so that nothing serves unseen."""
    process = serve("dev", shop)
    process.wait_for("ready (")
    process.popen.kill()
    process.wait_for("stopping")


def test_a_worker_needs_no_store(run, shop, serve, tmp_path):
    """With a transport of its own URL it neither opens nor makes a store, and does the work."""
    transport = f"sqlite:///{tmp_path / 'transport.db'}"
    orchestrator = serve("orchestrator", shop, "--transport", transport)
    orchestrator.wait_for("ready")
    worker = serve("worker", shop, "--transport", transport, "--store", "sqlite:////nowhere/at/all.db")
    worker.wait_for("ready")
    result = run("start", "fulfil", "--input", '{"order": {"number": 7}}', "--wait", "--timeout", "20")
    assert json.loads(result.out) == {"receipt": "paid 7", "gift": False}
    assert (worker.stop(), orchestrator.stop()) == (0, 0)


def test_the_api_is_served_until_stopped(run, place, serve):
    """`edow api` says where it listens, serves what the command line has started, and ends with code 0."""
    run("start", "patient", "--id", "p")
    process = serve("api", "--port", "0")
    process.wait_for("ready (")
    [url] = [line.rpartition(" ")[2].strip() for line in process.said if "listening on" in line]
    with urllib.request.urlopen(f"{url}/api/v1/executions/p", timeout=20) as answer:
        assert json.loads(answer.read())["status"] == "running"
    with urllib.request.urlopen(f"{url}/health/live", timeout=20) as answer:
        assert json.loads(answer.read()) == {"live": True}
    assert process.stop() == 0


class Unreachable:
    """A place whose broker does not answer."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def __aenter__(self) -> None:
        self.asked.set()
        await asyncio.Event().wait()

    async def __aexit__(self, *_: object) -> None: ...


async def test_a_signal_is_heard_while_a_process_connects(capsys):
    """It is not waited for what does not answer."""
    place = Unreachable()
    serving = asyncio.create_task(serve_until_stopped(place, lambda _: [], "worker"))  # type: ignore[type-var]
    try:
        await place.asked.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await serving
    finally:
        for number in STOP_SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(number)
    assert "stopped before it was ready" in capsys.readouterr().err
